package promatrium

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var update = flag.Bool("update", false, "put the table of metrics into README.md")

// fixed collects always the same figures.
func fixed(s snapshot) prometheus.Collector { return collector{func() snapshot { return s }} }

func TestLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(New(atrium.New(atrium.Options{})))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestEveryFigureIsExported gives each number in Stats a value of its own, and looks for it among
// what is exported. A new figure fails it until it has a metric.
func TestEveryFigureIsExported(t *testing.T) {
	var s snapshot
	numbers := &numbering{paths: make(map[float64]string)}
	numbers.fill(reflect.ValueOf(&s.Stats).Elem(), "Stats")
	s.Clients.SocketIO, s.Clients.WebSocket = 7_000, 6_900 // by protocol and transport only as sums
	s.Clients.Plain, s.Clients.Polling = 1_000, 1_100
	exported := make(map[float64]bool)
	for _, f := range gather(t, fixed(s)) {
		for _, m := range f.Metric {
			exported[m.GetGauge().GetValue()+m.GetCounter().GetValue()] = true
			exported[m.GetHistogram().GetSampleSum()] = true
			below := uint64(0)
			for _, b := range m.GetHistogram().GetBucket() {
				exported[float64(b.GetCumulativeCount()-below)] = true
				below = b.GetCumulativeCount()
			}
			exported[float64(m.GetHistogram().GetSampleCount()-below)] = true
		}
	}
	for number, path := range numbers.paths {
		if strings.HasPrefix(path, "Stats.Clients.") && slices.Contains([]string{"Plain", "SocketIO", "WebSocket", "Polling"}, path[len("Stats.Clients."):]) {
			continue
		}
		if !exported[number] {
			t.Errorf("%s is not exported", path)
		}
	}
	for _, want := range []float64{1_000, 1_100, 5_900} {
		if !exported[want] {
			t.Errorf("there is no series of %v clients", want)
		}
	}
}

// numbering gives numbers to the fields of a value.
type numbering struct {
	next  int64
	paths map[float64]string // by what is to be exported
}

func (n *numbering) fill(v reflect.Value, path string) {
	n.next++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_000_000+n.next, 0)))
		n.paths[float64(1_000_000+n.next)] = path
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(int64(time.Second) * n.next)
		n.paths[float64(n.next)] = path
	case v.CanInt():
		v.SetInt(n.next)
		n.paths[float64(n.next)] = path
	case v.CanUint():
		v.SetUint(uint64(n.next))
		n.paths[float64(n.next)] = path
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			n.fill(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			n.fill(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"/", "/other"} {
			value := reflect.New(v.Type().Elem()).Elem()
			n.fill(value, fmt.Sprintf("%s[%q]", path, key))
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
		}
	default:
		panic("no number for " + path)
	}
}

// TestBucketsAreCumulative checks the form of histograms.
func TestBucketsAreCumulative(t *testing.T) {
	var s snapshot
	s.Handlers.Wait.Sum = 12500 * time.Millisecond
	last := len(atrium.HistogramBounds)
	s.Handlers.Wait.Counts[0], s.Handlers.Wait.Counts[1], s.Handlers.Wait.Counts[last] = 3, 2, 1
	for _, f := range gather(t, fixed(s)) {
		if f.GetName() != "atrium_handler_wait_seconds" {
			continue
		}
		h := f.Metric[0].GetHistogram()
		if h.GetSampleCount() != 6 || h.GetSampleSum() != 12.5 || len(h.Bucket) != last {
			t.Errorf("%d of %v seconds in %d buckets, want 6 of 12.5 in %d", h.GetSampleCount(), h.GetSampleSum(), len(h.Bucket), last)
		}
		if b := h.Bucket[0]; b.GetUpperBound() != 0.0001 || b.GetCumulativeCount() != 3 {
			t.Errorf("the first bucket is %v", b)
		}
		if b := h.Bucket[last-1]; b.GetUpperBound() != 10 || b.GetCumulativeCount() != 5 {
			t.Errorf("the last bucket is %v", b)
		}
	}
}

var strangeNames = []string{
	"/<script>alert(1)</script>",
	`/"quoted"\backslash`,
	"/new\nline} 1\natrium_rooms{namespace=\"forged\"} 7",
	"/\u202eevil\u2066\u200f",
	"/" + strings.Repeat("🦜", 63),
	"/nul\x00",
	"/\xff\xfe",
	"/\xc0\xaf", // differs from the one before only in what is no UTF-8
	"*", "/",
}

