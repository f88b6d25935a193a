package intercept

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// fill returns what becomes of a request to example.com with these secrets.
func fill(t testing.TB, r *http.Request, secrets ...secret.Secret) (*http.Request, *exchange, string) {
	t.Helper()
	p := &Proxy{cfg: Config{Secrets: secret.NewTable(secrets)}}
	e := &exchange{conn: &clientConn{name: host, isTLS: true}}
	out, reason := p.addSecrets(e, r.WithContext(t.Context()))
	return out, e, reason
}

// request returns one with headers "NAME: VALUE" and a query.
func request(query string, headers ...string) *http.Request {
	r := &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/a", RawQuery: query}}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func basic(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }

// all returns everything of a request that a server could read, but its body.
func all(r *http.Request) string {
	text := r.URL.String()
	for name, values := range r.Header {
		for _, v := range values {
			text += "\n" + name + ": " + v
			if _, user, password, ok := basicAuth(v); ok {
				text += " " + user + ":" + password
			}
		}
	}
	return text
}

// A value goes to the places that its secret declares.
func TestPlaces(t *testing.T) {
	for name, test := range map[string]struct {
		place       credential.Place
		query       string
		header      string
		wantQuery   string
		wantHeader  string
		wantRefused bool
	}{
		"bearer":                    {place: credential.Bearer, header: "Authorization: Bearer " + placeholder, wantHeader: "Authorization: Bearer " + value},
		"bearer in lower case":      {place: credential.Bearer, header: "Authorization: bearer " + placeholder, wantHeader: "Authorization: Bearer " + value},
		"bearer without the word":   {place: credential.Bearer, header: "Authorization: " + placeholder, wantRefused: true},
		"a token":                   {place: credential.Token, header: "Authorization: token " + placeholder, wantHeader: "Authorization: token " + value},
		"bearer where token is":     {place: credential.Token, header: "Authorization: Bearer " + placeholder, wantRefused: true},
		"a header":                  {place: credential.InHeader("x-my-key"), header: "X-My-Key: " + placeholder, wantHeader: "X-My-Key: " + value},
		"another header":            {place: credential.InHeader("x-my-key"), header: "X-Api-Key: " + placeholder, wantRefused: true},
		"the header with more":      {place: credential.InHeader("x-my-key"), header: "X-My-Key: a" + placeholder, wantRefused: true},
		"basic":                     {place: credential.Place{Kind: credential.Basic, Name: "git"}, header: "Authorization: " + basic("git:"+placeholder), wantHeader: "Authorization: " + basic("git:"+value)},
		"basic without a user":      {place: credential.Place{Kind: credential.Basic}, header: "Authorization: " + basic(":"+placeholder), wantHeader: "Authorization: " + basic(":"+value)},
		"basic, another user":       {place: credential.Place{Kind: credential.Basic, Name: "git"}, header: "Authorization: " + basic("attacker:"+placeholder), wantRefused: true},
		"basic, any user":           {place: credential.AsUser("x-access-token"), header: "Authorization: " + basic("attacker:"+placeholder), wantHeader: "Authorization: " + basic("x-access-token:"+value)},
		"basic, as the user":        {place: credential.AsUser("x-access-token"), header: "Authorization: " + basic(placeholder+":"), wantHeader: "Authorization: " + basic("x-access-token:"+value)},
		"basic, as GitHub says it":  {place: credential.AsUser("x-access-token"), header: "Authorization: " + basic(placeholder+":x-oauth-basic"), wantHeader: "Authorization: " + basic("x-access-token:"+value)},
		"basic, user and foreign":   {place: credential.AsUser("x-access-token"), header: "Authorization: " + basic(placeholder+":attackers"), wantRefused: true},
		"a parameter":               {place: credential.InQuery("key"), query: "alt=sse&key=" + placeholder, wantQuery: "alt=sse&key=" + value},
		"a parameter, escaped":      {place: credential.InQuery("key"), query: "%6bey=" + strings.Replace(placeholder, "s", "%73", 1), wantQuery: "key=" + value},
		"another parameter":         {place: credential.InQuery("key"), query: "title=" + placeholder, wantRefused: true},
		"a parameter with more":     {place: credential.InQuery("key"), query: "key=" + placeholder + "x", wantRefused: true},
		"a parameter's name":        {place: credential.InQuery("key"), query: placeholder + "=1", wantRefused: true},
		"a parameter behind a ;":    {place: credential.InQuery("key"), query: "a=1;key=" + placeholder, wantRefused: true},
		"another host's place":      {place: credential.Place{Host: "b.example", Kind: credential.Header, Name: "X-Api-Key"}, header: "X-Api-Key: " + placeholder, wantRefused: true},
		"an earlier placeholder":    {place: credential.InHeader("x-api-key"), header: "X-Api-Key: earlier-placeholder-0123456789", wantHeader: "X-Api-Key: " + value},
		"a harmless header":         {place: credential.Bearer, header: "User-Agent: agent/" + placeholder, wantRefused: true},
		"a cookie":                  {place: credential.Bearer, header: "Cookie: token=" + placeholder, wantRefused: true},
		"a header's name":           {place: credential.Bearer, header: "X-" + placeholder + ": 1", wantRefused: true},
		"a foreign before it":       {place: credential.Bearer, header: "Authorization: Bearer ATTACKER " + placeholder, wantRefused: true},
		"a foreign behind it":       {place: credential.Bearer, header: "Authorization: Bearer " + placeholder + ", Bearer ATTACKER", wantRefused: true},
		"a protocol of a WebSocket": {place: credential.Bearer, header: "Sec-Websocket-Protocol: realtime, openai-insecure-api-key." + placeholder, wantRefused: true},
		"the proxy's authorization": {place: credential.Bearer, header: "Proxy-Authorization: Bearer " + placeholder, wantRefused: true},
	} {
		s := lend(host)
		s.Places, s.Earlier = []credential.Place{test.place}, []string{"earlier-placeholder-0123456789"}
		r := request(test.query)
		if test.header != "" {
			r = request(test.query, test.header)
		}
		out, e, reason := fill(t, r, s)
		got := all(out)
		if test.wantRefused {
			if reason == "" || !strings.Contains(reason, "TOKEN") || strings.Contains(got, value) {
				t.Errorf("%s: %q, %q; want a refusal that names the secret", name, reason, got)
			}
			continue
		}
		if reason != "" || out.URL.RawQuery != test.wantQuery || !strings.Contains(got, test.wantHeader) || strings.Contains(got, placeholder) {
			t.Errorf("%s: %q, %q; want %q %q", name, reason, got, test.wantQuery, test.wantHeader)
		}
		if len(e.used) != 1 {
			t.Errorf("%s: used %d secrets", name, len(e.used))
		}
	}
}

// A request with two headers of a kind is refused: which of them counts is the server's
// choice.
func TestTwoCredentials(t *testing.T) {
	for _, headers := range [][]string{
		{"Authorization: Bearer " + placeholder, "Authorization: Bearer attackers"},
		{"Authorization: Bearer attackers", "Authorization: Bearer " + placeholder},
		{"X-Api-Key: " + placeholder, "x-api-key: " + placeholder},
	} {
		if out, _, reason := fill(t, request("", headers...), lend(host)); reason == "" {
			t.Errorf("%q: %s", headers, all(out))
		}
	}
	// In two places it stands twice, which is harmless.
	if _, _, reason := fill(t, request("", "Authorization: Bearer "+placeholder, "X-Api-Key: "+placeholder), lend(host)); reason != "" {
		t.Error(reason)
	}
}

// Credentials of others do not reach a secret's host, in whatever form.
func TestForeignCredentials(t *testing.T) {
	const foreign = "F0reignCredentialOfSomebody0123"
	for _, header := range []string{
		"Authorization: Bearer " + foreign, "Authorization: " + foreign, "Authorization: " + basic(foreign+":"), "Authorization: token " + foreign,
		"Proxy-Authorization: Bearer " + foreign, "X-Api-Key: " + foreign, "X_Api_Key: " + foreign, "x-api_key: " + foreign, "Api-Key: " + foreign,
		"Apikey: " + foreign, "X-Goog-Api-Key: " + foreign, "Private-Token: " + foreign, "Job-Token: " + foreign, "Deploy-Token: " + foreign,
		"X-Auth-Token: " + foreign, "X-Auth-Key: " + foreign, "X-Amz-Security-Token: " + foreign, "X-Vault-Token: " + foreign,
		"Cookie: session=" + foreign, "Cookie2: " + foreign, "X-Csrf-Token: " + foreign, "X-Github-Otp: " + foreign, "X-Session: " + foreign,
		"Sec-Websocket-Protocol: realtime, openai-insecure-api-key." + foreign, "Sec-Websocket-Protocol: " + foreign,
		"Anthropic-Api-Key: " + foreign, "Openai-Token: " + foreign, "X-Stainless-Auth: " + foreign, "X-Whatever: " + foreign, "Dpop: " + foreign,
		"X-Forwarded-Access-Token: " + foreign, "X-Original-Authorization: " + foreign, "Content-Authorization: " + foreign, "If-Token: " + foreign,
		"Npm-Auth-Token: " + foreign, "Mcp-Secret: " + foreign, "Trailer: X-Api-Key",
	} {
		name, _, _ := strings.Cut(header, ":")
		out, e, reason := fill(t, request("", header, "Accept: */*"), lend(host))
		if got := all(out); reason == "" && (strings.Contains(got, foreign) || out.Header.Get(name) != "") {
			t.Errorf("%s goes on: %s", header, got)
		}
		if out.Header.Get("Accept") == "" || reason == "" && name != "Trailer" && len(e.notes) == 0 {
			t.Errorf("%s: notes %q; %s", header, e.notes, all(out))
		}
	}
	for _, query := range []string{
		"key=" + foreign, "KEY=a", "api_key=a", "apiKey=a", "access_token=" + foreign, "token=a", "sig=a", "se=2026&sp=r&sig=" + foreign,
		"X-Amz-Signature=" + foreign, "X-Amz-Credential=" + foreign, "X-Goog-Signature=" + foreign, "Signature=" + foreign, "AWSAccessKeyId=a",
		"auth=a", "oauth_token=a", "jwt=a", "session=a", "sid=a", "password=a", "pw=a", "client_secret=a", "apiSig=a", "hmac=a",
		"whatever=" + foreign, foreign, "q=1;key=a", "q=1;" + foreign, "user=a&x[key]=" + foreign, "%6bey=a", "id_token=a", "private_token=a",
	} {
		if out, _, reason := fill(t, request(query), lend(host)); reason == "" {
			t.Errorf("?%s goes on: %s", query, all(out))
		}
	}
	for _, path := range []string{"/repos/acme/task-management-system-for-everybody", "/sk-learn-contributions-and-more", "/-/v1/search", "/T/B/x"} {
		r := request("")
		r.URL.Path = path
		if _, _, reason := fill(t, r, lend(host)); reason != "" {
			t.Errorf("%s: %s", path, reason)
		}
	}
	user := request("")
	user.URL.User = url.UserPassword(foreign, "")
	if _, _, reason := fill(t, user, lend(host)); reason == "" {
		t.Error("a user in the address goes on")
	}
	for _, path := range []string{
		"/services/T01ABCDEFGH/B01ABCDEFGH/abcdefghijklmnopqrstuvwx",
		"/bot123456789:AAF0reignCredentialOfSomebody01234/sendMessage", "/x/ghp_abcDEF0123456789abcDEF0123456789abcd", "/a;jsessionid=1", "/a/token=abc",
		"/v1/sk-abcDEF0123456789abcDEF0123456789",
	} {
		r := request("")
		r.URL.Path = path
		if _, _, reason := fill(t, r, lend(host)); reason == "" {
			t.Errorf("%s goes on", path)
		}
	}
}

// Where the user lets other credentials through, they pass, and so does what is named.
func TestForeignAllowed(t *testing.T) {
	s := lend(host)
	s.AllowForeign = true
	out, _, reason := fill(t, request("sig=abc", "Authorization: Bearer own", "X-Tenant: 1"), s)
	if got := all(out); reason != "" || !strings.Contains(got, "Bearer own") || !strings.Contains(got, "sig=abc") || !strings.Contains(got, "X-Tenant") {
		t.Errorf("%q: %s", reason, got)
	}
	// What is not exclusive is searched all the same.
	if _, _, reason := fill(t, request("title="+placeholder), s); reason == "" {
		t.Error("a placeholder in another place passes")
	}
	s = lend(host)
	s.Pass = []string{"x-tenant", "?tenant_token"}
	out, _, reason = fill(t, request("Tenant_Token="+strings.Repeat("a", 40), "X-Tenant: 1", "X-Other: 1"), s)
	if got := all(out); reason != "" || !strings.Contains(got, "X-Tenant") || strings.Contains(got, "X-Other") {
		t.Errorf("%q: %s", reason, got)
	}
}

// What clients send beside a credential arrives.
func TestHarmlessRequests(t *testing.T) {
	for name, headers := range map[string][]string{
		"Claude Code": {
			"Accept: application/json", "Anthropic-Beta: oauth-2025-04-20", "Anthropic-Dangerous-Direct-Browser-Access: true", "Anthropic-Version: 2023-06-01",
			"Content-Type: application/json", "User-Agent: claude-cli/2.1.330 (external, cli)", "X-App: cli", "X-Stainless-Arch: x64", "X-Stainless-Retry-Count: 0",
			"X-Stainless-Timeout: 600", "X-Claude-Code-Session-Id: 123e4567-e89b-42d3-a456-426614174000", "X-Client-Request-Id: 1", "Accept-Language: *", "Sec-Fetch-Mode: cors",
			"X-Service-Name: claude-code",
		},
		"Codex": {
			"Originator: codex_cli_rs", "Version: 0.169.0", "Session_id: 123e4567-e89b-42d3-a456-426614174000", "Conversation_id: 1", "Openai-Beta: responses=experimental",
			"Openai-Organization: org-1", "Openai-Project: proj_1", "Chatgpt-Account-Id: 1", "X-Codex-Turn-Metadata: {}", "X-Oai-Attestation: 1", "Traceparent: 00-1-2-01",
			"X-Codex-Beta-Features: a", "X-Codex-Window-Id: 1", "Content-Encoding: zstd", "Accept: text/event-stream",
		},
		"WebSocket": {"Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Version: 13", "Sec-Websocket-Protocol: realtime", "Upgrade: websocket", "Connection: Upgrade"},
		"Gemini":    {"X-Goog-Api-Client: google-genai-sdk/1.0 gl-node/v20", "X-Server-Timeout: 60", "X-Gemini-Api-Privileged-User-Id: 1"},
		"opencode":  {"X-Opencode-Project: p", "X-Opencode-Session: ses_1", "Http-Referer: https://opencode.ai/", "X-Title: opencode", "X-Session-Affinity: ses_1"},
		"Copilot": {
			"Editor-Version: vscode/1", "Editor-Plugin-Version: c/1", "Copilot-Integration-Id: copilot-developer-cli", "X-Initiator: user", "X-Interaction-Id: 1", "Openai-Intent: conversation-agent", "X-Github-Api-Version: 2025-05-01",
			"X-Mcp-Host: copilot-cli", "X-Mcp-Tools: get_file_contents,search_code", "X-Client-Session-Id: 123e4567-e89b-42d3-a456-426614174000", "X-Client-Machine-Id: 1",
			"X-Github-Repository-Nwo: a/b", "X-Github-Repository-Host: github.com", "Runtime-Client-Version: 1.0.102", "X-Copilot-Exp-Flight-Names: a;b",
		},
		"git": {"Git-Protocol: version=2", "Accept: application/x-git-upload-pack-result", "Content-Type: application/x-git-upload-pack-request", "Content-Encoding: gzip", "Pragma: no-cache"},
		"gh":  {"Graphql-Features: merge_queue", "X-Github-Media-Type: github.v4"},
		"npm": {"Npm-Command: install", "Npm-Scope: ", "Npm-Session: abcdef0123456789", "Npm-Auth-Type: web", "Pacote-Version: 21", "Pacote-Req-Type: packument", "If-None-Match: \"x\"", "If-Modified-Since: x"},
		"MCP": {"Mcp-Session-Id: 123e4567-e89b-42d3-a456-426614174000", "Mcp-Protocol-Version: 2025-06-18", "Last-Event-Id: 4"},
	} {
		out, e, reason := fill(t, request("", append(headers, "Authorization: Bearer "+placeholder)...), lend(host))
		for _, h := range headers {
			header, v, _ := strings.Cut(h, ": ")
			if got := out.Header.Get(header); got != v {
				t.Errorf("%s: %s arrives as %q; %q, %q", name, h, got, e.notes, reason)
			}
		}
		if reason != "" {
			t.Errorf("%s: %s", name, reason)
		}
	}
	for _, query := range []string{
		"", "beta=true", "alt=sse", "service=git-upload-pack", "service=git-receive-pack", "page=2&per_page=100&sort=updated&direction=desc",
		"q=repo:acme/project+is:issue+is:open+label:bug", "ref=refs/heads/a-branch-with-a-long-name-0123456789", "client_version=0.169.0",
		"text=a&size=20&from=0&quality=0.65&popularity=0.98&maintenance=0.5", "write=true", "since=2026-01-01T00:00:00Z", "pageToken=CiAKGjBpNDd2Nmp2Zml2cXRwYjBpOXA",
		"api-version=2024-10-21", "$filter=name+eq+'a+long+name+of+something'&$top=5", "labels[]=bug&labels[]=a-long-label-of-the-project", "recursive=1", "x", "model=gpt-6&conversation=1",
		"fields=name,description,updated_at,created_at", "keywords=a+long+list+of+words&authors=someone",
		"timestamp=20261130041700", "after=Y3Vyc29yOnYyOpK5MjAyNi0wMS0wMQ==",
	} {
		if out, _, reason := fill(t, request(query, "Authorization: Bearer "+placeholder), lend(host)); reason != "" || out.URL.RawQuery != query {
			t.Errorf("?%s arrives as %q: %s", query, out.URL.RawQuery, reason)
		}
	}
}

// A placeholder in a body is blanked, as it is no use there, and recorded; lengths stay.
func TestBodies(t *testing.T) {
	var arrived []byte
	var mu sync.Mutex
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		arrived, _ = io.ReadAll(r.Body)
	}, []plan.Rule{{Host: host}}, lend(host))
	text := `{"title":"` + placeholder + `","body":"` + strings.Repeat("x", 100_000) + placeholder + `"}`
	multipart := "--b\r\nContent-Disposition: form-data; name=\"" + placeholder + "\"\r\n\r\n" + placeholder + "\r\n--b--\r\n"
	for _, body := range []string{text, multipart} {
		for _, proto := range protocols {
			req, err := http.NewRequest("POST", "https://"+host+"/", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+placeholder)
			resp, err := l.client(proto).Do(req)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %v, %v", proto, resp, err)
			}
			resp.Body.Close()
			mu.Lock()
			if want := strings.ReplaceAll(body, placeholder, strings.Repeat("*", len(placeholder))); string(arrived) != want {
				t.Errorf("%s: %d bytes arrived: %.100s; want %.100s", proto, len(arrived), arrived, want)
			}
			mu.Unlock()
		}
	}
	l.recorded("what was blanked", func(e []audit.Event) bool {
		return len(e) == 4 && !slices.ContainsFunc(e, func(e audit.Event) bool {
			return !strings.Contains(e.Reason, "blanked a placeholder in the body") || !slices.Equal(e.Secrets, []string{"TOKEN"})
		})
	})
}

