package atrium

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAssembly(t *testing.T) {
	for _, test := range []struct {
		in          string
		attachments []string
		want        string // the arguments
	}{
		{`51-["a",{"_placeholder":true,"num":0}]`, []string{"\x01\x02\x03"}, `"AQID"`},
		{`51-["a",{"_placeholder":true,"num":0}]`, []string{""}, `""`},
		{`51-["a",1,{"b":[{"_placeholder":true,"num":0}, 2]},3]`, []string{"\x01"}, `1,{"b":["AQ==", 2]},3`},
		{`52-["a",{ "num" : 1 , "_placeholder" : true },{"_placeholder":true,"num":0}]`, []string{"\x01", "\x02"}, `"Ag==","AQ=="`},
		{`52-["a",{"_placeholder":true,"num":1}]`, []string{"\x01", "\x02"}, `"Ag=="`}, // num 0 is nobody's
		{`51-["a"]`, []string{"\x01"}, ``},
		{`51-["a",{"_placeholder":false,"num":7},{"num":3},{},[],{"_placeholder":"true"}]`, []string{"\x01"}, `{"_placeholder":false,"num":7},{"num":3},{},[],{"_placeholder":"true"}`},
		{`51-["a","{\"_placeholder\":true,\"num\":7}","\"_placeholder"]`, []string{"\x01"}, `"{\"_placeholder\":true,\"num\":7}","\"_placeholder"`},
		{`61-7[{"_placeholder":true,"num":0}]`, []string{"\xff"}, `"/w=="`},
	} {
		p, err := parsePacket([]byte(test.in))
		if err != nil {
			t.Fatalf("%s: %v", test.in, err)
		}
		a, err := newAssembly(p, attachmentLimits{defaultMaxAttachments, 1 << 20})
		if err != nil {
			t.Fatalf("%s: %v", test.in, err)
		}
		clear(p.args.json) // the assembly has its own
		for i, attachment := range test.attachments {
			b := []byte(attachment)
			whole, done, err := a.add(b)
			clear(b) // likewise
			if err != nil || done != (i == len(test.attachments)-1) {
				t.Fatalf("%s: attachment %d: %v, %v", test.in, i, done, err)
			}
			if done && (string(whole.args.json) != test.want || whole.kind != p.kind || whole.attachments != 0) {
				t.Errorf("%s: %+v with %s, want %s", test.in, whole, whole.args.json, test.want)
			}
		}
	}
}

func TestPlaceholdersRefused(t *testing.T) {
	const form = `attachments: expected placeholders such as {"_placeholder":true,"num":0}`
	for _, test := range []struct{ args, want string }{
		{`{"_placeholder":true,"num":2}`, "attachments: num: expected less than 2"},
		{`{"_placeholder":true,"num":999999}`, "attachments: num: expected less than 2"},
		{`{"_placeholder":true,"num":0},[{"num":0,"_placeholder":true}]`, "attachments: num: expected 0 only once"},
		{`{"_placeholder":true}`, form},
		{`{"_placeholder":true,"num":99999999999999999999}`, form},
		{`{"_placeholder":true,"num":-1}`, form},
		{`{"_placeholder":true,"num":0.5}`, form},
		{`{"_placeholder":true,"num":0e1}`, form},
		{`{"_placeholder":true,"num":"0"}`, form},
		{`{"_placeholder":true,"num":null}`, form},
		{`{"_placeholder":true,"num":0,"num":0}`, form},
		{`{"_placeholder":true,"_placeholder":true,"num":0}`, form},
		{`{"_placeholder":true,"num":0,"more":1}`, form},
		{`[{"more":1,"_placeholder" : true,"num":0}]`, form},
		{`{"\u005fplaceholder":true,"num":0}`, form},
		{`{"_\u0070laceholder":true,"num":0}`, form},
		{`{"_placeholder":true,"\u006eum":0}`, form},
		{`{"a":{"_placeholder":true,"num":{"_placeholder":true,"num":0}}}`, form},
	} {
		if places, err := findPlaceholders([]byte(test.args), 2); err == nil || err.Message != test.want {
			t.Errorf("%s: %v, %v, want %s", test.args, places, err, test.want)
		}
	}
}

// A packet is bounded with all that belongs to it.
func TestAssemblyLimit(t *testing.T) {
	p, err := parsePacket([]byte(`52-["a",{"_placeholder":true,"num":0}]`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		limit, good int
	}{{len(p.args.json) + 20, 2}, {len(p.args.json) + 19, 1}, {len(p.args.json) + 9, 0}, {0, 0}} {
		a, err := newAssembly(p, attachmentLimits{defaultMaxAttachments, test.limit})
		if err != nil {
			t.Fatal(err)
		}
		good := 0
		for range 2 {
			if _, _, err := a.add(make([]byte, 10)); err != nil {
				break
			}
			good++
		}
		if good != test.good {
			t.Errorf("limit %d: %d attachments, want %d", test.limit, good, test.good)
		}
	}
}

// An attachment decodes into a []byte wherever it stands.
func TestAssemblyBind(t *testing.T) {
	p, err := decodeFrames([]vectorFrame{
		{Text: `53-["upload",{"name":"x","parts":[{"_placeholder":true,"num":0}],"thumb":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":2}]`},
		{Binary: []byte{1, 2}}, {Binary: []byte{}}, {Binary: []byte{3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	type upload struct {
		Name  string
		Parts [][]byte
		Thumb Binary
	}
	var got upload
	var last any
	e := Event{eventData: dataOf("", string(p.args.json), p.args.n, noID)} // no attachments: as at a plain client
	if err := e.Bind(&got, &last); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(upload{"x", [][]byte{{1, 2}}, Binary{}}, got); diff != "" || last != "Aw==" {
		t.Errorf("%v; %s", last, diff)
	}
}

// Looking for placeholders takes time linear in the size, whatever there is to look at.
func BenchmarkFindPlaceholders(b *testing.B) {
	for _, test := range []struct{ name, args string }{
		{"photo", `{"name":"x.png","type":"image/png","data":{"_placeholder":true,"num":0}}`},
		{"braces", strings.Repeat(`{"num":`, 120) + `0` + strings.Repeat("}", 120)},
		{"keys", `{` + strings.Repeat(`"_placeholder":false,"\u005fplaceholder":false,`, 10000) + `"a":1}`},
	} {
		b.Run(test.name, func(b *testing.B) {
			args := []byte(test.args)
			b.ReportAllocs()
			b.SetBytes(int64(len(args)))
			for b.Loop() {
				if _, err := findPlaceholders(args, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAssembly(b *testing.B) {
	p, err := parsePacket([]byte(`51-["photo",{"name":"x.png","data":{"_placeholder":true,"num":0}}]`))
	if err != nil {
		b.Fatal(err)
	}
	attachment := bytes.Repeat([]byte("photo"), 20000)
	b.ReportAllocs()
	b.SetBytes(int64(len(attachment)))
	for b.Loop() {
		a, err := newAssembly(p, attachmentLimits{defaultMaxAttachments, 1 << 20})
		if err != nil {
			b.Fatal(err)
		}
		if whole, done, err := a.add(attachment); !done || err != nil || len(whole.args.json) < len(attachment) {
			b.Fatal(done, err)
		}
	}
}
