// Package natsbus joins hubs over NATS:
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
// It uses core NATS: subjects, no streams.
//
// # Delivery
//
// At most once, in order. The connection is made again by the client, with every subscription. What is published meanwhile the
// client keeps, up to nats.ReconnectBufSize (8 MiB), and sends then; with nats.ReconnectBufSize(-1), Publish fails instead.
//
// A connection that breaks without a sign, as when a firewall forgets it, is noticed by nats.PingInterval: with its 2 minutes
// after 4 to 6, with 2 seconds after 4 to 6.
//
// In a cluster of several servers, those that a hub is not connected to learn of its subscriptions a moment after Subscribe
// has returned. NATS does not say when. What is published to them in that moment does not arrive.
//
// # Permissions
//
// The client must be allowed to publish and to subscribe to everything under the [Prefix]. A server tells of what it refuses
// a moment later, and the client the application's nats.ErrorHandler alone; Subscribe and [Bus.Flush] look whether it has. When
// permissions are taken away later, the hub notices that it does not hear itself.
//
// # Limits
//
// A message has nats.Conn.MaxPayload bytes at most, which a server sets to 1 MiB unless told otherwise.
package natsbus
