package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
)

// bodies tries to publish a secret at its own host, in what a request carries. The host gets
// such a request with asterisks for the placeholder. Its audit line has a note of that, and
// no secret.
func bodies() []attempt {
	field := func(name string) attempt {
		return attempt{
			name: "secret in the " + name + " of a body", needs: lentTo, passed: true, trace: traceOf("/attack/" + name),
			try: func(ctx context.Context, t Target) (bool, string) {
				text, err := json.Marshal(map[string]string{name: "it is " + t.Lent.Placeholder})
				if err != nil {
					return gotThrough("%v", err)
				}
				return publish(ctx, t, name, "application/json", text)
			},
		}
	}
	return []attempt{
		field("title"), field("body"), field("name"),
		{
			name: "secret in a form", needs: lentTo, passed: true, trace: traceOf("/attack/form"),
			try: func(ctx context.Context, t Target) (bool, string) {
				text := url.Values{"title": {t.Lent.Placeholder}, t.Lent.Placeholder: {"1"}}.Encode()
				return publish(ctx, t, "form", "application/x-www-form-urlencoded", []byte(text))
			},
		},
	}
}

// publish sends a body to the host of the secret. What arrives there, only the host can tell.
func publish(ctx context.Context, t Target, path, kind string, body []byte) (bool, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+t.Lent.Host+"/attack/"+path, bytes.NewReader(body))
	if err != nil {
		return gotThrough("%v", err)
	}
	req.Header.Set("Content-Type", kind)
	c := client("HTTP/2.0")
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		return gotThrough("the host of the secret does not answer: %v", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return true, "sent without it, " + resp.Status
}
