package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// proxies are those that RUNNING.md has set up. A configuration is its snippet with the addresses
// of the test, in what the program needs around it.
var proxies = []struct {
	name, path string
	config     func(snippet, directory, port string) string
	args       func(config, directory string) []string
}{
	{"nginx", "/usr/sbin/nginx",
		func(snippet, directory, port string) string {
			snippet = strings.ReplaceAll(snippet, "listen 443 ssl", "listen 127.0.0.1:"+port+" ssl")
			return fmt.Sprintf("daemon off; pid nginx.pid; error_log stderr; events {}\nhttp {\naccess_log off;\n"+
				"client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n%s\n}\n", snippet)
		},
		func(config, directory string) []string { return []string{"-p", directory, "-c", config} },
	},
	{"caddy", "/usr/bin/caddy",
		func(snippet, directory, port string) string {
			pem := filepath.Join(directory, "cert.pem")
			snippet = strings.ReplaceAll(snippet, "chat.example.com {", fmt.Sprintf("https://localhost:%s {\n\tbind 127.0.0.1\n\ttls %s %s", port, pem, pem))
			return "{\n\tadmin off\n\tauto_https disable_redirects\n\tlog {\n\t\tlevel ERROR\n\t}\n}\n" + snippet
		},
		func(config, directory string) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", config}
		},
	},
	{"haproxy", "/usr/sbin/haproxy",
		func(snippet, directory, port string) string {
			return strings.ReplaceAll(snippet, "bind :443", "bind 127.0.0.1:"+port)
		},
		func(config, directory string) []string { return []string{"-db", "-q", "-f", config} },
	},
}

// TestProxies runs what RUNNING.md says of proxies: each is started before two nodes, and clients
// of all kinds come through it.
func TestProxies(t *testing.T) {
	t.Parallel()
	needNode(t, "socket.io-client")
	document, err := os.ReadFile("../RUNNING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			snippet := regexp.MustCompile("(?s)```" + p.name + "\n(.*?)```").FindSubmatch(document)
			if snippet == nil {
				t.Fatalf("RUNNING.md has no snippet of %s", p.name)
			}
			nodes := startNodes(t)
			directory := t.TempDir()
			roots := writeCertificate(t, filepath.Join(directory, "cert.pem"))
			text := strings.NewReplacer(
				"10.0.0.1:8080", nodes[0].addr, "10.0.0.2:8080", nodes[1].addr,
				"/etc/ssl/chat.example.com.pem", filepath.Join(directory, "cert.pem"),
				"/etc/ssl/chat.example.com.key", filepath.Join(directory, "cert.pem"),
			).Replace(string(snippet[1]))
			_, port, _ := net.SplitHostPort(quietAddr(t))
			config := filepath.Join(directory, "config")
			if err := os.WriteFile(config, []byte(p.config(text, directory, port)), 0o600); err != nil {
				t.Fatal(err)
			}
			startProxy(t, "127.0.0.1:"+port, exec.Command(p.path, p.args(config, directory)...), directory)
			useProxy(t, nodes, "https://localhost:"+port, roots, filepath.Join(directory, "cert.pem"))
		})
	}
}

// proxied is one of two hubs behind a proxy.
type proxied struct {
	hub  *atrium.Hub
	srv  *httptest.Server
	addr string

	mu   sync.Mutex      // guards:
	from map[string]bool // the addresses of clients, as the proxy has told them
}

func startNodes(t *testing.T) [2]*proxied {
	bus := new(atrium.MemoryBus)
	var nodes [2]*proxied
	for i := range nodes {
		n := &proxied{from: make(map[string]bool)}
		behind := atrium.ForwardedClient(netip.MustParsePrefix("127.0.0.1/32"))
		n.hub = atrium.New(atrium.Options{
			Bus:    bus,
			Limits: atrium.Limits{ConnectionsPerClient: 10}, // else nobody asks for the key
			Logger: slog.New(slog.NewTextHandler(complaints{t}, &slog.HandlerOptions{Level: slog.LevelError})),
			ClientKey: func(r *http.Request) string {
				key := behind(r)
				n.mu.Lock()
				defer n.mu.Unlock()
				n.from[key] = true
				return key
			},
		})
		n.hub.OnConnect(func(s *atrium.Socket) { _ = s.Join("news") })
		mux := http.NewServeMux()
		mux.Handle("/socket.io/", n.hub)
		n.srv = httptest.NewServer(mux)
		n.addr = n.srv.Listener.Addr().String()
		t.Cleanup(n.kill)
		nodes[i] = n
	}
	return nodes
}

