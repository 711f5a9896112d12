package atrium

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// Binary is bytes that a Socket.IO client receives as bytes: as a Buffer in Node, as an ArrayBuffer
// in a browser. It may be anywhere in the arguments of an event or an acknowledgement: an argument,
// or in a struct, map or slice. A plain client receives a string of base64, as for any []byte, and
// so does every client if the Binary is inside a type that has a MarshalJSON method. A nil Binary
// is null.
//
// In the other direction, bytes from a client decode into a Binary and into a []byte. They are a
// Binary in an any that a handler takes or that is passed to Event.Bind. In a string, a
// json.RawMessage, and an any within a struct, they are a string of base64 with padding.
type Binary []byte

// findBinaries finds the Binary values in the JSON that encoding/json has made of arguments: it
// walks the JSON and the Go values together, and where the value is a Binary the string in the JSON
// is its base64.
//
// There are two alternatives. A Binary.MarshalJSON that marks its output would need marks that no
// client can forge in what a server echoes, would leave them in everything an application marshals,
// and would become the MarshalJSON of each struct that embeds Binary. Walking the values before
// encoding would have to know every rule of encoding/json about omitted fields and their order.
// Here the JSON answers that: if the walk does not know a rule, a Binary stays base64, as in the
// plain protocol, and nothing that is not a Binary can become one.

// findBinaries returns where Binary values are in encoded, which is args as encoded by
// encoding/json and joined by commas. It returns an error if there are Binary values and an object
// that receivers would take for a placeholder: if a server echoes such an object from one client,
// it could end the connections of all others.
func findBinaries(encoded []byte, args []any) ([]span, error) {
	holds := false // most types have no room for a Binary
	for _, arg := range args {
		holds = holds || arg != nil && binaryInfoOf(reflect.TypeOf(arg)).holds
	}
	if !holds {
		return nil, nil
	}
	f := binaryFinder{b: encoded}
	for _, arg := range args {
		f.walk(reflect.ValueOf(arg))
		f.i++ // the comma
	}
	if len(f.found) > 0 {
		if _, err := findPlaceholders(encoded, 0); err != nil {
			return nil, errors.New("beside binary values no object may have _placeholder: true, which is Socket.IO's own")
		}
	}
	return f.found, nil
}

// binaryFinder walks over compact JSON.
type binaryFinder struct {
	b     []byte
	i     int // where the next value begins
	found []span
}

// skip moves past a value without a Binary.
func (f *binaryFinder) skip() {
	if f.i >= len(f.b) {
		return
	}
	end, err := skipValue(f.b, f.i)
	if err != nil {
		end = len(f.b) // raw JSON deeper than maxDepth: all after it stays base64
	}
	f.i = end
}

// walk moves past the encoded v and collects its Binary values. An invalid v has none.
func (f *binaryFinder) walk(v reflect.Value) {
	if !v.IsValid() || f.i >= len(f.b) {
		f.skip()
		return
	}
	info := binaryInfoOf(v.Type())
	switch kind := v.Kind(); {
	case !info.holds || marshalsItself(v):
		f.skip()
	case kind == reflect.Pointer || kind == reflect.Interface:
		f.walk(v.Elem())
	case kind == reflect.Struct:
		f.object(func(key []byte) reflect.Value { return info.field(v, key) })
	case kind == reflect.Map:
		f.object(mapLookup(v))
	case v.Type() == binaryType:
		start := f.i
		f.skip()
		if f.b[start] == '"' { // a nil Binary is null
			f.found = append(f.found, span{start, f.i})
		}
	default: // a slice or array
		f.array(v)
	}
}

// array moves past the elements of v, a slice or array.
func (f *binaryFinder) array(v reflect.Value) {
	if f.b[f.i] != '[' { // null
		f.skip()
		return
	}
	f.i++
	for n := 0; f.i < len(f.b) && f.b[f.i] != ']'; n++ {
		if f.b[f.i] == ',' {
			f.i++
		}
		if n < v.Len() {
			f.walk(v.Index(n))
		} else {
			f.skip()
		}
	}
	f.i++
}

// object moves past an object. lookup returns the value of a key, or an invalid Value if it has no
// Binary.
func (f *binaryFinder) object(lookup func(key []byte) reflect.Value) {
	if f.b[f.i] != '{' { // null
		f.skip()
		return
	}
	o := objectReader{b: f.b, i: f.i}
	for o.nextKey() {
		f.i = o.i
		// U+FFFD replaces invalid UTF-8, so that two keys of a map may have become equal.
		if bytes.Contains(o.key, []byte("\ufffd")) {
			f.skip()
		} else {
			f.walk(lookup(o.key))
		}
		o.i = f.i
	}
	f.i = o.i
	if o.err != nil {
		f.i = len(f.b) // not what encoding/json writes
	}
}

