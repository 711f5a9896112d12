module github.com/atrium-go/atrium/examples/cluster

go 1.26.0

replace (
	github.com/atrium-go/atrium => ../../
	github.com/atrium-go/atrium/natsbus => ../../natsbus
	github.com/atrium-go/atrium/redisbus => ../../redisbus
)

require (
	github.com/atrium-go/atrium v0.0.0-00010101000000-000000000000
	github.com/atrium-go/atrium/natsbus v0.0.0-00010101000000-000000000000
	github.com/atrium-go/atrium/redisbus v0.0.0-00010101000000-000000000000
	github.com/nats-io/nats.go v1.55.0
	github.com/redis/go-redis/v9 v9.23.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