// TestStrangeNames scrapes names that nobody should choose, in each form that is served, and reads
// them as they were.
func TestStrangeNames(t *testing.T) {
	var s snapshot
	s.Namespaces = make(map[string]atrium.NamespaceStats)
	want := make(map[string]float64)
	for i, name := range strangeNames {
		s.Namespaces[name] = atrium.NamespaceStats{Sockets: 1 << i}
		want[strings.ToValidUTF8(name, "\uFFFD")] += float64(int(1) << i)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(fixed(s))
	for _, accept := range []string{"text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
		if w.Code != 200 {
			t.Fatalf("%s: %d: %s", accept, w.Code, w.Body)
		}
		if !strings.HasPrefix(w.Header().Get("Content-Type"), accept[:strings.Index(accept, ";")]) {
			t.Errorf("%s: got %s", accept, w.Header().Get("Content-Type"))
		}
		got := make(map[string]float64)
		for line := range strings.Lines(w.Body.String()) {
			if name, value, ok := sampleOf(t, "atrium_sockets", line); ok {
				got[name] = value
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: got  %v\nwant %v", accept, got, want)
		}
		if strings.Contains(accept, "openmetrics") {
			continue // this parser cannot read it; Prometheus itself does, in TestPrometheus
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(w.Body.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(families["atrium_sockets"].Metric); n != len(want) {
			t.Errorf("%d namespaces are parsed, want %d", n, len(want))
		}
		for _, m := range families["atrium_sockets"].Metric {
			if name := m.Label[0].GetValue(); want[name] != m.Gauge.GetValue() {
				t.Errorf("%q has %v sockets, want %v", name, m.Gauge.GetValue(), want[name])
			}
		}
	}
}

// sampleOf reads a line of one label.
func sampleOf(t *testing.T, metric, line string) (label string, value float64, ok bool) {
	t.Helper()
	text, ok := strings.CutPrefix(line, metric+`{namespace="`)
	if !ok {
		return "", 0, false
	}
	i := strings.LastIndex(text, `"} `)
	if i < 0 {
		t.Fatalf("not a sample: %q", line)
	}
	if _, err := fmt.Sscan(text[i+3:], &value); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(text[:i]), value, true
}

// TestReadmeCode checks that the code of README.md is that of ExampleNew.
func TestReadmeCode(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(readme)
	if code == nil || !strings.Contains(strings.ReplaceAll(string(example), "\n\t", "\n"), "\n"+string(code[1])) {
		t.Errorf("example_test.go has not the code of README.md: %s", code)
	}
}

// TestReadme compares the table of metrics in README.md with what is exported.
func TestReadme(t *testing.T) {
	var s snapshot
	s.Namespaces = map[string]atrium.NamespaceStats{"/": {}}
	families := gather(t, fixed(s))
	var table strings.Builder
	table.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	for _, f := range families {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labelsOf(f), f.GetHelp())
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?s)\| metric \|.*?\n(?:\n|$)`)
	if got := strings.TrimRight(string(shown.Find(readme)), "\n"); got == strings.TrimRight(table.String(), "\n") {
		return
	}
	if !*update {
		t.Fatalf("the table is not that of the collector any more (go test -update mends it):\n%s", &table)
	}
	mended := shown.ReplaceAllLiteralString(string(readme), table.String()+"\n")
	if err := os.WriteFile("README.md", []byte(mended), 0o644); err != nil {
		t.Fatal(err)
	}
}

// labelsOf lists the labels of a family, with their values if they are always the same.
func labelsOf(f *dto.MetricFamily) string {
	values := make(map[string][]string)
	for _, m := range f.Metric {
		for _, l := range m.Label {
			if !slices.Contains(values[l.GetName()], "`"+l.GetValue()+"`") {
				values[l.GetName()] = append(values[l.GetName()], "`"+l.GetValue()+"`")
			}
		}
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name == "namespace" {
			labels = append(labels, "namespace")
			continue
		}
		slices.Sort(values[name])
		labels = append(labels, name+": "+strings.Join(values[name], ", "))
	}
	return strings.Join(labels, "; ")
}

func gather(t *testing.T, c prometheus.Collector) []*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}
