package lender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/login"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
)

// Bounds of an answer.
const (
	askTimeout = 30 * time.Second
	maxAnswer  = 256 << 10
)

// maxLife bounds how long an access token is believed to live, and usualLife is for one of
// which its provider does not say so.
const (
	maxLife   = 366 * 24 * time.Hour
	usualLife = time.Hour
)

// client asks the endpoints of providers for tokens, RFC 6749 6.
type client struct{ http http.Client }

func newClient(p dial.Proxies) *client {
	d := dial.New()
	d.SetProxies(p)
	return &client{http.Client{
		Timeout: askTimeout,
		// A refresh token goes to the endpoint and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				name, text, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				port, err := strconv.ParseUint(text, 10, 16)
				if err != nil {
					return nil, err
				}
				return d.Dial(ctx, name, uint16(port), false)
			},
		},
	}}
}

// answer is that of an endpoint. Some say in Error what is wrong, some in a part of it.
type answer struct {
	Access  string          `json:"access_token"`
	Refresh string          `json:"refresh_token"`
	Seconds float64         `json:"expires_in"`
	Error   json.RawMessage `json:"error"`
}

// final are errors by which a provider says that it knows a refresh token no more.
var final = []string{
	"invalid_grant", "refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated",
}

// isFinal reports whether the error of an answer is final.
func (a answer) isFinal() bool {
	var code string
	if json.Unmarshal(a.Error, &code) != nil {
		var e struct{ Code, Type string }
		if json.Unmarshal(a.Error, &e) != nil {
			return false
		}
		return slices.Contains(final, e.Code) || slices.Contains(final, e.Type)
	}
	return slices.Contains(final, code)
}

// renew is a login.Renewal. Its errors quote nothing of an answer.
func (c *client) renew(ctx context.Context, s *codingagent.Subscription, old codingagent.Tokens, a codingagent.Account) (t codingagent.Tokens, err error) {
	asked := map[string]string{"grant_type": "refresh_token", "refresh_token": old.Refresh, "client_id": s.Client}
	if len(a.Scopes) > 0 {
		asked["scope"] = strings.Join(a.Scopes, " ")
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return t, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint, bytes.NewReader(body))
	if err != nil {
		return t, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	// Sent again, a refresh token would come twice.
	req.GetBody = nil
	resp, err := c.http.Do(req)
	if err != nil {
		return t, fmt.Errorf("ask for new tokens: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return t, fmt.Errorf("ask for new tokens: %w", err)
	}
	return readAnswer(resp.StatusCode, data, time.Now())
}

// readAnswer reads the answer of an endpoint.
func readAnswer(status int, data []byte, now time.Time) (t codingagent.Tokens, err error) {
	var got answer
	if len(data) > maxAnswer || json.Unmarshal(data, &got) != nil {
		if status == http.StatusOK {
			return t, errors.New("ask for new tokens: the provider answers with what are none")
		}
		got = answer{}
	}
	switch {
	case (status == http.StatusBadRequest || status == http.StatusUnauthorized) && got.isFinal():
		return t, login.ErrRefused
	case status != http.StatusOK:
		return t, fmt.Errorf("ask for new tokens: the provider answers with the status %d", status)
	}
	life := usualLife
	if got.Seconds > 0 {
		life = time.Duration(min(got.Seconds, maxLife.Seconds()) * float64(time.Second))
	}
	// Without a part of a second, as files have it.
	return codingagent.Tokens{Access: got.Access, Refresh: got.Refresh, Expires: now.Add(life).UTC().Truncate(time.Second)}, nil
}

var errNotYet = errors.New("it is too early to ask again")

// notYet is a login.Renewal that asks nobody.
func notYet(context.Context, *codingagent.Subscription, codingagent.Tokens, codingagent.Account) (codingagent.Tokens, error) {
	return codingagent.Tokens{}, errNotYet
}
