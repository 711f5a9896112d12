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

// Binary is bytes that a Socket.IO client shall get as bytes: a Buffer in Node, an ArrayBuffer in a browser. It may
// stand anywhere in the arguments of an event or an acknowledgement: as one of them, in a field, a map, a slice. A
// plain client gets a string of base64, as for any []byte; and so does every client if the Binary is inside a type
// that has a MarshalJSON of its own. A nil Binary is null.
//
// In the other direction, what a client sends as bytes decodes into a Binary and into a []byte, and is a Binary in an
// any that a handler takes or Event.Bind is given. In a string or a json.RawMessage, and in an any within a struct, it
// is the string of base64, with padding.
type Binary []byte

// How a Binary is found again in the JSON that encoding/json makes of arguments: the JSON and the values are walked
// side by side, and where a Binary is met the string at hand is it.
//
// Two other ways lost. A MarshalJSON that marks what it writes needs marks that no client can forge in what a
// server echoes, would show them in all that an application marshals for itself, and takes over each struct that
// Binary is embedded in. Walking the values before encoding has to know encoding/json's every rule about what is
// left out and in what order; this one asks the JSON. If it does not know a rule, a Binary stays base64, which is
// what the plain protocol makes of it anyway, and nothing that is not a Binary can ever become one.

// findBinaries returns where in encoded, which is what encoding/json has made of args, joined by commas, Binary
// values stand. The error says that beside them there is what receivers would take for a placeholder: in what a server
// echoes for one client, it could end the connections of all others.
func findBinaries(encoded []byte, args []any) ([]span, error) {
	f := binaryFinder{b: encoded}
	for _, arg := range args {
		if arg == nil {
			f.skip()
		} else {
			f.walk(reflect.ValueOf(arg))
		}
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

// skip passes a value that holds no Binary.
func (f *binaryFinder) skip() {
	if f.i >= len(f.b) {
		return
	}
	end, err := skipValue(f.b, f.i)
	if err != nil {
		end = len(f.b) // raw JSON deeper than maxDepth: what stands behind it stays base64
	}
	f.i = end
}

// walk passes the value that v became.
func (f *binaryFinder) walk(v reflect.Value) {
	for {
		info := binaryInfoOf(v.Type())
		if !info.holds || marshalsItself(v) || f.i >= len(f.b) {
			f.skip()
			return
		}
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if v.IsNil() {
				f.skip()
				return
			}
			v = v.Elem()
			continue
		case reflect.Struct:
			f.object(func(key []byte) reflect.Value { return info.field(v, key) })
		case reflect.Map:
			f.object(mapLookup(v))
		case reflect.Slice, reflect.Array:
			if v.Type() == binaryType {
				f.binary()
			} else {
				f.array(v)
			}
		}
		return
	}
}

// binary passes a Binary. It is no string if it is nil.
func (f *binaryFinder) binary() {
	start := f.i
	f.skip()
	if f.b[start] == '"' {
		f.found = append(f.found, span{start, f.i})
	}
}

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

// object passes an object. lookup returns the value that a key stands for; an invalid one if none that matters.
func (f *binaryFinder) object(lookup func(key []byte) reflect.Value) {
	if f.b[f.i] != '{' { // null
		f.skip()
		return
	}
	f.i++
	for f.i < len(f.b) && f.b[f.i] != '}' {
		if f.b[f.i] == ',' {
			f.i++
		}
		end, value, err := skipKey(f.b, f.i)
		if err != nil {
			f.i = len(f.b) // not what encoding/json writes
			return
		}
		key := f.b[f.i+1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			key = appendUnescaped(nil, key)
		}
		f.i = value
		// U+FFFD stands for whatever is not UTF-8, so that two keys of a map may have become one.
		if v := lookup(key); v.IsValid() && !bytes.Contains(key, []byte("\ufffd")) {
			f.walk(v)
		} else {
			f.skip()
		}
	}
	f.i++
}

// mapLookup returns a function that finds the values of the map m by their keys in JSON.
func mapLookup(m reflect.Value) func(key []byte) reflect.Value {
	keys := m.Type().Key()
	if m.Type() == anyMapType && m.CanInterface() { // by far the most usual, and more than twice as fast
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
			value = reflect.Value{} // there is no telling which of them comes first
		}
		named[name] = value
	}
	return func(key []byte) reflect.Value { return named[string(key)] }
}

