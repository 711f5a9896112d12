// Package natsbus connects hubs over NATS:
//
//	conn, err := nats.Connect("nats://nats.example.com:4222",
//		nats.MaxReconnects(-1), // NATS gives up after 60 attempts otherwise
//	)
//	if err != nil {
//		return err
//	}
//	defer conn.Close() // after the hub's Shutdown
//
//	h := atrium.New(atrium.Options{Bus: natsbus.New(conn)})
//
// It uses core NATS: subjects, not streams.
//
// # Delivery
//
// Messages are delivered at most once, in order. The client reconnects by itself, with every
// subscription. It keeps what is published meanwhile, up to nats.ReconnectBufSize (8 MiB), and
// sends it then. With nats.ReconnectBufSize(-1), Publish fails instead.
//
// A connection that breaks silently, for example because a firewall drops it, is noticed by
// nats.PingInterval: after 4 to 6 minutes with the default of 2 minutes, after 4 to 6 seconds with
// 2 seconds.
//
// In a cluster of servers, the servers that a hub is not connected to learn of its subscriptions a
// moment after Subscribe has returned. NATS does not say when. The hub misses what is published to
// them before that.
//
// # Permissions
//
// The client needs permission to publish and to subscribe to everything under the [Prefix]. A
// server reports a refusal a moment later, and the client passes it to nats.ErrorHandler only;
// Subscribe and [Bus.Flush] check the last error of the connection, and return one that matches
// fs.ErrPermission. If permissions are revoked
// later, the hub notices that its own messages do not come back.
//
// # Limits
//
// A message has at most nats.Conn.MaxPayload bytes, which is 1 MiB unless the server is configured
// otherwise.
package natsbus
