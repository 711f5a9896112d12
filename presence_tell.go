package atrium

import "time"

// presenceAnswers is the least time between two answers to members of a room that ask who is there,
// who are answered together: to ask all the time costs the hub little.
const presenceAnswers = time.Second

// presenceFresh are the members that are to get all.
type presenceFresh struct {
	entered  map[*Socket]struct{} // who has just joined
	asked    map[*Socket]struct{}
	answerAt int64 // nanotime from which those who have asked may be answered
}

func newPresenceFresh() presenceFresh {
	return presenceFresh{entered: make(map[*Socket]struct{}), asked: make(map[*Socket]struct{}), answerAt: nanotime()}
}

func (f *presenceFresh) remove(s *Socket) {
	delete(f.entered, s)
	delete(f.asked, s)
}

// presenceNotice is what the members of a room are to be told: all to those that are fresh, and the
// change to the others.
type presenceNotice struct {
	changes []presenceEvent
	whole   []presenceEvent // none if nobody is to get it
	anew    bool            // everybody is to get it
	untold  bool            // nobody was ever there: who has entered is told nothing
	answers bool            // who has asked is told
}

// notice returns what the members are to be told of a change. With anew everybody is to get all.
func (p *presenceRoom) notice(change *presenceChange, count int, now int64, anew bool) (n presenceNotice) {
	changed := !change.isEmpty() || p.counted && count != p.toldN
	n.anew = anew || changed && p.version == 0
	n.untold = p.version == 0 && !n.anew
	p.toldN = count
	switch {
	case n.anew:
		p.version++
	case changed:
		n.changes = p.changes(change, count)
	}
	if len(p.fresh.asked) > 0 && !n.anew {
		if n.answers = now >= p.fresh.answerAt; n.answers {
			p.fresh.answerAt = now + int64(presenceAnswers)
		} else {
			p.wake(p.fresh.answerAt)
		}
	}
	if n.anew || n.answers || len(p.fresh.entered) > 0 {
		n.whole = p.all(count)
	}
	return n
}

// changes returns the events of a change: each has a version, and at most about maxPresencePart
// bytes.
func (p *presenceRoom) changes(change *presenceChange, count int) (list []presenceEvent) {
	var e presenceEvent
	size := 0
	add := func() {
		p.version++
		e.Room, e.Version = p.name, p.version
		list = append(list, e)
		e, size = presenceEvent{}, 0
	}
	if p.counted {
		e.Count = &count
		add()
		return list
	}
	each := func(keys []Present, put func(p Present)) {
		for i := range keys {
			n := keys[i].size()
			if size > 0 && size+n > maxPresencePart {
				add()
			}
			size += n
			put(keys[i])
		}
	}
	each(change.joined, func(p Present) { e.Joined = append(e.Joined, p) })
	each(change.changed, func(p Present) { e.Changed = append(e.Changed, p) })
	each(change.left, func(p Present) { e.Left = append(e.Left, p.Key) })
	add()
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
		clear(p.fresh.asked)
		if len(p.fresh.entered) > 0 { // who is about to join
			p.wake(after(p.options().Interval))
		}
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
	entered, asked := p.fresh.entered, p.fresh.asked
	fresh := make(map[*Socket]bool, len(entered)+len(asked))
	for s := range entered {
		switch {
		case r.find(s) < 0: // it is about to join
			p.wake(after(p.options().Interval))
		case len(n.whole) == 0: // it has joined since the notice
			fresh[s] = false
		case n.untold:
			fresh[s] = false
			delete(entered, s)
		default:
			fresh[s] = true
			p.fresh.remove(s)
		}
	}
	if n.answers || n.anew {
		for s := range asked {
			fresh[s] = r.find(s) >= 0
		}
		clear(asked)
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

// tellWhole has a member of the room be told who is there, and tells any other socket that nobody
// is.
func (n *Namespace) tellWhole(s *Socket, room string) {
	var wake, slow bool
	s.mu.Lock() // it neither joins nor leaves meanwhile
	_, in := findNamed(s.rooms, room)
	_, isUser := userOf(room)
	switch {
	case !in || isUser:
		wake, slow = n.pushNobody(s, room, 0)
	case s.isConnected():
		p := n.presences.lock(n, room, nil)
		if _, entered := p.fresh.entered[s]; !entered || p.version == 0 { // or it is to be told all anyway, and earlier
			p.fresh.asked[s] = struct{}{}
			p.wake(max(after(p.options().Interval), p.fresh.answerAt))
		}
		p.mu.Unlock()
	}
	s.mu.Unlock()
	s.session.pushed(wake, slow)
}

// nobody is the event that says that nobody is in the room.
func (n *Namespace) nobody(room string, version uint64) packet {
	e := presenceEvent{Room: room, Version: version, State: []Present{}}
	return newPacket(packetEvent, n.name, presenceEventName, e.append(nil))
}

// tellNobody has a socket that has left the room forget who is there. The caller, who holds s.mu,
// must call session.pushed without it.
func (n *Namespace) tellNobody(s *Socket, room string) (wake, slow bool) {
	p := n.presences.find(n, room)
	if p == nil {
		return false, false
	}
	p.mu.Lock()
	version := p.version
	p.mu.Unlock()
	if version == 0 { // nobody was told anything
		return false, false
	}
	return n.pushNobody(s, room, version)
}

// pushNobody queues the event that says that nobody is in the room. s.mu is held, and the caller
// must call session.pushed without it.
func (n *Namespace) pushNobody(s *Socket, room string, version uint64) (wake, slow bool) {
	e := n.nobody(room, version)
	s.record(tappedEvent, true, e.eventData)
	f := wireForms.Get().(*wireForm)
	f.encode(s.session.protocol, e, nil)
	v, wake := s.session.push(f, false, forEmitter)
	f.release()
	return wake, v == pushTooSlow
}
