package atrium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
)

// What a hub leaves to its successor when it ends.

// beginHandOver tells a successor that waits that this hub drains: clients that it does not know
// may be among those that it will be handed.
func (h *Hub) beginHandOver() {
	if s := &h.succession; s.lock != nil && !s.pending.Load() && s.unusable == nil {
		_, _ = s.lock.WriteAt(h.encodeTopics(), int64(len(draining)))
		_, _ = s.lock.WriteAt([]byte(draining), 0) // without it the clients begin anew
	}
}

// handOver ends recovery, once, when the last client has left: clients that may come back are saved
// for the hub's successor, and the others expire. It waits for the functions of OnExpire until ctx
// ends.
func (h *Hub) handOver(ctx context.Context) error {
	h.succession.ending.Do(func() { h.succession.failed = h.save(ctx) })
	h.awaitExpiries(ctx)
	return h.succession.failed
}

// save is handOver without the OnExpire functions.
func (h *Hub) save(ctx context.Context) error {
	namespaces := h.withRecovery()
	places := h.endPresence() // with which some of them go
	failed := h.giveUpLock(ctx)
	var left savedState
	var saved []saving
	for _, n := range namespaces {
		one, clients := n.recovery.surrender()
		one.places = places[n]
		if h.options.Recovery.saves() && failed == nil {
			clients = h.encodeClients(one, clients)
			left = append(left, one)
		}
		saved = append(saved, clients...)
	}
	if h.options.Recovery.saves() && failed == nil {
		h.mu.Lock()
		for _, one := range h.succession.unclaimed {
			if one.wanted(nanotime()) {
				left = append(left, one)
			}
		}
		h.mu.Unlock()
		failed = h.write(left)
	}
	if failed != nil || !h.options.Recovery.saves() {
		for _, c := range saved {
			c.of.giveUp(c.kept)
		}
	}
	h.sessions.clock.stop(&h.succession.unwanted)
	if h.succession.lock != nil {
		h.succession.lock.Close()
	}
	return failed
}

// withRecovery lists the namespaces that keep something.
func (h *Hub) withRecovery() (list []*Namespace) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.namespaces {
		if n.recovery != nil {
			list = append(list, n)
		}
	}
	return list
}

// saving is a client that is about to be saved.
type saving struct {
	of   *recovery
	kept *kept
}

// surrender takes out all that is kept. It locks.
func (r *recovery) surrender() (left *savedNamespace, clients []saving) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left = &savedNamespace{name: r.ns.name, newest: r.newest, dropped: r.dropped, events: r.events.items[r.events.head:]}
	for _, k := range r.byPID {
		if k.session != nil { // ctx has ended before it had left
			r.forget(k)
			continue
		}
		c := savedClient{pid: k.pid, id: k.id, start: k.start, sent: k.sent, left: k.left, stays: k.stays, until: after(0) + r.maxAway}
		if k.parked != nil {
			c.until = k.until
		}
		if k.expiry != nil {
			c.expiry = k.expiry.when
		}
		left.clients = append(left.clients, c)
		clients = append(clients, saving{r, k})
		k.saved = true
		r.forget(k)
	}
	return left, clients
}

// giveUp has a client expire that was not saved after all. It locks.
func (r *recovery) giveUp(k *kept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k.saved = false
	r.expire(k)
}

// encodeClients adds their values to the clients of a namespace, and returns those that are saved.
// The others expire.
func (h *Hub) encodeClients(n *savedNamespace, clients []saving) (saved []saving) {
	told := make(map[reflect.Type]bool)
	all := n.clients
	n.clients = n.clients[:0]
	for i, c := range clients {
		values, err := c.kept.values.save()
		if err != nil {
			c.of.giveUp(c.kept)
			if !told[err.kind] {
				told[err.kind] = true
				h.log.warn("atrium: a client begins anew after the restart: a value of its socket cannot be saved", append(loggedFailure(err),
					hint("Set what JSON carries, or give its type MarshalJSON and UnmarshalJSON"))...)
			}
			continue
		}
		all[i].values = values
		n.clients = append(n.clients, all[i])
		saved = append(saved, c)
	}
	return saved
}

// write writes the state to where the successor finds it.
func (h *Hub) write(left savedState) error {
	o := &h.options.Recovery
	if o.Path != "" {
		if err := writeFile(o.Path, left); err != nil {
			return fmt.Errorf("atrium: Recovery.Path: %w", err)
		}
		return nil
	}
	from, to := io.Pipe()
	go func() { to.CloseWithError(left.write(to)) }()
	defer from.CloseWithError(errors.New("Recovery.Save has returned")) // ends the writing
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	if err := callApart("Recovery.Save", func() error { return o.Save(ctx, from) }); err != nil {
		return fmt.Errorf("atrium: Recovery.Save: %w", err)
	}
	return nil
}

// asideSuffix is that of the file that is put in the place of Recovery.Path.
const asideSuffix = ".new"

// mustBeRegular returns an error if there is something at the path that is no regular file: opening
// a named pipe waits for who writes to it, and a device must not be replaced by a file.
func mustBeRegular(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	return err
}

// writeFile writes the state to a file beside the one of that name, and puts it in its place.
func writeFile(path string, left savedState) (err error) {
	if err = mustBeRegular(path); err != nil {
		return err
	}
	aside := path + asideSuffix
	_ = os.Remove(aside) // of a hub that has crashed
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(aside)
		}
	}()
	if err = errors.Join(left.write(f), f.Sync()); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(aside, path); err != nil {
		return err
	}
	if dir, failed := os.Open(filepath.Dir(path)); failed == nil {
		_ = dir.Sync() // so that the new name outlives a power cut, too; Windows has no such thing
		dir.Close()
	}
	return nil
}
