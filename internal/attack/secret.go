package attack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// foreign is what a credential of somebody else's looks like.
const foreign = "attack0Credential1Of2Somebody3Else4"

// secrets aims at the host of a secret: to publish the value there, and to work there with
// a credential of somebody else's.
func secrets() []attempt {
	placeholder := func(t Target) string { return t.Lent.Placeholder }
	with := func(change func(r *http.Request, t Target)) func(context.Context, Target) (bool, string) {
		return func(ctx context.Context, t Target) (bool, string) { return lent(ctx, t, change) }
	}
	header := func(name string, values func(t Target) []string) func(context.Context, Target) (bool, string) {
		return with(func(r *http.Request, t Target) { r.Header[name] = values(t) })
	}
	query := func(text func(t Target) string) func(context.Context, Target) (bool, string) {
		return with(func(r *http.Request, t Target) { r.URL.RawQuery = text(t) })
	}
	return []attempt{
		{name: "secret in a title", needs: lentTo, trace: traceOf("in the parameter title"),
			try: query(func(t Target) string { return "title=" + url.QueryEscape(placeholder(t)) })},
		{name: "secret as a parameter's name", needs: lentTo, trace: traceOf("in the parameter"),
			try: query(func(t Target) string { return url.QueryEscape(placeholder(t)) + "=1" })},
		{name: "secret in a path", needs: lentTo, trace: traceOf("a part of a path"),
			try: with(func(r *http.Request, t Target) { r.URL.Path = "/attack/" + placeholder(t) })},
		{name: "secret in another header", needs: lentTo, trace: traceOf("in the header X-Attack"),
			try: header("X-Attack", func(t Target) []string { return []string{"a title with " + placeholder(t)} })},
		{name: "secret as a header's name", needs: lentTo | lentName, trace: traceOf("as a header's name"),
			try: with(func(r *http.Request, t Target) { r.Header["X-"+placeholder(t)] = []string{"1"} })},
		{name: "secret beside a foreign credential", needs: lentTo, trace: traceOf("in the header Authorization"),
			try: header("Authorization", func(t Target) []string { return []string{"Bearer " + foreign + " " + placeholder(t)} })},
		{name: "two credentials in two headers", needs: lentTo, trace: traceOf("beside another header"),
			try: twoCredentials},
		{name: "foreign credential in the query", needs: lentTo, trace: traceOf("the parameter sig"),
			try: query(func(Target) string { return "se=2099&sig=" + foreign })},
		{name: "foreign credential in a path", needs: lentTo, trace: traceOf("a part of the path"),
			try: with(func(r *http.Request, _ Target) { r.URL.Path = "/bot1234567890:" + foreign + "/attack" })},
	}
}

// lent makes a request to the host of a secret.
func lent(ctx context.Context, t Target, change func(r *http.Request, t Target)) (bool, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+t.Lent.Host+"/attack", nil)
	if err != nil {
		return gotThrough("%v", err)
	}
	change(req, t)
	c := client("HTTP/1.1")
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		return gotThrough("the host of the secret does not answer: %v", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusForbidden {
		return gotThrough("status %s", resp.Status)
	}
	return true, resp.Status
}

// twoCredentials sends two headers of one name, which is for the server to choose from.
func twoCredentials(ctx context.Context, t Target) (bool, string) {
	conn, err := dial(ctx, Target{Allowed: t.Lent.Host})
	if err != nil {
		return gotThrough("%v", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /attack HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nAuthorization: Bearer %s\r\n\r\n",
		t.Lent.Host, foreign, t.Lent.Placeholder)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return gotThrough("no answer: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		return gotThrough("status %s", resp.Status)
	}
	return true, resp.Status
}

// isName reports whether text can be a part of a header's name.
func isName(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return r >= 0x80 || !strings.ContainsRune("-_.", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
