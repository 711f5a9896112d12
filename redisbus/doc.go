// Package redisbus connects hubs over the pub/sub of Redis or Valkey:
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{
//		Addrs: []string{"redis.example.com:6379"}, // several are a cluster; with MasterName, the sentinels of one
//	})
//	defer client.Close() // after the hub's Shutdown
//
//	h := atrium.New(atrium.Options{Bus: redisbus.New(client)})
//
// It works with any server that speaks the protocol, alone, behind Sentinel or as a cluster. In a
// cluster it uses sharded pub/sub, which needs Redis 7 or any Valkey; see [Unsharded] for older
// servers.
//
// # Delivery
//
// Messages are delivered at most once, in order. Redis keeps no messages: a hub misses what is
// published while its connection is broken. The Bus reconnects by itself with every subscription,
// about twice a second until it succeeds. It notices after 3 seconds that the broker does not
// respond. It never sends a message twice, whatever the client's MaxRetries.
//
// Publish does not wait for the response of the broker. If a message could not be sent, the next
// Publish returns the error, and [Bus.Dropped] counts the message. [Bus.Flush] waits for the
// responses to all messages; Hub.Shutdown calls it last.
//
// # Permissions
//
// With access rules, the client's user needs access to the channels under the [Prefix]
// ("&atrium:*"), or in a cluster with sharded pub/sub to those that begin with a brace and the
// prefix ("&{atrium:*"). Subscribe fails at once if the server refuses a channel; for Publish, the
// next Publish or Flush fails. The error matches fs.ErrPermission.
//
// # Connections
//
// Besides those of the client's pool, which publish, a Bus has one connection for all its
// subscriptions while there are any. In a cluster it has one for each of up to 16 slots over which
// topics are spread.
//
// # Cost
//
// Messages that are published while the broker responds are sent together. So one goroutine
// publishes 13 times as many messages as with a round trip for each: 610,000 per second of 200
// bytes instead of 46,000, with the server on the same machine with two busy processors
// (BenchmarkPublish, median of five). Over a network the difference is larger.
package redisbus
