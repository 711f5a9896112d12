package atrium

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// maxPublicBytes bounds what SetPublic keeps of a socket, in bytes: keys and JSON values.
const maxPublicBytes = 4 << 10

// publicValue is a value that was set by SetPublic.
type publicValue struct {
	value any
	json  json.RawMessage
}

// restoredValue is a value that the hub's predecessor has saved and that nobody has asked for by
// its type yet.
type restoredValue struct{ json json.RawMessage }

// isNull reports whether it was nil, of whatever type.
func (r *restoredValue) isNull() bool { return string(r.json) == "null" }

// madeValues returns the socket's values, which are made on first use.
func (s *Socket) madeValues() *values {
	if v := s.values.Load(); v != nil {
		return v
	}
	s.values.CompareAndSwap(nil, &values{byKey: make(map[string]any)})
	return s.values.Load()
}

// lockValues returns the socket's values, locked.
func (s *Socket) lockValues() *values {
	v := s.madeValues()
	v.mu.Lock()
	return v
}

// Set keeps a value for the socket's lifetime. It stays on this node, and is for this program
// alone; SetPublic is for what others should know. Value is the typed way to get it back. With
// Options.Recovery the values last until the client has gone for good: all Sockets that it comes
// back as share them, so that a Set on an earlier one holds for the present one. Recovery.Path says
// which values outlive a restart.
func (s *Socket) Set(key string, value any) {
	v := s.lockValues()
	defer v.mu.Unlock()
	v.byKey[key] = value
}

// SetPublic is Set for a value that SocketInfo shows, on every node: as JSON, encoded now. A name
// or a status is one. A Set of the same key takes it out of the SocketInfo again.
//
// The public values of a socket may take 4 KiB, keys included, because every question for Sockets
// carries them. A value beyond that is refused with an *Error, and one that cannot be encoded as
// JSON with another error; the key keeps what it had.
func (s *Socket) SetPublic(key string, value any) error {
	encoded, err := encodeArgs([]any{value}, noBound)
	if err != nil {
		return fmt.Errorf("atrium: the public value %q: %w", key, err)
	}
	v := s.lockValues()
	defer v.mu.Unlock()
	size := len(key) + len(encoded.json)
	for other, o := range v.byKey {
		if o, ok := o.(publicValue); ok && other != key {
			size += len(other) + len(o.json)
		}
	}
	if size > maxPublicBytes {
		return Errorf("%s: expected public values of at most %d bytes in all, this would make %d", key, maxPublicBytes, size)
	}
	v.byKey[key] = publicValue{value, encoded.json}
	return nil
}

// Get returns what was Set under the key. After a restart (Recovery.Path) that is a
// json.RawMessage, or nil for a nil of any type, until Value has been asked for it.
func (s *Socket) Get(key string) (value any, ok bool) {
	value, ok = s.value(key)
	if restored, is := value.(*restoredValue); is {
		value = restored.json
		if restored.isNull() {
			value = nil
		}
	}
	return value, ok
}

// value is Get, but for a restored value, which it returns as it is.
func (s *Socket) value(key string) (value any, ok bool) {
	if s.values.Load() == nil {
		return nil, false
	}
	v := s.lockValues()
	defer v.mu.Unlock()
	value, ok = v.byKey[key]
	if public, is := value.(publicValue); is {
		value = public.value
	}
	return value, ok
}

// Value returns what was Set on the socket under the key. It reports false if there is nothing, or
// something that is no T. A value that has outlived a restart (Recovery.Path) is decoded from its
// JSON when it is first asked for, and is of that T from then on, unless T is an interface. A nil
// that has is one of each T that has a nil.
func Value[T any](s *Socket, key string) (T, bool) {
	value, _ := s.value(key)
	restored, is := value.(*restoredValue)
	if !is {
		v, ok := value.(T)
		return v, ok
	}
	var decoded T
	if raw, ok := any(&decoded).(*json.RawMessage); ok { // as Get
		*raw = restored.json
		return decoded, true
	}
	if restored.isNull() && !hasNull(reflect.TypeFor[T]()) {
		return decoded, false
	}
	if json.Unmarshal(restored.json, &decoded) != nil { // without the lock: it may be the application's
		var none T
		return none, false
	}
	if reflect.TypeFor[T]().Kind() == reflect.Interface {
		return decoded, true
	}
	v, ok := s.settleValue(key, restored, decoded).(T)
	return v, ok
}

// settleValue puts what a restored value was decoded to in its place, unless somebody else has been
// faster, and returns what is there.
func (s *Socket) settleValue(key string, restored *restoredValue, decoded any) any {
	v := s.lockValues()
	defer v.mu.Unlock()
	switch now := v.byKey[key].(type) {
	case publicValue:
		if now.value != any(restored) {
			return now.value
		}
		v.byKey[key] = publicValue{decoded, now.json}
	case *restoredValue:
		if now != restored {
			return decoded // another one was restored: this is what was asked for
		}
		v.byKey[key] = decoded
	default:
		return now
	}
	return decoded
}

// publicValues returns what SetPublic has set; nil if that is nothing.
func (s *Socket) publicValues() map[string]json.RawMessage {
	if s.values.Load() == nil {
		return nil
	}
	v := s.lockValues()
	defer v.mu.Unlock()
	var public map[string]json.RawMessage
	for key, value := range v.byKey {
		if value, ok := value.(publicValue); ok {
			if public == nil {
				public = make(map[string]json.RawMessage)
			}
			public[key] = value.json
		}
	}
	return public
}
