package intercept

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

// addSecrets returns r with the values of secrets in the place of their placeholders, and
// without the credentials of others where they are not wanted. A value goes into the places
// that its secret declares for the host, where a placeholder stands alone; a placeholder
// anywhere else refuses the request. The reason is why, "" for none. r itself stays as it
// is.
func (p *Proxy) addSecrets(e *exchange, r *http.Request) (_ *http.Request, reason string) {
	if p.cfg.Secrets == nil {
		return r, ""
	}
	f := &filling{table: p.cfg.Secrets, exchange: e, own: p.cfg.Secrets.For(e.conn.name)}
	f.exclusive = slices.ContainsFunc(f.own, func(s *secret.Secret) bool { return !s.AllowForeign })
	f.path = strings.ToLower(r.URL.Path)
	f.target(r)
	out := r.Clone(r.Context())
	out.Header = f.headers(r.Header)
	out.URL.RawQuery = f.query(r.URL.RawQuery)
	if f.reason != "" {
		return r, f.reason
	}
	if len(f.own) > 0 {
		// What is compressed, or comes in parts, could not be searched for the
		// values that the host knows.
		out.Header.Set("Accept-Encoding", "identity")
		out.Header.Del("Range")
		out.Header.Del("If-Range")
		out.Header.Del("Sec-Websocket-Extensions")
		// What comes behind a body was not looked at.
		out.Header.Del("Trailer")
		out.Trailer = nil
		if r.Body != nil && r.Body != http.NoBody {
			out.Body = f.body(r)
		}
	}
	return out, ""
}

// filling puts secrets into one request.
type filling struct {
	table     *secret.Table
	exchange  *exchange
	own       []*secret.Secret // those that may go to the host
	path      string           // of the request, in lower case
	exclusive bool             // the request may carry no credentials but own
	reason    string           // why the request is refused; the first counts
}

func (f *filling) refuse(format string, args ...any) {
	if f.reason == "" {
		f.reason = fmt.Sprintf(format, args...)
	}
}

// target judges the request line without its query.
func (f *filling) target(r *http.Request) {
	for _, text := range []string{r.URL.Path, r.URL.EscapedPath(), r.Method} {
		for _, s := range f.table.Find(text) {
			f.refuse("the secret %s cannot be a part of a path", s.Name)
		}
	}
	if r.URL.User != nil {
		f.refuse("the address of the request has a user")
	}
	if f.exclusive && looksForeign(r.URL.Path) {
		f.refuse("a part of the path looks like a credential of somebody else's")
	}
}

// misplaced refuses a request with placeholders in a text that is no place of theirs.
func (f *filling) misplaced(found []*secret.Secret, where string) {
	host := f.exchange.conn.name
	for _, s := range found {
		if !s.MayGoTo(host) {
			f.refuse("the secret %s may not go to %s", s.Name, host)
			continue
		}
		f.refuse("the secret %s goes to %s as %s only, and there alone: not %s", s.Name, host, credential.Join(s.At(host)), where)
	}
}

// take returns the value of a secret and notes that it goes out, unless it must not.
func (f *filling) take(s *secret.Secret) (value string) {
	if !f.exchange.conn.isTLS {
		f.refuse("the secret %s does not go out unencrypted", s.Name)
	}
	if slices.ContainsFunc(s.Withheld, func(part string) bool { return strings.Contains(f.path, part) }) {
		f.refuse("the secret %s does not go to this path, whose answer would be a credential", s.Name)
	}
	// One that is renewed may have gone meanwhile: this is the one look at it.
	value = s.Value.Reveal()
	if value == "" {
		f.refuse("the secret %s has no value: %s", s.Name, s.Value.Missing())
	}
	f.exchange.used = append(f.exchange.used, s)
	return value
}

func (f *filling) headers(in http.Header) http.Header {
	out := make(http.Header, len(in))
	for name, values := range in {
		f.misplaced(f.table.FindName(name), "as a header's name")
		filled, ours := f.header(name, values)
		switch {
		case ours:
			out[name] = []string{filled}
		case f.exclusive && !f.passes(name, values):
			f.exchange.note("stripped " + name)
		default:
			out[name] = slices.Clone(values)
		}
	}
	return out
}

