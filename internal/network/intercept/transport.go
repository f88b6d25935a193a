package intercept

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// transport makes requests to hosts. What a host sends ahead of a guest that does not read
// is held here: most requests have a small window, a few at a time have one that is
// large enough for hosts that are far away.
type transport struct{ small, large *http.Transport }

func (p *Proxy) newTransport() *transport {
	with := func(window int) *http.Transport {
		return &http.Transport{
			DialContext:           p.dial,
			Proxy:                 webProxy,
			TLSClientConfig:       &tls.Config{RootCAs: p.cfg.Roots},
			TLSHandshakeTimeout:   headerTimeout,
			ForceAttemptHTTP2:     true,
			HTTP2:                 clientHTTP2(window),
			DisableCompression:    true, // what is compressed is between the two ends
			MaxIdleConns:          maxIdle,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       30 * time.Second,
			ExpectContinueTimeout: time.Second,
			WriteBufferSize:       hostBuffer,
			ReadBufferSize:        hostBuffer,

			MaxResponseHeaderBytes: maxRespHeaders,
		}
	}
	return &transport{small: with(smallWindow), large: with(largeWindow)}
}

func (t *transport) closeIdle() {
	t.small.CloseIdleConnections()
	t.large.CloseIdleConnections()
}

// roundTripper is httputil.ReverseProxy.Transport.
type roundTripper struct{ *Proxy }

func (p roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	via, err := p.via(r)
	if err != nil {
		return nil, err
	}
	if via != nil {
		r = r.WithContext(context.WithValue(r.Context(), proxyKey{}, via))
		// It goes where the request says. The port in Host is the guest's word.
		r.Host = r.URL.Host
	}
	t, e := p.transport.Load(), exchangeOf(r)
	to := t.small
	if e.large {
		to = t.large
	}
	resp, err := to.RoundTrip(r)
	if op, ok := errors.AsType[*net.OpError](err); ok && via != nil && op.Op == "proxyconnect" {
		err = op.Err // which says so itself
	}
	if err == nil && via != nil && resp.StatusCode == http.StatusProxyAuthRequired {
		resp.Body.Close()
		return nil, fmt.Errorf("the proxy %s: it answers %s", via.Host, termsafe.Line(termsafe.Clip(resp.Status, 100)))
	}
	if err == nil && via != nil && via.User != nil && resp.StatusCode >= http.StatusBadRequest {
		withoutPassword(resp, via.User)
	}
	return resp, err
}

// withoutPassword takes the password of a proxy out of an answer. It may be a page of the
// proxy's own that says what is wrong, and some show the request that they got.
func withoutPassword(resp *http.Response, user *url.Userinfo) {
	password, _ := user.Password()
	plain := user.Username() + ":" + password
	s := newScrubber([]*secret.Secret{
		{Value: secret.NewValue(plain)}, {Value: secret.NewValue(base64.StdEncoding.EncodeToString([]byte(plain)))},
	})
	s.header(resp.Header)
	resp.Body = &scrubbedBody{ReadCloser: resp.Body, stream: stream{scrubber: s}, atEnd: func() { s.header(resp.Trailer) }}
}

// via returns the proxy to which a request is sent as a whole. What is upgraded, and what
// is for no resource, goes through a connection that the proxy makes. So does TRACE, to
// which a proxy may answer itself with all that it was sent: also with its password.
func (p roundTripper) via(r *http.Request) (*url.URL, error) {
	if p.cfg.WebProxy == nil || r.URL.Scheme != "http" || len(r.Header["Upgrade"]) > 0 || r.Method == http.MethodTrace || !strings.HasPrefix(r.URL.RequestURI(), "/") {
		return nil, nil
	}
	c := exchangeOf(r).conn
	return p.cfg.WebProxy(r.Context(), c.name, c.port)
}

type proxyKey struct{}

// proxyOf returns the proxy to which a request is sent as a whole, nil for none.
func proxyOf(ctx context.Context) *url.URL {
	via, _ := ctx.Value(proxyKey{}).(*url.URL)
	return via
}

// webProxy is http.Transport.Proxy. TLS to the proxy is made with the connection.
func webProxy(r *http.Request) (*url.URL, error) {
	via := proxyOf(r.Context())
	if via == nil {
		return nil, nil
	}
	return &url.URL{Scheme: "http", Host: via.Host, User: via.User}, nil
}
