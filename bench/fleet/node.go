package fleet

import (
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// A Node is a place that clients connect to, over TCP or TLS, where one server follows another.
type Node struct {
	Addr, TLSAddr string

	fleet   *Fleet
	options ServerOptions
	sockets []*os.File

	replacing sync.Mutex // held while one server follows another

	mu     sync.Mutex // guards, also while a server is asked:
	server *process.Server
}

func (f *Fleet) newNode(o ServerOptions) *Node {
	n := &Node{fleet: f, options: o}
	var tcp, secure *os.File
	tcp, n.Addr = process.Listen()
	secure, n.TLSAddr = process.Listen()
	n.sockets = []*os.File{tcp, secure}
	n.server = n.start()
	n.server.Ask("serve")
	return n
}

// start starts a server, which does not serve yet.
func (n *Node) start() *process.Server {
	o := n.options
	o.Emitter = int(n.fleet.emitters.Add(1))
	b, err := json.Marshal(o)
	check(err)
	return process.StartOn(n.sockets, "fleet", string(b))
}

// Replace starts the next server and lets the one before drain, beside each other, and returns when
// that has ended. The next one serves as soon as the other has begun: a client that came to it
// before, with the socket that it has at the other, would begin anew.
func (n *Node) Replace() (begun time.Time, d Drained) {
	n.replacing.Lock()
	defer n.replacing.Unlock()
	next := n.start()
	begun = time.Now()
	n.mu.Lock()
	last := n.server
	last.Ask("drain")
	next.Ask("serve")
	n.server = next
	n.mu.Unlock()
	check(json.Unmarshal([]byte(last.Ask("end")), &d))
	last.Stop()
	return begun, d
}

// ask asks the server that is there.
func (n *Node) ask(question string, answer any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	check(json.Unmarshal([]byte(n.server.Ask(question)), answer))
}

// Figures returns those of the server.
func (n *Node) Figures() (f Figures) {
	n.ask("figures", &f)
	return f
}

// Accepts returns when the server has accepted connections.
func (n *Node) Accepts() (at []time.Time) {
	n.ask("accepts", &at)
	return at
}

// Quiet has the server emit nothing more, and returns when that holds.
func (n *Node) Quiet() {
	var nothing any
	n.ask("quiet", &nothing)
}

// Stop ends the server, and closes the sockets.
func (n *Node) Stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server.Stop()
	for _, s := range n.sockets {
		check(s.Close())
	}
}
