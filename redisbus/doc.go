// Package redisbus joins hubs over the pub/sub of Redis or Valkey:
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{
//		Addrs: []string{"redis.example.com:6379"}, // several are a cluster; with MasterName, the sentinels of one
//	})
//	defer client.Close() // after the hub's Shutdown
//
//	h := atrium.New(atrium.Options{Bus: redisbus.New(client)})
//
// Any server that speaks the protocol will do, alone, behind Sentinel or as a cluster. In a cluster the messages go by sharded
// pub/sub, which Redis has from version 7 on and Valkey has had always; see [Unsharded] for an older one.
//
// # Delivery
//
// At most once, in order. Redis keeps no message: what is published while a hub's connection is broken does not reach that
// hub. The connection is made again by itself, with every subscription, and tried about twice a second. If the broker does
// not answer any more, that is noticed after 3 seconds. A message is never sent twice, whatever the client's MaxRetries.
//
// Publish does not wait for the broker's answer. When a message could not be sent, the next Publish says so, and [Bus.Dropped]
// counts it. [Bus.Flush] waits for the answers to all of them, which is what the hub's Shutdown does last.
//
// # Permissions
//
// With access rules, the client's user must be allowed the channels under the [Prefix] ("&atrium:*"), in a cluster with sharded
// pub/sub those that begin with the prefix in braces and a number ("&{atrium:*"). What the server refuses is an error of
// Subscribe at once, and of the next Publish or Flush.
//
// # Connections
//
// Beside those of the client's pool that publish, a Bus has one connection for all its subscriptions, while there are any; in
// a cluster one for each of the up to 16 slots over which topics are spread.
//
// # Cost
//
// What is published while the broker answers is sent together. That way one goroutine publishes 13 times as many messages as
// with a round trip for each: 610,000 a second of 200 bytes, not 46,000, with the server on the same busy machine of two
// processors (BenchmarkPublish, median of five). With a network between them the difference is larger.
package redisbus
