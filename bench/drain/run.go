package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/atrium-go/atrium/bench/fleet"
)

type options struct {
	clients, restarts int
	drain, wide       time.Duration
	seed              uint64
	quick             bool
}

// kinds are those of the clients, in equal parts.
var kinds = []fleet.Kind{{Protocol: fleet.Plain}, {Protocol: fleet.SocketIO}, {Protocol: fleet.Polling}, {Protocol: fleet.Go}}

const (
	// members is about how many there are in a room: each client is in two to four.
	members = 100
	// every is the time between two events to a room: a client gets three or so a second.
	every = time.Second
	// pause is the time between two calls of a client.
	pause = 3 * time.Second
	// patience is how long what must come may take.
	patience = time.Minute
	// mostBusy is how many times as many connections as the mean the busiest second may have.
	mostBusy = 2
	// rest is the time after a restart, before the next.
	rest = 3 * time.Second
)

func (o options) run(w io.Writer) error {
	f, err := fleet.New(1, fleet.ServerOptions{
		Rooms: min(max(10, 3*o.clients/members), fleet.MaxRooms), Every: every, Drain: o.drain,
		Away: time.Minute, PingInterval: 25 * time.Second, Ping: 20 * time.Second,
	})
	if err != nil {
		return err
	}
	clients := make([]*fleet.Client, o.clients)
	for i := range clients {
		clients[i] = f.Add(f.Nodes[0], kinds[i%len(kinds)], pause, o.seed)
		if i%100 == 99 {
			if err := f.Wait(50 * time.Millisecond); err != nil { // connecting all at once is not what is measured
				return err
			}
		}
	}
	if err := f.Until("all are connected", patience, func() bool { return int(f.Connected.Load()) == o.clients }); err != nil {
		return err
	}
	if err := f.Wait(2 * rest); err != nil {
		return err
	}
	for i := range o.restarts {
		if err := o.restart(w, f, i+1); err != nil {
			return fmt.Errorf("restart %d: %w", i+1, err)
		}
	}
	if err := f.Settle(clients, patience); err != nil {
		return err
	}
	for _, c := range clients {
		c.Stop()
	}
	fmt.Fprintf(w, "%d events were told, none lost, doubled or out of order. %d calls were acknowledged, none lost; %d were sent again,\n"+
		"%d of those were known by their key. %d connections continued their socket, and %d, of plain clients, began anew.\n",
		f.Told.Load(), f.Calls.Load(), f.Again.Load(), f.Known.Load(), f.Recovered.Load(), f.Anew.Load())
	return f.Stop()
}

// restart has the server replaced, and waits until all clients are back.
func (o options) restart(w io.Writer, f *fleet.Fleet, number int) error {
	f.Forget()
	back, refused := f.CameBack.Load(), f.Refused.Load()
	done := make(chan fleet.Drained, 1)
	var begun time.Time
	go func() {
		at, d := f.Nodes[0].Replace()
		begun = at
		done <- d
	}()
	var d fleet.Drained
	err := f.Until("the server has ended", o.drain+patience, func() bool {
		select {
		case d = <-done:
			return true
		default:
			return false
		}
	})
	if err == nil {
		err = f.Until("all are back", patience, func() bool {
			return int(f.Connected.Load()) == o.clients && int(f.CameBack.Load()-back) >= o.clients
		})
	}
	if err != nil {
		return fmt.Errorf("%w; %d are connected, %d came back; %v", err, f.Connected.Load(), f.CameBack.Load()-back, f.HTTP())
	}
	if err := f.Wait(rest); err != nil {
		return err
	}
	fmt.Fprintf(w, "Restart %d: the server let its clients go within %.2f s", number, d.Took.Seconds())
	if d.Error != "" {
		fmt.Fprintf(w, ", and said: %s", d.Error)
	}
	fmt.Fprintln(w, ".")
	h := newHistogram(f.Nodes[0].Accepts(), begun, o.wide)
	h.print(w)
	away := f.Away()
	fmt.Fprintf(w, "Clients were away for %s (median), %s (99th percentile), %s (longest). %d attempts to connect failed.\n",
		seconds(away[len(away)/2]), seconds(away[len(away)*99/100]), seconds(away[len(away)-1]), f.Refused.Load()-refused)
	responses := f.HTTP()
	fmt.Fprintf(w, "HTTP errors on the way: %d.\n", sum(responses))
	for _, what := range slices.Sorted(maps.Keys(responses)) {
		fmt.Fprintf(w, "    %6d %s\n", responses[what], what)
	}
	fmt.Fprintln(w)
	switch {
	case d.Left.Sockets > 0:
		return errors.New("sockets are left in a hub that was shut down")
	case o.quick:
	case len(responses) > 0:
		return errors.New("clients got HTTP errors")
	case h.ratio() > mostBusy:
		return fmt.Errorf("the busiest second has %.2f times as many connections as the mean", h.ratio())
	}
	return nil
}

func sum(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// histogram is when connections were accepted.
type histogram struct {
	bars    []int // each so wide
	wide    time.Duration
	mean    float64 // connections a second, while nearly all of them came
	busiest int     // in a second
	all     int
}

// newHistogram counts what came since a moment. The mean is that of the time between the first and
// the last, but for one in two hundred at either end.
func newHistogram(at []time.Time, since time.Time, wide time.Duration) histogram {
	h := histogram{wide: wide}
	slices.SortFunc(at, time.Time.Compare)
	at = slices.DeleteFunc(at, func(t time.Time) bool { return t.Before(since) })
	h.all = len(at)
	if h.all == 0 {
		return h
	}
	first := 0
	for last, t := range at {
		bar := int(t.Sub(since) / wide)
		for len(h.bars) <= bar {
			h.bars = append(h.bars, 0)
		}
		h.bars[bar]++
		for t.Sub(at[first]) >= time.Second {
			first++
		}
		h.busiest = max(h.busiest, last-first+1)
	}
	middle := at[len(at)/200 : len(at)-len(at)/200]
	h.mean = float64(len(middle)) / max(middle[len(middle)-1].Sub(middle[0]), time.Second).Seconds()
	return h
}

// ratio returns how much busier the busiest second was than the mean.
func (h histogram) ratio() float64 { return float64(h.busiest) / h.mean }

func (h histogram) print(w io.Writer) {
	if h.all == 0 {
		fmt.Fprintln(w, "The next one accepted no connections.")
		return
	}
	fmt.Fprintf(w, "The next one accepted %d connections, %.0f a second, and %d in the busiest second: %.2f times the mean.\n\n", h.all, h.mean, h.busiest, h.ratio())
	most := slices.Max(h.bars)
	for i, n := range h.bars {
		fmt.Fprintf(w, "    %5.1f s %5d a second %s\n", (time.Duration(i) * h.wide).Seconds(), int(float64(n)/h.wide.Seconds()), strings.Repeat("#", (n*50+most-1)/most))
	}
	fmt.Fprintln(w)
}