// Each refusal of a placeholder is one of the record's lines, and says where it may stand.
func TestMisplacedIsRecorded(t *testing.T) {
	l := newLab(t, tell, []plan.Rule{{Host: host}}, lend(host))
	for _, query := range []string{"title=" + placeholder, "sig=attackers"} {
		if status, body, _ := do(t, l.client("HTTP/2.0"), "GET", "https://"+host+"/?"+query, nil); status != 403 {
			t.Errorf("?%s: %d %s; want 403", query, status, body)
		}
	}
	const want = "the secret TOKEN goes to example.com as bearer, header=x-api-key, query=key, basic=me only, and there alone: not in the parameter title of the query"
	l.recorded("both", func(e []audit.Event) bool {
		return len(e) == 2 && e[0].Verdict == audit.Deny && e[0].Reason == want && e[1].Verdict == audit.Deny && strings.Contains(e[1].Reason, "sig")
	})
}

// Who refuses a request to a provider's API says so in that API's words.
func TestRefusalForms(t *testing.T) {
	for name, key := range map[string][]string{
		"api.anthropic.com": {"error", "message"}, "api.openai.com": {"error", "message"},
		"generativelanguage.googleapis.com": {"error", "message"}, "api.github.com": {"message"},
	} {
		l := newLab(t, tell, []plan.Rule{{Host: name, Methods: []string{"GET"}}})
		l.name.Store(&name)
		status, body, header := do(t, l.client("HTTP/2.0"), "POST", "https://"+name+"/v1/messages", nil)
		var got any
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Errorf("%s: %v: %s", name, err, body)
			continue
		}
		for _, k := range key {
			object, _ := got.(map[string]any)
			got = object[k]
		}
		if want := "mayfly: the method POST is not allowed here"; status != 403 || got != want || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s; want the message %q", name, status, body, want)
		}
	}
}