// header returns what a header with a placeholder becomes, and whether it has one.
func (f *filling) header(name string, values []string) (filled string, ours bool) {
	where := "in the header " + printable(name)
	for _, v := range values {
		found := f.table.Find(v)
		if _, user, password, ok := basicAuth(v); ok {
			found = append(found, f.table.Find(user+":"+password)...)
		}
		if len(found) == 0 {
			continue
		}
		ours = true
		if len(values) > 1 {
			// Which of them counts is the server's choice.
			f.misplaced(found, "beside another header "+printable(name))
			return "", true
		}
		var ok bool
		if filled, ok = f.place(name, v); !ok {
			f.misplaced(found, where)
		}
	}
	return filled, ours
}

// place fills a header that is one of the places of a secret of the host's.
func (f *filling) place(name, v string) (filled string, ok bool) {
	for _, s := range f.own {
		for _, p := range s.At(f.exchange.conn.name) {
			switch p.Kind {
			case credential.Header:
				credential, prefix := v, ""
				if p.Scheme != "" {
					scheme, rest, _ := strings.Cut(v, " ")
					if !strings.EqualFold(scheme, p.Scheme) {
						continue
					}
					credential, prefix = rest, p.Scheme+" "
				}
				if name == p.Name && s.Stands(credential) {
					return prefix + f.take(s), true
				}
			case credential.Basic:
				encoding, user, password, ok := basicAuth(v)
				if !ok || name != "Authorization" {
					continue
				}
				named := user == p.Name || p.AnyUser && len(f.table.Find(user)) == 0
				// git takes a token for the user, too, with what GitHub
				// documents as the password or without one.
				asUser := p.AnyUser && s.Stands(user) && (password == "" || password == "x-oauth-basic")
				if named && s.Stands(password) || asUser {
					return "Basic " + encoding.EncodeToString([]byte(p.Name+":"+f.take(s))), true
				}
			}
		}
	}
	return "", false
}

// basicAuth parts credentials of RFC 7617.
func basicAuth(v string) (_ *base64.Encoding, user, password string, ok bool) {
	scheme, encoded, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return nil, "", "", false
	}
	encoded = strings.TrimSpace(encoded)
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
		if plain, err := encoding.DecodeString(encoded); err == nil {
			user, password, _ = strings.Cut(string(plain), ":")
			return encoding, user, password, true
		}
	}
	return nil, "", "", false
}

// query fills in the parameters of a query. Those that need no change keep their form.
func (f *filling) query(raw string) string {
	if raw == "" {
		return ""
	}
	var out []string
	for pair := range strings.SplitSeq(raw, "&") {
		out = append(out, f.parameter(pair))
	}
	return strings.Join(out, "&")
}

// parameter returns a part of a query as it goes out.
func (f *filling) parameter(pair string) string {
	name, value := unescape(pair)
	found := append(f.table.Find(pair), append(f.table.Find(name), f.table.Find(value)...)...)
	if len(found) == 0 {
		// For some servers a semicolon parts parameters, too.
		for part := range strings.SplitSeq(pair, ";") {
			if name, value := unescape(part); f.exclusive && !f.passesParameter(name, value) {
				f.refuse("the parameter %s of the query may be a credential of somebody else's", printable(name))
			}
		}
		return pair
	}
	for _, s := range f.own {
		for _, p := range s.At(f.exchange.conn.name) {
			if p.Kind == credential.Query && p.Name == name && s.Stands(value) {
				return url.QueryEscape(name) + "=" + url.QueryEscape(f.take(s))
			}
		}
	}
	f.misplaced(found, "in the parameter "+printable(name)+" of the query")
	return pair
}

// unescape parts a parameter of a query.
func unescape(pair string) (name, value string) {
	name, value, _ = strings.Cut(pair, "=")
	plainName, nameErr := url.QueryUnescape(name)
	plainValue, valueErr := url.QueryUnescape(value)
	if nameErr != nil || valueErr != nil {
		return name, value
	}
	return plainName, plainValue
}
