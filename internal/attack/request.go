package attack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// requests aims at others through an allowed host.
func requests() []attempt {
	return []attempt{
		{name: "another name in TLS", needs: allowed, try: otherServerName, trace: traceOf("the name in TLS")},
		{name: "no name in TLS", needs: allowed, try: noServerName, trace: traceOf("TLS")},
		{name: "a warning before the name in TLS", needs: allowed, try: warningFirst, trace: traceOf("TLS that does not begin")},
		{name: "SSL 2", needs: allowed, try: sslv2, trace: traceOf("TLS that does not begin")},
		{name: "another host on a connection in use, HTTP/2", needs: allowed, try: otherHost("HTTP/2.0"), trace: traceOf("421")},
		{name: "another host on a connection in use, HTTP/1.1", needs: allowed, try: otherHost("HTTP/1.1"), trace: traceOf("421")},
		{name: "CONNECT through an allowed host", needs: allowed, try: proxyConnect, trace: traceOf("CONNECT")},
		{name: "DNS over HTTPS at an allowed host", needs: allowed, try: dnsOverHTTPS, trace: traceOf("403")},
		{name: "headers without end", needs: allowed, try: endlessHeaders, trace: traceOf("headers")},
		{name: "secret to another host", needs: secretOf, try: secretElsewhere, trace: traceOf("secret")},
		{name: "another method by a header", needs: limited, try: limitedTo("", "X-HTTP-Method-Override"), trace: traceOf("X-Http-Method-Override")},
		{name: "another method by another header", needs: limited, try: limitedTo("", "X-Method-Override"), trace: traceOf("X-Method-Override")},
		{name: "another path by a header", needs: limited, try: limitedTo("", "X-Original-URL"), trace: traceOf("X-Original-Url")},
		{name: "another path by another header", needs: limited, try: limitedTo("", "X-Rewrite-URL"), trace: traceOf("X-Rewrite-Url")},
		{name: "another method by a parameter", needs: limited, try: limitedTo("?_method=DELETE", ""), trace: traceOf("-method")},
		{name: "another path, encoded", needs: limited, try: limitedTo("/..%2fattack", ""), trace: traceOf("more than one way")},
		{name: "another path, encoded twice", needs: limited, try: limitedTo("/%252e%252e/attack", ""), trace: traceOf("more than one way")},
		{name: "another path, overlong dots", needs: limited, try: limitedTo("/%c0%ae%c0%ae/attack", ""), trace: traceOf("more than one way")},
		{name: "another path, parameters", needs: limited, try: limitedTo("/..;/attack", ""), trace: traceOf("more than one way")},
	}
}

// warningFirst sends an alert that servers skip, and then TLS for another host.
func warningFirst(ctx context.Context, t Target) (bool, string) {
	d := net.Dialer{}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.Allowed, "443"))
	if err != nil {
		return refusedBy(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{21, 3, 1, 0, 2, 1, 0}); err != nil {
		return refusedBy(err)
	}
	if err := tls.Client(conn, &tls.Config{ServerName: "attack.invalid", InsecureSkipVerify: true}).HandshakeContext(ctx); err != nil {
		return refusedBy(err)
	}
	return gotThrough("a TLS connection")
}