// Whatever a request looks like, a value stands where it may and nowhere else, and no
// placeholder leaves for any host but in a body.
func FuzzAddSecrets(f *testing.F) {
	f.Add("Authorization", "Bearer "+placeholder, "key="+placeholder, "/")
	f.Add("Authorization", "Basic bWU6"+placeholder, "a=%73k-live-Pl4ceH0lderText9876543210&%", "/a")
	f.Add("Authorization", basic("me:"+placeholder), "key="+placeholder+"&key=x", "/a")
	f.Add("Cookie", "a=b; c="+placeholder, "&&=&", "/"+placeholder)
	f.Add("X-"+placeholder, "1", "q=1;key="+placeholder, "/%73k")
	f.Fuzz(func(t *testing.T, header, text, query, path string) {
		if strings.Contains(header+text+query+path, value) {
			return
		}
		name := http.CanonicalHeaderKey(header)
		for _, ours := range []bool{true, false} {
			to := "other.example"
			if ours {
				to = host
			}
			p := &Proxy{cfg: Config{Secrets: secret.NewTable([]secret.Secret{lend(host)})}}
			e := &exchange{conn: &clientConn{name: to, isTLS: true}}
			r := (&http.Request{Header: http.Header{name: {text}}, URL: &url.URL{Path: path, RawQuery: query}}).WithContext(t.Context())
			out, reason := p.addSecrets(e, r)
			got := all(out)
			switch {
			case strings.Contains(got, value) && (!ours || reason != ""):
				t.Errorf("the value goes to %s, %q: %s", to, reason, got)
			case reason != "":
			case strings.Contains(got, placeholder):
				t.Errorf("the placeholder goes to %s: %s", to, got)
			case strings.Count(got, value) > len(e.used):
				t.Errorf("used %d times: %s", len(e.used), got)
			}
			if !ours || reason != "" {
				continue
			}
			if v := out.Header.Get(name); strings.Contains(v, value) &&
				!(name == "Authorization" && v == "Bearer "+value) && !(name == "X-Api-Key" && v == value) {
				t.Errorf("%s: %s", name, v)
			}
			for pair := range strings.SplitSeq(out.URL.RawQuery, "&") {
				if strings.Contains(pair, value) && pair != "key="+value {
					t.Errorf("the parameter %s", pair)
				}
			}
		}
	})
}

