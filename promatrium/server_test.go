package promatrium

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// monitor is a real Prometheus, in a process of its own.
type monitor struct {
	t   *testing.T
	url string
}

var listens = regexp.MustCompile(`msg="?Listening on"? address=(\S+)`)

// startPrometheus starts one that scrapes an address five times a second.
func startPrometheus(t *testing.T, target string) *monitor {
	t.Helper()
	rules, err := filepath.Abs("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	config := filepath.Join(directory, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: app, static_configs: [{targets: [%q]}]}]\n", rules, target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(directory, "data"),
		"--web.listen-address=127.0.0.1:0")
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = input, input
	bustest.StartProcess(t, command)
	input.Close()
	addresses := make(chan string, 1)
	go func() { // until the process ends
		defer close(addresses)
		defer output.Close()
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if match := listens.FindStringSubmatch(lines.Text()); match != nil {
				addresses <- match[1]
				break
			}
		}
		io.Copy(io.Discard, output)
	}()
	address, ok := <-addresses
	if !ok {
		t.Fatal("prometheus ended without listening")
	}
	return &monitor{t, "http://" + address}
}

// program is the path of one of Debian's package prometheus.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("these tests need %s (Debian and Ubuntu: apt-get install prometheus): %v", name, err)
	}
	return path
}

