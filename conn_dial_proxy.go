package atrium

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/proxy"
)

// proxyFor returns the URL of the proxy, or nil if there is none.
func (o *DialOptions) proxyFor(req *http.Request) (*url.URL, error) {
	choose := o.Proxy
	if choose == nil {
		choose = http.ProxyFromEnvironment
	}
	via, err := choose(req)
	switch {
	case err != nil:
		return nil, fmt.Errorf("choosing a proxy: %w", err)
	case via == nil:
		return nil, nil
	case via.Scheme != "http" && via.Scheme != "https" && via.Scheme != "socks5" && via.Scheme != "socks5h":
		return nil, fmt.Errorf("the scheme of a proxy is http, https or socks5, not %q", via.Scheme)
	case via.Hostname() == "":
		return nil, errors.New("the proxy's URL has no host")
	}
	return via, nil
}

// throughProxy makes the proxy at the other end of nc connect to target, a host and port. The
// response, if any, is the proxy's refusal.
func (o *DialOptions) throughProxy(ctx context.Context, nc net.Conn, via *url.URL, target string) (net.Conn, *http.Response, error) {
	switch via.Scheme {
	case "socks5", "socks5h":
		return nc, nil, connectSOCKS(nc, via, target)
	case "https":
		var err error
		if nc, err = o.encrypt(ctx, nc, via.Hostname()); err != nil {
			return nil, nil, err
		}
	}
	resp, err := connectHTTP(nc, via, target)
	return nc, resp, err
}

// connectSOCKS makes a SOCKS5 proxy connect nc to target (RFC 1928).
func connectSOCKS(nc net.Conn, via *url.URL, target string) error {
	dialer, err := proxy.FromURL(via, viaConn{nc})
	if err != nil {
		return err
	}
	// It returns nc, or a wrapper without behaviour. It needs no context: connect closes nc.
	_, err = dialer.Dial("tcp", target)
	return err
}

// viaConn is a dialer that returns an open connection.
type viaConn struct{ nc net.Conn }

func (c viaConn) Dial(_, _ string) (net.Conn, error)                            { return c.nc, nil }
func (c viaConn) DialContext(context.Context, string, string) (net.Conn, error) { return c.nc, nil }

// connectHTTP makes an HTTP proxy connect nc to target (RFC 9110 §9.3.6).
func connectHTTP(nc net.Conn, via *url.URL, target string) (*http.Response, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if via.User != nil {
		password, _ := via.User.Password()
		req.SetBasicAuth(via.User.Username(), password)
		req.Header["Proxy-Authorization"] = req.Header["Authorization"]
		req.Header.Del("Authorization")
	}
	resp, br, err := exchange(nc, req)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode/100 != 2:
		return resp, newHandshakeError(nc, resp, fmt.Sprintf("refused with %.200q", resp.Status))
	case br.Buffered() > 0: // RFC 9110 §9.3.6: no content, and a server does not speak first
		return nil, errors.New("sent something behind its answer")
	}
	return nil, nil
}
