package atrium

import (
	"fmt"
	"time"
)

// Emit sends an event, or queues it until the client is connected. It does not wait. An event that
// was sent on a connection which then broke may be lost: use Call for what must arrive.
//
// The errors are ErrClosed after Close, ErrBufferFull if too much is waiting, ErrMessageTooBig if
// the server has said that its limit is smaller, ErrReserved and others for what cannot be sent at
// all.
func (c *Client) Emit(event string, args ...any) error {
	return c.emit(event, args, false)
}

// Volatile returns the server for events that may be lost, because the next one replaces them, such
// as positions: while the client is not connected, or the network takes nothing, they are dropped.
func (c *Client) Volatile() ClientTarget { return ClientTarget{c} }

// ClientTarget is what Client.Volatile returns.
type ClientTarget struct{ c *Client }

// Emit sends an event, or drops it. Its errors are those of Client.Emit, but for ErrBufferFull.
func (t ClientTarget) Emit(event string, args ...any) error {
	return t.c.emit(event, args, true)
}

func (c *Client) emit(event string, args []any, volatile bool) error {
	m, err := c.encode(event, args, noID)
	if err != nil {
		return err
	}
	m.volatile = volatile
	return c.send(m)
}

// encode encodes an event.
func (c *Client) encode(event string, args []any, id int64) (*parcel, error) {
	m, err := newMessage(c.options.Namespace, event, args, c.options.MaxAttachments)
	if err != nil {
		return nil, err
	}
	defer m.release()
	m.ackID = id
	return newParcel(packet{kind: packetEvent, namespace: m.namespace, eventData: m.eventData}), nil
}

// newParcel encodes a packet. It keeps nothing of p.
func newParcel(p packet) *parcel {
	m := &parcel{text: appendPacket(make([]byte, 0, 32+len(p.namespace)+len(p.name)+len(p.args.json)), p)}
	for _, at := range p.args.attachments {
		m.attachments = append(m.attachments, appendAttachment(nil, p.args.json, at))
	}
	return m
}

// send sends a parcel, or queues it until the client is connected.
func (c *Client) send(m *parcel) error {
	c.mu.Lock()
	if l := c.link; l != nil && l.heartbeat.slept(nanotime(), time.Now().UnixNano()) {
		c.mu.Unlock()
		l.checkHeartbeat()
		c.mu.Lock()
	}
	l, wake, err := c.sendLocked(m)
	c.mu.Unlock()
	if wake {
		l.conn.wake()
	}
	return err
}

// sendLocked is send with c.mu held. If wake is true, the caller must wake l's connection.
func (c *Client) sendLocked(m *parcel) (l *link, wake bool, err error) {
	if c.closing {
		return nil, false, ErrClosed
	}
	if err := c.tooBig(m); err != nil {
		return nil, false, err
	}
	if l = c.link; l != nil {
		if queued := l.conn.out.status().cost; queued+m.size() > l.conn.out.limit && !m.volatile {
			return nil, false, fmt.Errorf("%w: %d bytes", ErrBufferFull, queued)
		}
		if sent, wake := l.push(m); sent {
			return l, wake, nil
		}
	}
	switch {
	case m.volatile:
		return nil, false, nil
	case c.queue.size+m.size() > c.options.MaxOfflineBytes:
		return nil, false, fmt.Errorf("%w: %d bytes, while not connected", ErrBufferFull, c.queue.size)
	}
	c.queue.push(m)
	return nil, false, nil
}

// tooBig returns an error if a message of the parcel is over the limit that the server has told: it
// would end the connection. c.mu is held.
func (c *Client) tooBig(m *parcel) error {
	size := len(m.text)
	for _, attachment := range m.attachments {
		size = max(size, len(attachment))
	}
	if c.maxMessage > 0 && size > c.maxMessage {
		return fmt.Errorf("%w: %d bytes, and the server takes %d", ErrMessageTooBig, size, c.maxMessage)
	}
	return nil
}

// refuse reports that a parcel is too big which was queued before the server had told its limit.
func (c *Client) refuse(m *parcel, err error) {
	if m.call != nil {
		failCalls([]*clientCall{m.call}, err)
		return
	}
	c.log.warn("atrium: an event was dropped that is bigger than the server takes", loggedFailure(err)...)
}