// query evaluates an expression and returns the values of the series.
func (m *monitor) query(expression string) ([]float64, error) {
	resp, err := http.PostForm(m.url+"/api/v1/query", url.Values{"query": {expression}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any } // the time and, as a string, the value
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	var values []float64
	for _, series := range answer.Data.Result {
		value, err := strconv.ParseFloat(fmt.Sprint(series.Value[1]), 64)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

const strangeName = "/<b onclick=\"x()\">\u202e🦜"

// TestPrometheus lets a real Prometheus scrape a hub, and asks it what has been done there.
func TestPrometheus(t *testing.T) {
	h := atrium.New(atrium.Options{Logger: slog.New(slog.DiscardHandler)})
	handle(h)
	h.Of(strangeName)
	registry := prometheus.NewRegistry()
	registry.MustRegister(New(h))
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	t.Cleanup(app.CloseClientConnections)
	prom := startPrometheus(t, app.Listener.Addr().String())

	use(t, h, app)
	figures := map[string]float64{
		`atrium_ready`: 1,
		`atrium_clients{protocol="socketio", transport="websocket"}`:     2,
		`atrium_clients{protocol="socketio", transport="polling"}`:       1,
		`atrium_clients{protocol="plain", transport="websocket"}`:        2,
		`atrium_clients_pending`:                                         0,
		`atrium_clients_opened_total`:                                    7,
		`atrium_sockets{namespace="/"}`:                                  5,
		`atrium_sockets{namespace=` + strconv.Quote(strangeName) + `}`:   0,
		`atrium_rooms{namespace="/"}`:                                    1,
		`atrium_refused_total{reason="origin"}`:                          4,
		`sum(atrium_refused_total)`:                                      4,
		`atrium_disconnects_total{reason="client namespace disconnect"}`: 1,
		`atrium_disconnects_total{reason="forced server close"}`:         1,
		`sum(atrium_disconnects_total)`:                                  2,
		`atrium_received_events_total`:                                   8, // 4 joins, 3 failures, a panic
		`atrium_deliveries_total`:                                        5 + 1,
		`atrium_handler_errors_total`:                                    3,
		`atrium_handler_panics_total`:                                    1,
		`atrium_handler_duration_seconds_count`:                          8,
		`atrium_handler_wait_seconds_count`:                              8,
		`atrium_handler_wait_seconds_bucket{le="+Inf"}`:                  8,
		`atrium_calls_total{result="answered"}`:                          1,
		`atrium_calls_total{result="timed_out"}`:                         0,
		`atrium_calls_pending`:                                           0,
		`atrium_cluster_nodes`:                                           0,
		`time() - atrium_start_time_seconds < bool 600`:                  1,
	}
	bustest.Eventually(t, func() (err error) { // the next scrape
		for query, want := range figures {
			got, failed := prom.query(query)
			if failed == nil && (len(got) != 1 || got[0] != want) {
				failed = fmt.Errorf("%s: got %v, want %v", query, got, want)
			}
			err = errors.Join(err, failed)
		}
		return err
	})
	bustest.Eventually(t, func() (err error) { // a rate takes two scrapes
		for _, e := range expressions(t) {
			e = strings.NewReplacer("$job", "app", "$instance", ".*", "$__rate_interval", "1m", "$__range", "1m").Replace(e)
			if got, failed := prom.query(e); failed != nil || len(got) == 0 {
				err = errors.Join(err, fmt.Errorf("the dashboard has %s: %d series, %v", e, len(got), failed))
			}
		}
		return err
	})
	if firing, err := prom.query("ALERTS"); err != nil || len(firing) > 0 {
		t.Errorf("%d alerts, %v", len(firing), err)
	}
}

// handle registers what the clients of use ask for.
func handle(h *atrium.Hub) {
	atrium.On(h, "join", func(s *atrium.Socket, room string) error { return s.Join(room) })
	atrium.On(h, "fail", func(*atrium.Socket, int) error { return atrium.Errorf("no") })
	atrium.On(h, "panic", func(*atrium.Socket, int) error { panic("on purpose") })
}

// use is some minutes in the life of a hub. What it does has been done when it returns.
func use(t *testing.T, h *atrium.Hub, app *httptest.Server) {
	t.Helper()
	ctx := t.Context()
	sockets := make(chan *atrium.Socket, 10)
	left := make(chan struct{}, 10)
	h.OnConnect(func(s *atrium.Socket) { sockets <- s })
	h.OnDisconnect(func(*atrium.Socket, atrium.Reason) { left <- struct{}{} })
	var clients []*atrium.Client
	var first *atrium.Socket
	for i := range 4 {
		c := atrium.NewClient(app.URL, atrium.ClientOptions{Backoff: atrium.Backoff{Min: time.Hour}}) // does not come back
		t.Cleanup(func() { c.Close() })
		atrium.OnCall(c, "add", func(_ *atrium.Client, n []int) (int, error) { return n[0] + n[1], nil })
		if err := c.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		if s := <-sockets; i == 0 {
			first = s
		}
		clients = append(clients, c)
		if _, err := atrium.Call[any](ctx, c, "join", fmt.Sprint("room ", i/2)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := atrium.Call[any](ctx, clients[0], "fail", 1); err == nil {
			t.Error("a handler did not fail")
		}
	}
	if sum, err := atrium.Call[int](ctx, first, "add", []int{2, 3}); sum != 5 || err != nil {
		t.Errorf("a call: %d, %v", sum, err)
	}
	_ = clients[3].Emit("panic", 1)
	<-left
	clients[2].Close()
	<-left

	for range 2 {
		dialPlain(ctx, t, app.URL)
		<-sockets
	}
	poll(t, app.URL)
	<-sockets
	for range 4 {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, app.URL+"/socket.io/?EIO=4&transport=polling", nil)
		r.Header.Set("Origin", "https://elsewhere.example")
		if status, _ := do(t, r); status != http.StatusForbidden {
			t.Errorf("another origin got %d", status)
		}
	}
	if err := h.Emit("news", "it rains"); err != nil {
		t.Error(err)
	}
}

func dialPlain(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	c, _, err := atrium.Dial(ctx, "ws"+strings.TrimPrefix(address, "http")+"/socket.io/", atrium.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
}

// poll connects a Socket.IO client that polls.
func poll(t *testing.T, address string) {
	t.Helper()
	endpoint := address + "/socket.io/?EIO=4&transport=polling"
	r, _ := http.NewRequest(http.MethodGet, endpoint, nil)
	_, opened := do(t, r)
	var handshake struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(opened, "0")), &handshake); err != nil {
		t.Fatalf("%q: %v", opened, err)
	}
	r, _ = http.NewRequest(http.MethodPost, endpoint+"&sid="+handshake.SID, strings.NewReader("40"))
	if status, _ := do(t, r); status != http.StatusOK {
		t.Fatalf("the packet that connects: %d", status)
	}
}

func do(t *testing.T, r *http.Request) (status int, body string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestAlerts lets promtool check the rules, and what they do: see alerts_test.yml.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := exec.Command(program(t, "promtool"), args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
