package atrium

import (
	"maps"
	"slices"
)

// What the application is told of a presence: the functions of OnPresence and, for the presence of
// users, those of OnUserOnline and OnUserOffline.

// presenceReports are those to the application.
type presenceReports struct {
	news     presenceNews
	reported bool // it has been told of somebody
	reports  bool // reportAll runs
}

// presenceNews is what is to be reported to the application. What it has not been told yet is
// taken together, so that a slow function finds no queue.
type presenceNews struct{ joined, left map[string]Present }

// add adds a change. Who has left before it was reported that they joined was never there.
func (n *presenceNews) add(c *presenceChange) {
	if n.joined == nil {
		n.joined, n.left = make(map[string]Present), make(map[string]Present)
	}
	for _, p := range c.left {
		if _, unreported := n.joined[p.Key]; unreported {
			delete(n.joined, p.Key)
		} else {
			n.left[p.Key] = p
		}
	}
	for _, p := range c.joined {
		if _, unreported := n.left[p.Key]; unreported {
			delete(n.left, p.Key)
		} else {
			n.joined[p.Key] = p
		}
	}
}

// take returns the news by key, and forgets them.
func (n *presenceNews) take() (joined, left []Present) {
	joined, left = slices.Collect(maps.Values(n.joined)), slices.Collect(maps.Values(n.left))
	*n = presenceNews{}
	sortPresents(joined)
	sortPresents(left)
	return joined, left
}

// report has the application told what has changed; the first time, all.
func (p *presenceRoom) report(change *presenceChange) {
	switch functions := p.ns.registry.current.Load(); {
	case p.hidden == nil && len(functions.onPresence) == 0, p.hidden != nil && len(functions.onUserOnline)+len(functions.onUserOffline) == 0:
		return
	case !p.reported:
		p.reported = true
		change = &presenceChange{joined: p.state.told}
	}
	if change.isEmpty() {
		return
	}
	p.news.add(change)
	if !p.reports {
		p.reports = true
		go p.reportAll()
	}
}

// reportAll calls the functions of OnPresence while there is news. It locks.
func (p *presenceRoom) reportAll() {
	for {
		p.mu.Lock()
		joined, left := p.news.take()
		if len(joined) == 0 && len(left) == 0 {
			p.reports = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		if p.hidden != nil {
			p.hidden(joined, left)
			continue
		}
		for _, f := range p.ns.registry.current.Load().onPresence {
			guardApart(func() { f(p.name, joined, left) }, func(what ...any) {
				p.ns.hub.log.error("atrium: OnPresence panicked", append(what, clientText("room", p.name))...)
			})
		}
	}
}
