package atrium

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
)

// modelClient says what a Client sends and when, by an obvious list.
type modelClient struct {
	t         *testing.T
	random    *rand.Rand
	c         *Client
	f         *fakeServer
	s         *client // nil: not connected
	retries   int
	room      int // for what waits, in bytes
	n, ids    int
	waiting   []string // to be sent, in order
	sent      []*modelCall
	queued    []*modelCall
	connected int
}

type modelCall struct {
	id, n  int
	tries  int // how often it may still be sent again
	cancel context.CancelFunc
	result chan error
}

func (k *modelCall) text() string { return fmt.Sprintf(`42%d["call",%d]`, k.id, k.n) }

// parcelSize is what the parcel of a text takes.
func parcelSize(text string) int { return (&parcel{text: []byte(text)}).size() }

func (m *modelClient) used() (used int) {
	for _, text := range m.waiting {
		used += parcelSize(text)
	}
	return used
}

// step does one thing to the client or to its server, and checks what becomes of it.
func (m *modelClient) step() {
	switch op := m.random.IntN(12); {
	case op < 4:
		m.n++
		text := fmt.Sprintf(`42["event",%d]`, m.n)
		err := m.c.Emit("event", m.n)
		if full := m.s == nil && m.used()+parcelSize(text) > m.room; full != (err != nil) {
			m.t.Fatalf("Emit: %v, with %d bytes waiting", err, m.used())
		} else if !full {
			m.expect(text)
		}
	case op < 7:
		m.n++
		ctx, cancel := context.WithCancel(context.Background())
		k := &modelCall{id: m.ids, n: m.n, tries: m.retries, cancel: cancel, result: make(chan error, 1)}
		m.ids++
		full := m.s == nil && m.used()+parcelSize(k.text()) > m.room
		go func() {
			got, err := Call[int](ctx, m.c, "call", k.n)
			if err == nil && got != k.n {
				err = fmt.Errorf("the answer to %d is %d", k.n, got)
			}
			k.result <- err
		}()
		synctest.Wait()
		switch {
		case full:
			m.wantResult(k, ErrBufferFull)
		case m.s != nil:
			m.sent = append(m.sent, k)
			m.expect(k.text())
		default:
			m.queued = append(m.queued, k)
			m.expect(k.text())
		}
	case op < 8 && m.s != nil && len(m.sent) > 0:
		k := m.take(&m.sent)
		m.s.send(fmt.Sprintf("43%d[%d]", k.id, k.n))
		m.wantResult(k, nil)
	case op < 9 && len(m.sent)+len(m.queued) > 0:
		from := &m.sent
		if len(m.sent) == 0 || len(m.queued) > 0 && m.random.IntN(2) == 0 {
			from = &m.queued
		}
		k := m.take(from)
		k.cancel()
		m.wantResult(k, context.Canceled)
		m.waiting = slices.DeleteFunc(m.waiting, func(text string) bool { return text == k.text() })
	case op < 10 && m.s != nil:
		m.s.CloseNow()
		synctest.Wait()
		m.s = nil
		var again []string
		var kept []*modelCall
		for _, k := range m.sent {
			if k.tries--; k.tries < 0 {
				m.wantResult(k, ErrDisconnected)
				continue
			}
			kept = append(kept, k)
			again = append(again, k.text())
		}
		m.sent = kept
		m.waiting = append(again, m.waiting...)
	case op >= 10 && m.s == nil:
		m.connect()
	}
}

// connect lets the client in, and expects what has waited.
func (m *modelClient) connect() {
	m.s = m.f.welcome(m.t)
	for _, text := range m.waiting {
		m.s.want(text)
	}
	m.waiting = nil
	m.sent, m.queued = append(m.sent, m.queued...), nil
	m.connected++
	synctest.Wait()
}

// expect expects a text to be sent, now or later.
func (m *modelClient) expect(text string) {
	if m.s != nil {
		m.s.want(text)
	} else {
		m.waiting = append(m.waiting, text)
	}
}

func (m *modelClient) take(from *[]*modelCall) *modelCall {
	i := m.random.IntN(len(*from))
	k := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return k
}

func (m *modelClient) wantResult(k *modelCall, want error) {
	m.t.Helper()
	err := within(m.t, k.result, "a call's result")
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		m.t.Fatalf("call %d: got %v, want %v", k.id, err, want)
	}
	k.cancel()
}

// What waits for a connection, what is sent again and what fails, against a model, through random
// histories of emitting, calling, answering, cancelling, cutting and coming back.
func TestClientModel(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			m := &modelClient{t: t, random: rand.New(rand.NewPCG(seed, 78)), f: newFakeServer(t, overPipe), retries: int(seed % 4), room: 2000}
			m.c = m.f.client(t, ClientOptions{CallRetries: m.retries, MaxOfflineBytes: m.room})
			go m.c.Connect(context.Background())
			for range 400 {
				m.step()
			}
			if m.s == nil {
				m.connect()
			}
			for len(m.sent) > 0 {
				k := m.take(&m.sent)
				m.s.send(fmt.Sprintf("43%d[%d]", k.id, k.n))
				m.wantResult(k, nil)
			}
			m.c.mu.Lock()
			if q := m.c.queue; q.calls != nil || q.parcels != nil || q.size != 0 {
				t.Errorf("left behind: %+v", q)
			}
			m.c.mu.Unlock()
			if m.connected < 10 {
				t.Errorf("connected %d times only", m.connected)
			}
			m.c.Close()
		})
	}
}