// check and what it is made of take whatever a guest says.
func FuzzCheck(f *testing.F) {
	f.Add("example.com:443", "GET", "/dns-query", "dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB", "application/dns-message")
	f.Add("EXAMPLE.com.", "POST", "/", "", "text/plain")
	f.Add("[example.com]", "CONNECT", "x:y", "dns", "")
	f.Fuzz(func(t *testing.T, to, method, path, query, accept string) {
		r := &http.Request{Method: method, Host: to, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Accept": {accept}}}
		status, reason := check(&clientConn{name: host}, r)
		if (status == 0) != (reason == "") {
			t.Errorf("%d, %q", status, reason)
		}
		name, ok := hostName(to)
		if ok && strings.ContainsAny(name, ":ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Errorf("hostName(%q) = %q", to, name)
		}
		if reason == "" && (!ok || name != host || isDNS(r)) {
			t.Errorf("%q passes for %s", to, host)
		}
	})
}

// A value that is renewed goes out as it is now. One that has expired goes nowhere, and what
// the host says of earlier ones is replaced as well.
func TestRenewedSecret(t *testing.T) {
	const renewed = "sk-RENEWED-0123456789abcdef-0123"
	live := secret.NewLive(value, time.Time{})
	s := lend(host)
	s.Places, s.Value = []credential.Place{credential.Bearer}, live.Value()
	p := &Proxy{cfg: Config{Secrets: secret.NewTable([]secret.Secret{s})}, scrubbers: make(map[string]*scrubber)}
	send := func() (string, string) {
		out, _, reason := fill(t, request("", "Authorization: Bearer "+placeholder), s)
		return all(out), reason
	}
	scrub := func(text string) string { return p.scrubberFor([]*secret.Secret{&s}).text(text) }
	if got, reason := send(); reason != "" || !strings.Contains(got, value) || strings.Contains(scrub(value), value) {
		t.Errorf("the first value: %q, %q", got, reason)
	}
	live.Set(renewed, time.Time{})
	if got, reason := send(); reason != "" || !strings.Contains(got, renewed) || strings.Contains(got, value) {
		t.Errorf("the second value: %q, %q", got, reason)
	}
	if got := scrub(value + " " + renewed); strings.Contains(got, value) || strings.Contains(got, renewed) {
		t.Errorf("an answer with both becomes %q", got)
	}
	s.Withheld = []string{"create_api_key"}
	for path, refused := range map[string]bool{"/api/x/create_api_key": true, "/api/Create_API_Key/": true, "/v1/messages": false} {
		r := request("", "Authorization: Bearer "+placeholder)
		r.URL.Path = path
		if out, _, reason := fill(t, r, s); (reason != "") != refused || strings.Contains(all(out), renewed) == refused {
			t.Errorf("to %s: %q", path, reason)
		}
	}
	live.Clear("the log-in is gone")
	if got, reason := send(); !strings.Contains(reason, "the log-in is gone") || strings.Contains(got, value) || strings.Contains(got, renewed) {
		t.Errorf("without a value: %q, %q; want a refusal", got, reason)
	}
	if got := scrub(renewed); strings.Contains(got, renewed) {
		t.Errorf("an answer with the last value becomes %q", got)
	}
}
