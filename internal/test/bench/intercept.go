package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/intercept"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// interceptedSize is what one intercepted request carries, in bytes.
const interceptedSize = 500e6

// measureInterception measures requests through the proxy, with client and server in
// this process, too: TLS is ended and begun twice. It is the proxy alone, without the
// machine whose requests it looks into.
func (b *bench) measureInterception(ctx context.Context) error {
	var down [2]values
	for i, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for range b.runs(5) {
			seconds, err := interceptOnce(ctx, proto)
			if err != nil {
				return err
			}
			down[i].add(interceptedSize / 1e6 / seconds)
		}
	}
	const what = "500 MB by an intercepted request, with its client and its server, that is with four ends of TLS, on the same computer"
	b.add(down[0].row("interception: h1", "MB/s", what).atLeast(100))
	b.add(down[1].row("interception: h2", "MB/s", what+"; by HTTP/2").atLeast(100))
	return nil
}

func interceptOnce(ctx context.Context, proto string) (seconds float64, err error) {
	const name = "example.com" // that of httptest's certificate
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(interceptedSize, 10))
		io.CopyN(w, zeros{}, interceptedSize)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	set := policy.New(plan.Network{Egress: plan.EgressAllowlist, Allow: []plan.Rule{{Host: name}}})
	proxy, err := intercept.New(intercept.Config{
		Policy: func() *policy.Set { return set },
		Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", server.Listener.Addr().String())
		},
		Roots:  roots,
		Record: func(audit.Event) {},
	})
	if err != nil {
		return 0, err
	}
	defer proxy.Close()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer front.Close()
	go func() {
		for {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			go proxy.Serve(ctx, conn, name, 443)
		}
	}()
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(proxy.Authority()) {
		return 0, errors.New("the proxy's authority is none")
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(proto == "HTTP/1.1")
	protocols.SetHTTP2(proto == "HTTP/2.0")
	transport := &http.Transport{
		Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", front.Addr().String())
		},
	}
	defer transport.CloseIdleConnections()
	begun := time.Now()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + name + "/")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (n != interceptedSize || resp.Proto != proto) {
		err = fmt.Errorf("%d bytes by %s, %s", n, resp.Proto, resp.Status)
	}
	return time.Since(begun).Seconds(), err
}
