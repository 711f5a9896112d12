package bustest

import (
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy between a hub and its broker, to take one from the other.
type Proxy struct {
	target   string
	listener net.Listener

	mu      sync.Mutex    // guards:
	open    chan struct{} // closed unless what comes is held
	cut     bool
	ended   bool
	conns   map[net.Conn]struct{} // both ends of each
	forgets int                   // how often Forget was called
}

// NewProxy starts one that leads to an address. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: l, open: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(p.open)
	go p.accept()
	t.Cleanup(p.end)
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Hold keeps back all bytes, as a network that loses every packet does: connections stay, also new ones, and nothing passes.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

// Cut resets all connections, and new ones at once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.reset()
}

// Heal ends what Hold or Cut has begun. What was held passes, late and complete, as TCP has it.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	p.pass()
}

// Forget ends what Hold has begun, but for those connections that were there: they stay, and nothing passes them any more, as
// if a firewall had forgotten them.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgets++
	p.pass()
}

func (p *Proxy) pass() {
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

func (p *Proxy) reset() {
	for conn := range p.conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

func (p *Proxy) end() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.pass()
	p.reset()
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.join(near)
	}
}

// join joins a connection to one of its own to the target.
func (p *Proxy) join(near net.Conn) {
	far, err := net.Dial("tcp4", p.target)
	if err != nil {
		near.Close()
		return
	}
	p.mu.Lock()
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	if p.cut || p.ended {
		p.reset()
	}
	forgets := p.forgets
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.forward(near, far, forgets) })
	both.Go(func() { p.forward(far, near, forgets) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, near)
	delete(p.conns, far)
}

// forward forwards until one of the two ends, and ends the other. Its connection is of the time after so many calls of Forget.
func (p *Proxy) forward(from, to net.Conn, forgets int) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		open := p.open
		p.mu.Unlock()
		<-open
		if err != nil {
			return
		}
		p.mu.Lock()
		forgotten := forgets != p.forgets
		p.mu.Unlock()
		if forgotten {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
