package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"
)

// broker is a redis-server that is killed now and then.
type broker struct {
	addr, directory string
	process         *exec.Cmd
}

// startBroker returns nil if there is no redis-server.
func startBroker() (*broker, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, nil
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &broker{addr: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	if b.directory, err = os.MkdirTemp("", "redis"); err != nil {
		return nil, err
	}
	return b, b.start()
}

// start starts it where it was, and waits until it serves.
func (b *broker) start() error {
	_, port, err := net.SplitHostPort(b.addr)
	if err != nil {
		return err
	}
	b.process = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", b.directory, "--save", "")
	if err := b.process.Start(); err != nil {
		return err
	}
	probe := redis.NewClient(&redis.Options{Addr: b.addr, MaxRetries: -1})
	defer probe.Close()
	for end := time.Now().Add(20 * time.Second); probe.Ping(context.Background()).Err() != nil; {
		if time.Now().After(end) {
			return errors.New("redis-server does not start")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func (b *broker) kill() {
	b.process.Process.Kill()
	b.process.Wait()
}

func (b *broker) stop() error {
	b.kill()
	return os.RemoveAll(b.directory)
}
