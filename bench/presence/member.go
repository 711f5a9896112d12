package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/atrium-go/atrium/bench/process"
)

// crowd is what all members have in common.
type crowd struct {
	server     *process.Server
	compressed bool
	parsed     sync.Map // from the hash of a payload to its *news: most members get the same
	failed     chan error
	staying    int          // how many members stay
	messages   atomic.Int64 // to the members that stay
	bytes      atomic.Int64 // likewise, as they are on the wire, with their headers
}

// A set of keys is kept as the number and the sum of their hashes: 5,000 members have 5,000 lists.
type set struct {
	n   int
	sum uint64
}

var seed = maphash.MakeSeed()

func (s *set) add(keys ...string) {
	for _, key := range keys {
		s.n++
		s.sum += maphash.String(seed, key)
	}
}

func (s *set) remove(keys ...string) {
	for _, key := range keys {
		s.n--
		s.sum -= maphash.String(seed, key)
	}
}

// news is what a message says.
type news struct {
	payload  []byte // the message
	version  uint64 // 0: it has none
	whole    bool   // it says who is there
	later    bool   // it is a part of that behind the first
	increase set    // of those who are there
}

// A member is one connection of a user.
type member struct {
	*crowd
	key   string
	stays bool // its messages are counted
	nc    net.Conn

	mu      sync.Mutex // guards:
	list    set
	version uint64
}

// enter connects a member. What it is sent is read in a goroutine, until it leaves.
func (c *crowd) enter(key string, stays bool) *member {
	nc, err := c.server.Dial(net.Dialer{}, false)
	check(err)
	request := process.Handshakes["200 bytes"]
	if c.compressed {
		request = process.Handshakes["a browser's"]
	}
	_, err = nc.Write([]byte(strings.Replace(request, "/hub", "/hub?key="+key, 1)))
	check(err)
	in := bufio.NewReaderSize(nc, 2<<10)
	response, err := http.ReadResponse(in, nil)
	check(err)
	if response.StatusCode != http.StatusSwitchingProtocols {
		check(fmt.Errorf("handshake: %s", response.Status))
	}
	m := &member{crowd: c, key: key, stays: stays, nc: nc}
	_, _, err = m.next(in) // the connect message
	check(err)
	go m.read(in)
	return m
}

func (m *member) leave() { m.nc.Close() }

func (m *member) read(in *bufio.Reader) {
	for {
		payload, compressed, err := m.next(in)
		if err != nil {
			return // it has left, or the server has ended
		}
		if err := m.take(payload, compressed); err != nil {
			select {
			case m.failed <- fmt.Errorf("%s: %w", m.key, err):
			default:
			}
			return
		}
	}
}

// next returns the next message, which is valid until the one after it is read.
func (m *member) next(in *bufio.Reader) (payload []byte, compressed bool, err error) {
	b, err := in.Peek(2)
	h, size := process.ParseHeader(b)
	for err == nil && size == 0 { // of 4 or 10 bytes, before a payload that is longer
		b, err = in.Peek(10)
		h, size = process.ParseHeader(b)
	}
	if err != nil {
		return nil, false, err
	}
	in.Discard(size)
	if m.stays {
		m.messages.Add(1)
		m.bytes.Add(int64(size + h.Length))
	}
	if h.Length <= in.Size() {
		payload, err = in.Peek(h.Length)
		in.Discard(h.Length)
	} else {
		payload = make([]byte, h.Length)
		_, err = io.ReadFull(in, payload)
	}
	return payload, h.Compressed, err
}

// take applies a message to the list.
func (m *member) take(payload []byte, compressed bool) error {
	n, err := m.parse(payload, compressed)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case n.whole:
		m.list = set{}
	case n.later && n.version == m.version: // a part
	case n.version != 0 && n.version != m.version+1:
		return fmt.Errorf("version %d follows %d", n.version, m.version)
	}
	m.version = n.version
	m.list.n += n.increase.n
	m.list.sum += n.increase.sum
	return nil
}

// parse returns what a message says. What others have got before is known.
func (c *crowd) parse(payload []byte, compressed bool) (*news, error) {
	hash := maphash.Bytes(seed, payload)
	if known, ok := c.parsed.Load(hash); ok && bytes.Equal(known.(*news).payload, payload) {
		return known.(*news), nil
	}
	n := &news{payload: bytes.Clone(payload)}
	text := payload
	if compressed {
		var inflated bytes.Buffer
		if err := process.Inflate(&inflated, payload); err != nil {
			return nil, err
		}
		text = inflated.Bytes()
	}
	if err := n.parse(text); err != nil {
		return nil, fmt.Errorf("%w in %.200q", err, text)
	}
	c.parsed.Store(hash, n)
	return n, nil
}

func (n *news) parse(text []byte) error {
	var m struct {
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	switch m.Event {
	case "presence":
		var e struct {
			Version             uint64
			Part                int
			State, Joined, Left json.RawMessage
		}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return err
		}
		n.version, n.whole, n.later = e.Version, e.State != nil && e.Part == 0, e.Part > 0
		var gone []string
		if e.Left != nil {
			if err := json.Unmarshal(e.Left, &gone); err != nil {
				return err
			}
		}
		n.increase.remove(gone...)
		n.increase.add(keysOf(e.State)...)
		n.increase.add(keysOf(e.Joined)...)
	case "list":
		n.whole = true
		n.increase.add(keysOf(m.Data)...)
	case "joined":
		n.increase.add(keysOf(m.Data)...)
	case "left":
		var key string
		if err := json.Unmarshal(m.Data, &key); err != nil {
			return err
		}
		n.increase.remove(key)
	default:
		return fmt.Errorf("an unknown event")
	}
	return nil
}

// keysOf returns the keys of entries, whose form is known: reading lists of thousands must not take
// the time that the server needs.
func keysOf(entries []byte) (keys []string) {
	for rest := entries; ; {
		_, after, ok := bytes.Cut(rest, []byte(`"key":"`))
		if !ok {
			return keys
		}
		var key []byte
		key, rest, _ = bytes.Cut(after, []byte(`"`))
		keys = append(keys, string(key))
	}
}
