package atrium

// presenceNotice is what the members of a room are to be told: all to those that are fresh, and the
// change to the others.
type presenceNotice struct {
	changes []presenceEvent
	whole   []presenceEvent // none if nobody is fresh
	anew    bool            // all are fresh
	nobody  bool            // nobody was ever there: only who has asked is told
}

// notice returns what the members are to be told of a change. With anew all are fresh.
func (p *presenceRoom) notice(change *presenceChange, count int, anew bool) (n presenceNotice) {
	changed := !change.isEmpty() || p.counted && count != p.toldN
	n.anew = anew || changed && p.version == 0
	n.nobody = p.version == 0 && !n.anew
	p.toldN = count
	switch {
	case n.anew:
		p.version++
	case changed:
		n.changes = p.changes(change, count)
	}
	if n.anew || len(p.fresh) > 0 {
		n.whole = p.all(count)
	}
	return n
}

// changes returns the events of a change: each has a version. Nobody is told more than
// maxPresencePart at a time.
func (p *presenceRoom) changes(change *presenceChange, count int) (list []presenceEvent) {
	add := func(e presenceEvent) {
		p.version++
		e.Room, e.Version = p.name, p.version
		list = append(list, e)
	}
	if p.counted {
		add(presenceEvent{Count: &count})
		return list
	}
	joined, changed := presenceParts(change.joined), presenceParts(change.changed)
	left := make([]string, len(change.left))
	for i := range change.left {
		left[i] = change.left[i].Key
	}
	for i := range max(len(joined), len(changed)) {
		e := presenceEvent{Left: left}
		left = nil
		if i < len(joined) {
			e.Joined = joined[i]
		}
		if i < len(changed) {
			e.Changed = changed[i]
		}
		add(e)
	}
	return list
}

// all returns the events that say all.
func (p *presenceRoom) all(count int) (list []presenceEvent) {
	if p.counted {
		return []presenceEvent{{Room: p.name, Version: p.version, Count: &count}}
	}
	parts := presenceParts(p.state.told)
	for i, part := range parts {
		e := presenceEvent{Room: p.name, Version: p.version, State: part}
		if len(parts) > 1 {
			e.Part, e.Parts = i, len(parts)
		}
		list = append(list, e)
	}
	return list
}

// tell sends the members what a notice says. It locks.
func (p *presenceRoom) tell(n *presenceNotice) {
	if len(n.changes) == 0 && len(n.whole) == 0 {
		return
	}
	d := acquireDelivery(p.ns.hub)
	changes, whole := p.encode(n.changes), p.encode(n.whole)
	p.deliver(n, changes, whole, d)
	for _, m := range append(changes, whole...) {
		m.release()
	}
	d.finish(p.ns.hub)
}

// deliver queues the messages of a notice for the members. It locks.
func (p *presenceRoom) deliver(n *presenceNotice, changes, whole []*message, d *delivery) {
	p.mu.Lock()
	r := p.ns.room(p.name)
	if r == nil {
		p.mu.Unlock()
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	fresh := p.takeFresh(n, r)
	p.mu.Unlock() // whoever joins is fresh and then a member: nobody is, while the room is locked
	for _, s := range r.members {
		messages := changes
		if getsAll, isFresh := fresh[s]; n.anew || getsAll {
			messages = whole
		} else if isFresh {
			messages = nil
		}
		for _, m := range messages {
			d.push(s, m)
		}
	}
}

// takeFresh returns which members are fresh, and whether they get all by the notice. These do not
// count as fresh any more. The locks of p and the room are held.
func (p *presenceRoom) takeFresh(n *presenceNotice, r *room) map[*Socket]bool {
	fresh := make(map[*Socket]bool, len(p.fresh))
	for s, asked := range p.fresh {
		if r.find(s) < 0 {
			continue // it is about to join
		}
		fresh[s] = len(n.whole) > 0 && (asked || !n.nobody)
		if len(n.whole) > 0 {
			delete(p.fresh, s)
		}
	}
	return fresh
}

// encode makes messages of events, and compresses them for the clients that they may be for.
func (p *presenceRoom) encode(events []presenceEvent) []*message {
	list := make([]*message, len(events))
	for i := range events {
		m := acquireMessage(p.ns.name, eventData{name: presenceEventName, args: args{json: events[i].append(nil), n: 1}, ackID: noID})
		Target{ns: p.ns}.deflate(m)
		list[i] = m
	}
	return list
}