// mapLookup returns a function that finds a value of the map m by its key in JSON.
func mapLookup(m reflect.Value) func(key []byte) reflect.Value {
	keys := m.Type().Key()
	if m.Type() == anyMapType && m.CanInterface() { // the most common type; more than twice as fast
		fields := m.Interface().(map[string]any)
		return func(key []byte) reflect.Value { return reflect.ValueOf(fields[string(key)]) }
	}
	if keys.Kind() == reflect.String {
		return func(key []byte) reflect.Value { return m.MapIndex(reflect.ValueOf(string(key)).Convert(keys)) }
	}
	named := make(map[string]reflect.Value, m.Len())
	for entry := m.MapRange(); entry.Next(); {
		name, value := keyName(entry.Key()), entry.Value()
		if _, twice := named[name]; twice {
			value = reflect.Value{} // which of them comes first is unknown
		}
		named[name] = value
	}
	return func(key []byte) reflect.Value { return named[string(key)] }
}

// keyName returns the JSON key that encoding/json makes of a map key that is not a string.
func keyName(key reflect.Value) string {
	if m, ok := key.Interface().(encoding.TextMarshaler); ok {
		if key.Kind() == reflect.Pointer && key.IsNil() {
			return ""
		}
		text, _ := m.MarshalText() // encoding/json has called it without an error
		return string(text)
	}
	if key.CanInt() {
		return strconv.FormatInt(key.Int(), 10)
	}
	return strconv.FormatUint(key.Uint(), 10)
}

var (
	binaryType        = reflect.TypeFor[Binary]()
	anyMapType        = reflect.TypeFor[map[string]any]()
	marshalerType     = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

// marshalsItself reports whether encoding/json calls a method of v to encode it.
func marshalsItself(v reflect.Value) bool {
	t := v.Type()
	return implementsMarshaler(t) || v.CanAddr() && implementsMarshaler(reflect.PointerTo(t))
}

func implementsMarshaler(t reflect.Type) bool {
	return t.Implements(marshalerType) || t.Implements(textMarshalerType)
}

// binaryInfo describes a type.
type binaryInfo struct {
	holds  bool                  // its values can contain a Binary
	fields map[string]namedField // of a struct, embedded ones included, by JSON name
}

// binaryInfos caches a *binaryInfo for each reflect.Type, as encoding/json caches its encoders.
var binaryInfos sync.Map

func binaryInfoOf(t reflect.Type) *binaryInfo {
	if info, ok := binaryInfos.Load(t); ok {
		return info.(*binaryInfo)
	}
	info := &binaryInfo{holds: reachesBinary(t, make(map[reflect.Type]bool))}
	if info.holds && t.Kind() == reflect.Struct {
		info.fields = make(map[string]namedField)
		collectFields(info.fields, t, nil, make(map[reflect.Type]bool))
	}
	binaryInfos.Store(t, info)
	return info
}

// reachesBinary reports whether a value of type t can contain a Binary. seen has the types visited
// so far.
func reachesBinary(t reflect.Type, seen map[reflect.Type]bool) bool {
	if t == binaryType {
		return true
	}
	if seen[t] || t.Kind() != reflect.Interface && implementsMarshaler(t) {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return reachesBinary(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if reachesBinary(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// field returns the field of the struct v with the JSON name, or an invalid Value if it is not in
// the JSON.
func (info *binaryInfo) field(v reflect.Value, name []byte) reflect.Value {
	named := info.fields[string(name)]
	if named.index == nil || named.tie {
		return reflect.Value{}
	}
	field, _ := v.FieldByIndexErr(named.index) // the error is for an embedded nil pointer
	return field
}

// namedField is a candidate for a name in JSON.
type namedField struct {
	index  []int
	tagged bool
	tie    bool // another field has the same precedence: neither is in the JSON
}

// collectFields adds the fields of t, which is embedded at index, to all. Of several fields with
// one name the least deeply embedded is in the JSON, and among these the tagged one (see
// encoding/json.Marshal). above are the types that embed t.
func collectFields(all map[string]namedField, t reflect.Type, index []int, above map[reflect.Type]bool) {
	if above[t] {
		return
	}
	above[t] = true
	defer delete(above, t)
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("json")
		inner := sf.Type
		if inner.Name() == "" && inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		embeds := sf.Anonymous && inner.Kind() == reflect.Struct
		if tag == "-" || !sf.IsExported() && !embeds {
			continue
		}
		at := append(index[:len(index):len(index)], i)
		name, _, _ := strings.Cut(tag, ",")
		if !validName(name) {
			name = ""
		}
		if embeds && name == "" {
			collectFields(all, inner, at, above)
			continue
		}
		field := namedField{index: at, tagged: name != ""}
		if name == "" {
			name = sf.Name
		}
		rival, taken := all[name]
		switch deeper := len(at) - len(rival.index); {
		case !taken, deeper < 0, deeper == 0 && field.tagged && !rival.tagged:
			all[name] = field
		case deeper == 0 && field.tagged == rival.tagged:
			rival.tie = true
			all[name] = rival
		}
	}
}

// validName reports whether encoding/json accepts a name in a tag.
func validName(name string) bool {
	const punctuation = "!#$%&()*+-./:;<=>?@[]^_{|}~ "
	refused := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(punctuation, r)
	}
	return name != "" && !strings.ContainsFunc(name, refused)
}
