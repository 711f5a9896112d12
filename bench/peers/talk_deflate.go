package main

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/atrium-go/atrium/bench/process"
)

// document is what surrounds the number in a JSON document of 4 KB.
var document = func() envelope {
	random := rand.New(rand.NewPCG(1, 2))
	var orders strings.Builder
	for orders.Len() < 4000 {
		fmt.Fprintf(&orders, `{"id":%d,"customer":"%s","quantity":%d,"price":%.2f,"shipped":%v},`,
			random.IntN(1e6), []string{"Ada", "Grace", "Edsger", "Barbara"}[random.IntN(4)], random.IntN(100), random.Float64()*1000, random.IntN(2) == 0)
	}
	return envelope{`{"number":"`, `","orders":[` + orders.String() + `{}]}`}
}()

// A deflater has one compressed document echoed at a time. Each is compressed by itself, without
// what was in earlier ones.
type deflater struct {
	listener
	document message
	sent     int
}

func deflaters(p place) (talker, error) {
	p.extensions = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	c, err := p.enter()
	if err != nil {
		return nil, err
	}
	m := message{document, document.len() + digits}
	return &deflater{listener: listener{c, process.OpText, newChecker(m)}, document: m}, nil
}

// A codec compresses and decompresses.
type codec struct {
	w   *flate.Writer
	out bytes.Buffer
}

var codecs = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	check(err)
	return &codec{w: w}
}}

func (d *deflater) turn() error {
	z := codecs.Get().(*codec)
	z.out.Reset()
	z.w.Reset(&z.out)
	z.w.Write(d.document.bytes(d.sent))
	z.w.Flush()
	d.sent++
	payload := bytes.TrimSuffix(z.out.Bytes(), []byte(process.DeflateTail))
	frame := process.Frame(process.OpText, string(payload))
	frame[0] |= 0x40 // compressed
	codecs.Put(z)
	if _, err := d.Write(frame); err != nil {
		return err
	}
	got, err := next(d.Client, process.OpText)
	if err != nil {
		return err
	}
	if !d.Compressed {
		return errors.New("the answer is not compressed")
	}
	z = codecs.Get().(*codec)
	defer codecs.Put(z)
	z.out.Reset()
	if err := process.Inflate(&z.out, got); err != nil {
		return err
	}
	return d.heard.check(z.out.Bytes())
}
