package bustest

import (
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy between a hub and its broker that can interrupt the traffic.
type Proxy struct {
	target   string
	listener net.Listener

	mu      sync.Mutex    // guards:
	open    chan struct{} // closed unless bytes are held
	cut     bool
	ended   bool
	conns   map[net.Conn]struct{} // both ends of each
	forgets int                   // how often Forget was called
}

// NewProxy starts a proxy for the target address. It ends with the test.
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

// Addr returns the address of the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Hold holds all bytes back, like a network that loses every packet: connections stay open, new
// ones are accepted, and nothing passes.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

// Cut resets all connections, and new ones when they are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.reset()
}

// Heal ends the effect of Hold or Cut. Bytes that were held pass, late and complete, as over TCP.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	p.pass()
}

// Forget ends the effect of Hold for new connections. Existing ones stay open, and no bytes pass
// any more, as if a firewall had forgotten them.
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

// join connects near to the target.
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

// forward copies until one of the two connections ends, and closes both. forgets is p.forgets as of
// when they were opened.
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