// kill ends the node as the end of its process would.
func (n *proxied) kill() {
	n.srv.Listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n.hub.Shutdown(ctx)
	n.srv.CloseClientConnections()
}

// useProxy connects clients through a proxy; then one of the nodes is killed.
func useProxy(t *testing.T, nodes [2]*proxied, address string, roots *x509.CertPool, certificate string) {
	const browsers = 20
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, "node", "proxies.mjs", address, fmt.Sprint(browsers))
	command.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+certificate)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		command.Wait()
		if t.Failed() {
			t.Logf("the clients in Node: %s", &complaints)
		}
	}()
	lines := bufio.NewScanner(out)
	says := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the clients in Node say %q, want %q; %v", lines.Text(), want, lines.Err())
		}
	}
	says(fmt.Sprintf(`{"upgraded":%d}`, browsers))

	// From a page of the address that the proxy has: the node must get the Host as it is.
	plain, _, err := atrium.Dial(ctx, "wss"+strings.TrimPrefix(address, "https")+"/socket.io/", atrium.DialOptions{
		Header: http.Header{"Origin": {address}}, TLSConfig: &tls.Config{RootCAs: roots},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.CloseNow()
	heard := make(chan string, 10)
	client := atrium.NewClient(address, atrium.ClientOptions{Dial: atrium.DialOptions{TLSConfig: &tls.Config{RootCAs: roots}},
		Backoff: atrium.Backoff{Min: 100 * time.Millisecond}})
	defer client.Close()
	atrium.On(client, "news", func(_ *atrium.Client, news string) error { heard <- news; return nil })
	if err := client.Connect(ctx); err != nil {
		t.Fatal(err)
	}

	waitFor(ctx, t, nodes[0].hub, browsers+2)
	publish := func(news string) {
		t.Helper()
		if err := nodes[0].hub.To("news").Emit("news", news); err != nil {
			t.Fatal(err)
		}
		says(fmt.Sprintf(`{"heard":%q}`, news))
		if got := <-heard; got != news {
			t.Errorf("the client in Go heard %q, want %q", got, news)
		}
	}
	publish("first")
	for {
		_, text, err := plain.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var message struct{ Event, Data string }
		if json.Unmarshal(text, &message) == nil && message.Event == "news" {
			break
		}
	}
	plain.CloseNow() // it would not come back
	from := make(map[string]bool)
	for i, n := range nodes {
		n.mu.Lock()
		if len(n.from) == 0 {
			t.Errorf("no client has come to node %d", i)
		}
		for address := range n.from {
			from[address] = true
		}
		n.mu.Unlock()
	}
	for i := range browsers {
		if address := fmt.Sprintf("127.0.0.%d", 2+i); !from[address] {
			t.Errorf("ForwardedClient did not find %s among %v", address, from)
		}
	}

	nodes[1].kill()
	waitFor(ctx, t, nodes[0].hub, browsers+1)
	publish("second")
}

// waitFor waits until as many sockets are in the room.
func waitFor(ctx context.Context, t *testing.T, h *atrium.Hub, want int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := h.To("news").Count(ctx)
		if err == nil && n == want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d clients, want %d; %v", n, want, err)
		}
	}
}

// startProxy runs a proxy until the test ends, and waits until it listens.
func startProxy(t *testing.T, addr string, command *exec.Cmd, directory string) {
	t.Helper()
	var output text
	command.Stdout, command.Stderr, command.Dir = &output, &output, directory
	command.Env = append(os.Environ(), "HOME="+directory, "XDG_DATA_HOME="+directory, "XDG_CONFIG_HOME="+directory)
	if err := command.Start(); err != nil {
		t.Fatalf("these tests need %s, of Debian's package of that name: %v", command.Path, err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		command.Wait()
	}()
	t.Cleanup(func() {
		command.Process.Signal(os.Interrupt)
		select {
		case <-gone:
		case <-time.After(patience):
			t.Errorf("%s does not end", command.Path)
			command.Process.Kill()
			<-gone
		}
		if t.Failed() {
			t.Logf("%s: %s", command.Path, &output)
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		select {
		case <-gone:
			t.Fatalf("%s ended", command.Path)
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("%s does not listen", command.Path)
		}
	}
}

// writeCertificate makes one for localhost, and writes it into a file with its key.
func writeCertificate(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path, append(certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	return roots
}
