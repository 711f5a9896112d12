package guide

import (
	"net"
	"os"
)

// [listener]

// listener returns the socket that systemd has opened for us, or opens one.
func listener(addr string) (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "" {
		return net.Listen("tcp", addr)
	}
	file := os.NewFile(3, "listener") // the first that it hands over
	defer file.Close()                // FileListener duplicates it
	return net.FileListener(file)
}

// [end]