// keyName is what encoding/json makes of a map's key that is no string.
func keyName(key reflect.Value) string {
	if m, ok := key.Interface().(encoding.TextMarshaler); ok {
		if key.Kind() == reflect.Pointer && key.IsNil() {
			return ""
		}
		text, _ := m.MarshalText() // it was asked before, and had no error
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

// marshalsItself reports whether encoding/json leaves the encoding of v to its type.
func marshalsItself(v reflect.Value) bool {
	t := v.Type()
	return implementsMarshaler(t) || v.CanAddr() && implementsMarshaler(reflect.PointerTo(t))
}

func implementsMarshaler(t reflect.Type) bool {
	return t.Implements(marshalerType) || t.Implements(textMarshalerType)
}

// binaryInfo is what there is to know about a type.
type binaryInfo struct {
	holds  bool             // a Binary can be inside its values
	fields map[string][]int // of a struct: those that can hold one, by their names in JSON
}

// binaryInfos remembers a *binaryInfo for each reflect.Type that was met, as encoding/json remembers its encoders.
var binaryInfos sync.Map

func binaryInfoOf(t reflect.Type) *binaryInfo {
	if info, ok := binaryInfos.Load(t); ok {
		return info.(*binaryInfo)
	}
	info := &binaryInfo{holds: reachesBinary(t, make(map[reflect.Type]bool))}
	if info.holds && t.Kind() == reflect.Struct {
		info.fields = binaryFields(t)
	}
	binaryInfos.Store(t, info)
	return info
}

// reachesBinary reports whether a Binary can be inside a value of type t. seen is what was looked at already.
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

// field returns the field of the struct v with a name in JSON; an invalid Value if it is none that matters.
func (info *binaryInfo) field(v reflect.Value, name []byte) reflect.Value {
	index := info.fields[string(name)]
	if index == nil {
		return reflect.Value{}
	}
	field, err := v.FieldByIndexErr(index)
	if err != nil {
		return reflect.Value{} // behind an embedded nil pointer: it is not in the JSON either
	}
	return field
}

// namedField is a field that competes for a name in JSON.
type namedField struct {
	index  []int
	tagged bool
	tie    bool // with another one: neither of them is in the JSON
}

// binaryFields returns the fields of the struct type t, and of those embedded in it, that can hold a Binary.
func binaryFields(t reflect.Type) map[string][]int {
	all := make(map[string]namedField)
	collectFields(all, t, nil, make(map[reflect.Type]bool))
	fields := make(map[string][]int)
	for name, field := range all {
		if !field.tie && reachesBinary(t.FieldByIndex(field.index).Type, make(map[reflect.Type]bool)) {
			fields[name] = field.index
		}
	}
	return fields
}

// collectFields adds the fields of t, which is embedded at index, to all. Of those with one name the one that is
// embedded least deeply is in the JSON, and among these the one whose tag names it (see encoding/json.Marshal).
// above is what t is embedded in.
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
		compete(all, name, field)
	}
}

// compete enters a field for a name.
func compete(all map[string]namedField, name string, field namedField) {
	rival, ok := all[name]
	switch deeper := len(field.index) - len(rival.index); {
	case !ok, deeper < 0, deeper == 0 && field.tagged && !rival.tagged:
		all[name] = field
	case deeper == 0 && field.tagged == rival.tagged:
		rival.tie = true
		all[name] = rival
	}
}

// validName reports whether encoding/json takes a tag's name.
func validName(name string) bool {
	const punctuation = "!#$%&()*+-./:;<=>?@[]^_{|}~ "
	refused := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(punctuation, r)
	}
	return name != "" && !strings.ContainsFunc(name, refused)
}
