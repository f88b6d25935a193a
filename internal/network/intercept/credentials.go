package intercept

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

// Where programs put credentials.
var (
	credentialHeaders = []string{
		"Authorization", "Proxy-Authorization", "Cookie",
		"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Auth-Token", "Private-Token", "X-Access-Token",
	}
	credentialParameters = []string{"key", "api_key", "apikey", "access_token", "private_token", "token"}
)

// addSecrets returns r with the values of secrets in the place of their placeholders, and
// without the credentials of others where they are not wanted. The reason is why not, ""
// for none. r itself stays as it is.
func (p *Proxy) addSecrets(e *exchange, r *http.Request) (_ *http.Request, reason string) {
	if p.cfg.Secrets == nil {
		return r, ""
	}
	f := &filling{table: p.cfg.Secrets, exchange: e}
	if found := append(f.table.Find(r.URL.Path), f.table.Find(r.URL.EscapedPath())...); len(found) > 0 {
		return r, fmt.Sprintf("the secret %s cannot be a part of a path", found[0].Name)
	}
	out := r.Clone(r.Context())
	out.Header = f.headers(r.Header)
	out.URL.RawQuery = f.query(r.URL.RawQuery)
	if f.reason != "" {
		return r, f.reason
	}
	if len(f.table.For(e.conn.name)) > 0 {
		// What is compressed, or comes in parts, could not be searched for the
		// values that the host knows.
		out.Header.Set("Accept-Encoding", "identity")
		out.Header.Del("Range")
		out.Header.Del("If-Range")
	}
	return out, ""
}

// filling puts secrets into one request.
type filling struct {
	table    *secret.Table
	exchange *exchange
	reason   string // why the request is refused
}

// fill returns text with values in the place of placeholders, and whether there were any.
func (f *filling) fill(text string) (string, bool) {
	found := f.table.Find(text)
	c := f.exchange.conn
	for _, s := range found {
		switch {
		case !s.MayGoTo(c.name):
			f.reason = fmt.Sprintf("the secret %s may not go to %s", s.Name, c.name)
			return text, true
		case !c.isTLS:
			f.reason = fmt.Sprintf("the secret %s does not go out unencrypted", s.Name)
			return text, true
		}
		text = strings.ReplaceAll(text, s.Placeholder, s.Value.Reveal())
		f.exchange.used = append(f.exchange.used, s)
	}
	return text, len(found) > 0
}

// exclusive reports whether requests to the host may carry no credentials but its
// secrets.
func (f *filling) exclusive() bool {
	return slices.ContainsFunc(f.table.For(f.exchange.conn.name), func(s *secret.Secret) bool { return !s.AllowForeign })
}

func (f *filling) headers(in http.Header) http.Header {
	exclusive := f.exclusive()
	out := make(http.Header, len(in))
	for name, values := range in {
		for _, v := range values {
			if name == "Cookie" && exclusive {
				v = f.cookies(v)
			}
			filled, ours := f.fill(v)
			if !ours && (name == "Authorization" || name == "Proxy-Authorization") {
				filled, ours = f.basic(v)
			}
			if !ours && exclusive && slices.Contains(credentialHeaders, name) {
				f.note("stripped " + name)
				continue
			}
			out[name] = append(out[name], filled)
		}
	}
	return out
}

// cookies returns those cookies of a header that hold a placeholder; all of them if none
// does.
func (f *filling) cookies(v string) string {
	var ours []string
	all := strings.Split(v, ";")
	for _, cookie := range all {
		if len(f.table.Find(cookie)) > 0 {
			ours = append(ours, strings.TrimSpace(cookie))
		}
	}
	if len(ours) == 0 || len(ours) == len(all) {
		return v
	}
	f.note("stripped Cookie")
	return strings.Join(ours, "; ")
}

// basic is fill for credentials in base64, RFC 7617.
func (f *filling) basic(v string) (string, bool) {
	scheme, encoded, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return v, false
	}
	encoded = strings.TrimSpace(encoded)
	encoding := base64.StdEncoding
	plain, err := encoding.DecodeString(encoded)
	if err != nil {
		encoding = base64.RawStdEncoding
		if plain, err = encoding.DecodeString(encoded); err != nil {
			return v, false
		}
	}
	filled, ours := f.fill(string(plain))
	if !ours {
		return v, false
	}
	return scheme + " " + encoding.EncodeToString([]byte(filled)), true
}

// query fills in the parameters of a query. Those that need no change keep their form.
func (f *filling) query(raw string) string {
	if raw == "" {
		return ""
	}
	exclusive := f.exclusive()
	var out []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		plainName, nameErr := url.QueryUnescape(name)
		plainValue, valueErr := url.QueryUnescape(value)
		if nameErr != nil || valueErr != nil {
			plainName, plainValue = name, value
		}
		filledName, inName := f.fill(plainName)
		filledValue, inValue := f.fill(plainValue)
		switch {
		case inName || inValue:
			pair = url.QueryEscape(filledName)
			if value != "" {
				pair += "=" + url.QueryEscape(filledValue)
			}
		case exclusive && slices.Contains(credentialParameters, strings.ToLower(plainName)):
			f.note("stripped ?" + strings.ToLower(plainName))
			continue
		}
		out = append(out, pair)
	}
	return strings.Join(out, "&")
}

func (f *filling) note(text string) {
	if !slices.Contains(f.exchange.notes, text) {
		f.exchange.notes = append(f.exchange.notes, text)
	}
}