// sslv2 begins as old clients did, and expects the end.
func sslv2(ctx context.Context, t Target) (bool, string) {
	d := net.Dialer{}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.Allowed, "443"))
	if err != nil {
		return refusedBy(err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	hello := []byte{0x80, 0x1c, 1, 3, 1, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f}
	if _, err := conn.Write(append(hello, make([]byte, 16)...)); err != nil {
		return refusedBy(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n == 0 {
		return refusedBy(err)
	}
	return gotThrough("an answer")
}

// limitedTo makes a request that a rule allows but for what is added to its path, and a
// header.
func limitedTo(add, header string) func(context.Context, Target) (bool, string) {
	return func(ctx context.Context, t Target) (bool, string) {
		conn, err := dial(ctx, Target{Allowed: t.Limited.Host})
		if err != nil {
			return gotThrough("%v", err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s %s%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n", t.Limited.Method, strings.TrimSuffix(t.Limited.Path, "/"), add, t.Limited.Host)
		if header != "" {
			fmt.Fprintf(conn, "%s: /attack\r\n", header)
		}
		fmt.Fprint(conn, "\r\n")
		return answeredWith(conn, http.StatusBadRequest)
	}
}

// client returns an HTTP client with connections of its own.
func client(proto string) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(proto == "HTTP/1.1")
	protocols.SetHTTP2(proto == "HTTP/2.0")
	return &http.Client{
		Transport:     &http.Transport{Protocols: protocols, MaxConnsPerHost: 1, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func otherServerName(ctx context.Context, t Target) (bool, string) {
	return handshake(ctx, t, "attack.invalid")
}

func noServerName(ctx context.Context, t Target) (bool, string) { return handshake(ctx, t, "") }

// handshake connects to the allowed host and names another.
func handshake(ctx context.Context, t Target, name string) (bool, string) {
	d := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}
	if name == "" {
		// An address is never sent as a name, RFC 6066 3.
		d.Config.ServerName = "192.0.2.1"
	}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.Allowed, "443"))
	if err != nil {
		return refusedBy(err)
	}
	conn.Close()
	return gotThrough("a TLS connection")
}

// otherHost makes a request that is allowed, and on the same connection one for
// another host.
func otherHost(proto string) func(context.Context, Target) (bool, string) {
	return func(ctx context.Context, t Target) (bool, string) {
		c := client(proto)
		defer c.CloseIdleConnections()
		if status, err := get(ctx, c, t.Allowed, "", nil); err != nil || status == http.StatusMisdirectedRequest {
			return gotThrough("the allowed host does not answer: %d, %v", status, err)
		}
		status, err := get(ctx, c, t.Allowed, "attack.invalid", nil)
		if err != nil {
			return refusedBy(err)
		}
		if status != http.StatusMisdirectedRequest {
			return gotThrough("status %d", status)
		}
		return true, "421 Misdirected Request"
	}
}

// get makes a request to the allowed host for host, the same if that is empty.
func get(ctx context.Context, c *http.Client, to, host string, header http.Header) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+to+"/", nil)
	if err != nil {
		return 0, err
	}
	req.Host = host
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, nil
}

// dial returns a TLS connection to the allowed host that speaks HTTP/1.1.
func dial(ctx context.Context, t Target) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{ServerName: t.Allowed, NextProtos: []string{"http/1.1"}}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.Allowed, "443"))
	if err != nil {
		return nil, fmt.Errorf("the allowed host does not answer: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	return conn, nil
}

func proxyConnect(ctx context.Context, t Target) (bool, string) {
	conn, err := dial(ctx, t)
	if err != nil {
		return gotThrough("%v", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT attack.invalid:443 HTTP/1.1\r\nHost: attack.invalid:443\r\n\r\n")
	return answeredWith(conn, 400)
}

// answeredWith expects an answer of at least this status, or none.
func answeredWith(conn net.Conn, least int) (bool, string) {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return refusedBy(err)
	}
	resp.Body.Close()
	if resp.StatusCode < least {
		return gotThrough("status %s", resp.Status)
	}
	return true, resp.Status
}

func dnsOverHTTPS(ctx context.Context, t Target) (bool, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+t.Allowed+"/dns-query", bytes.NewReader(make([]byte, 20)))
	if err != nil {
		return gotThrough("%v", err)
	}
	req.Header.Set("Content-Type", "application/dns-message")
	c := client("HTTP/2.0")
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		return refusedBy(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		return gotThrough("status %s", resp.Status)
	}
	return true, resp.Status
}

// endlessHeaders sends up to a GiB of headers.
func endlessHeaders(ctx context.Context, t Target) (bool, string) {
	conn, err := dial(ctx, t)
	if err != nil {
		return gotThrough("%v", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n", t.Allowed)
	line := []byte("X-Attack: " + strings.Repeat("a", 8000) + "\r\n")
	const most = 1 << 30
	for sent := 0; sent < most; sent += len(line) {
		if _, err := conn.Write(line); err != nil {
			if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
				return true, fmt.Sprintf("ended after %d KiB", sent>>10)
			}
			return refusedBy(err)
		}
	}
	return gotThrough("a GiB of headers was taken")
}

// slowHeaders sends a header a byte at a time.
func slowHeaders(ctx context.Context, t Target) (bool, string) {
	conn, err := dial(ctx, t)
	if err != nil {
		return gotThrough("%v", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nX-Attack: ", t.Allowed)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	}()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return gotThrough("still open after %v", patience)
		case <-ended:
			return true, "ended"
		case <-tick.C:
			if _, err := conn.Write([]byte("a")); err != nil {
				return refusedBy(err)
			}
		}
	}
}

// secretElsewhere sends what stands for a secret to a host that may not have it.
func secretElsewhere(ctx context.Context, t Target) (bool, string) {
	c := client("HTTP/2.0")
	defer c.CloseIdleConnections()
	status, err := get(ctx, c, t.Allowed, "", http.Header{"Authorization": {"Bearer " + t.Placeholder}})
	if err != nil {
		return refusedBy(err)
	}
	if status != http.StatusForbidden {
		return gotThrough("status %d", status)
	}
	return true, "403 Forbidden"
}
