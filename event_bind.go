package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// validator is implemented by types of the application that check their own values.
type validator interface{ Validate() error }

// bind decodes a JSON value, which is null if it is empty, into the value that v points to, and
// validates that. what names the value in errors.
func bind(value []byte, v any, what string) error {
	pointer := reflect.ValueOf(v)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		panic(fmt.Sprintf("atrium: Bind needs pointers, got %T", v))
	}
	if len(value) > 0 {
		if err := json.Unmarshal(value, v); err != nil {
			return decodeError(err, what)
		}
	}
	if pointed := pointer.Elem(); pointed.Kind() == reflect.Pointer {
		if pointed.IsNil() {
			return nil // a *T says that null is fine
		}
		v = pointed.Interface()
	}
	validates, ok := v.(validator)
	if !ok {
		mustValidate(pointer.Type().Elem())
		return nil
	}
	err := errorOf(validates.Validate())
	if public, ok := asError(err); ok {
		return public
	}
	return err
}

// mustValidate panics if type t has a method Validate that is not validator's, and would never be
// called.
func mustValidate(t reflect.Type) {
	if t.Kind() != reflect.Pointer {
		t = reflect.PointerTo(t)
	}
	if m, ok := t.MethodByName("Validate"); ok && !t.Implements(reflect.TypeFor[validator]()) {
		panic(fmt.Sprintf("atrium: the method Validate of %v: expected func() error, got a %v", t.Elem(), m.Type))
	}
}

// decodeError turns an error of encoding/json into one for the sender, who knows nothing of Go's
// types.
func decodeError(err error, what string) error {
	e, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return Errorf("%s: %s", what, strings.TrimPrefix(err.Error(), "json: "))
	}
	if e.Field != "" {
		what = e.Field
	}
	return Errorf("%s: expected %s, got %s", what, jsonTypeName(e.Type), e.Value)
}

// jsonTypeName describes the JSON values that decode into a type.
func jsonTypeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int64:
		return "an integer"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return fmt.Sprintf("an integer from %d to %d", -1<<(t.Bits()-1), 1<<(t.Bits()-1)-1)
	case reflect.Uint, reflect.Uint64, reflect.Uintptr:
		return "an integer that is not negative"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("an integer from 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Pointer:
		return jsonTypeName(t.Elem())
	}
	return "a " + t.String()
}
