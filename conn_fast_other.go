//go:build !unix

package atrium

import (
	"net"
	"time"
)

// fastIO is for systems whose sockets Go can wait for without reading. There is none here: all
// connections take the portable path.
type fastIO struct{ waited, last bool }

func (*fastIO) open(net.Conn) bool { return false }

func (*fastIO) write([]byte, bool) (int, error) { panic("atrium: no fast path") }

func (*fastIO) wait([]byte, int) (int, *[]byte, error) { panic("atrium: no fast path") }

func limitSilence(net.Conn, time.Duration) {}
