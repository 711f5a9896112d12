package atrium

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"unicode/utf8"
)

// The values of sockets outlive a restart as JSON.

// savedValue is a value that a socket has, as JSON.
type savedValue struct {
	json   json.RawMessage
	public bool // it was set by SetPublic
}

// unsavable says which value cannot be saved, and why. It is an error.
type unsavable struct {
	key  string
	kind reflect.Type
	why  error
}

func (u *unsavable) Error() string { return fmt.Sprintf("%q of type %v: %v", u.key, u.kind, u.why) }

// save encodes the values. It calls functions of the application, and holds no lock meanwhile.
func (v *values) save() (map[string]savedValue, *unsavable) {
	v.mu.Lock()
	byKey := maps.Clone(v.byKey)
	v.mu.Unlock()
	if len(byKey) == 0 {
		return nil, nil
	}
	saved := make(map[string]savedValue, len(byKey))
	for key, value := range byKey {
		public, isPublic := value.(publicValue)
		if isPublic {
			value = public.value
		}
		encoded, err := encodeValue(value)
		if !utf8.ValidString(key) {
			err = errInvalidUTF8
		}
		if err != nil {
			return nil, &unsavable{key, reflect.TypeOf(value), err}
		}
		saved[key] = savedValue{encoded, isPublic}
	}
	return saved, nil
}

// encodeValue returns the JSON that Value decodes to the same value again. Its error says why there
// is none.
func encodeValue(value any) (encoded json.RawMessage, err error) {
	if restored, ok := value.(*restoredValue); ok {
		return restored.json, nil
	}
	if value == nil {
		return json.RawMessage("null"), nil
	}
	if why := lossOf(reflect.TypeOf(value)); why != "" {
		return nil, fmt.Errorf("JSON does not carry %s", why)
	}
	err = callApart("MarshalJSON or UnmarshalJSON of a value", func() (err error) {
		encoded, err = json.Marshal(value)
		if err == nil && bytes.Contains(encoded, replacement) && !comesBack(value, encoded) {
			err = errInvalidUTF8
		}
		return err
	})
	return encoded, err
}

// replacement is what json.Marshal writes for invalid UTF-8; a U+FFFD in a string stays as it is.
var replacement = []byte(`\ufffd`)

var errInvalidUTF8 = errors.New("JSON does not carry strings with invalid UTF-8")

// comesBack reports whether the JSON is decoded to the same value again.
func comesBack(value any, encoded []byte) bool {
	decoded := reflect.New(reflect.TypeOf(value))
	return json.Unmarshal(encoded, decoded.Interface()) == nil && reflect.DeepEqual(value, decoded.Elem().Interface())
}

// restoreValues is the opposite of save.
func restoreValues(saved map[string]savedValue) *values {
	v := &values{byKey: make(map[string]any, len(saved))}
	for key, value := range saved {
		restored := &restoredValue{value.json}
		if value.public {
			v.byKey[key] = publicValue{restored, value.json}
		} else {
			v.byKey[key] = restored
		}
	}
	return v
}

// losses has what lossOf has found, by reflect.Type.
var losses sync.Map

// lossOf says what a value of the type may have that JSON does not carry: without an error of
// json.Marshal it would come back as another. It returns "" if there is nothing.
func lossOf(t reflect.Type) string {
	if why, ok := losses.Load(t); ok {
		return why.(string)
	}
	why := findLoss(t, make(map[reflect.Type]bool))
	losses.Store(t, why)
	return why
}

// findLoss is lossOf. The types in seen are being looked at.
func findLoss(t reflect.Type, seen map[reflect.Type]bool) string {
	if seen[t] || codesItself(t) {
		return ""
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128, reflect.Uintptr:
		return fmt.Sprintf("a %v", t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Sprintf("the type in the interface %v", t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return findLoss(t.Elem(), seen)
	case reflect.Map:
		if why := findLoss(t.Key(), seen); why != "" {
			return why
		}
		return findLoss(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct) || f.Tag.Get("json") == "-" {
				return fmt.Sprintf("the field %s of %v", f.Name, t)
			}
			if why := findLoss(f.Type, seen); why != "" {
				return why
			}
		}
	}
	return ""
}

var (
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// codesItself reports whether the type has methods of its own in both directions.
func codesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonMarshaler) && p.Implements(jsonUnmarshaler) ||
		p.Implements(textMarshaler) && p.Implements(textUnmarshaler)
}

// hasNull reports whether null is JSON of a value of the type.
func hasNull(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	}
	return codesItself(t)
}
