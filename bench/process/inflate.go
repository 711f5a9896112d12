package process

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"sync"
)

// DeflateTail is what a flush ends with, and messages do not have (RFC 7692 §7.2.1).
const DeflateTail = "\x00\x00\xff\xff"

// finalBlock, behind a message's tail, is the last one, which lets a reader end.
const finalBlock = "\x01\x00\x00\xff\xff"

var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// Inflate appends a message to out that was compressed by itself, without what was in earlier ones.
func Inflate(out *bytes.Buffer, message []byte) error {
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	if err := r.(flate.Resetter).Reset(io.MultiReader(bytes.NewReader(message), strings.NewReader(DeflateTail+finalBlock)), nil); err != nil {
		return err
	}
	if _, err := out.ReadFrom(r); err != nil {
		return fmt.Errorf("inflating: %w", err)
	}
	return nil
}
