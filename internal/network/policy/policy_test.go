package policy

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

func allowlist(rules ...plan.Rule) *Set {
	return New(plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: rules})
}

func TestConnect(t *testing.T) {
	rules := []plan.Rule{
		{Host: "github.com"},
		{Host: "*.golang.org"},
		{Host: "api.example", Port: 8443},
		{Host: "git.example", Port: 22},
		{Host: "mirror.corp.example", Private: true},
		{Host: "mirror.corp.example", Port: 8081, Private: true, From: "preset npm"},
		{Host: "pinned.example", Passthrough: true},
		{Host: "limited.example", Methods: []string{"GET"}, Port: 8080},
		{Host: plan.HostName, Port: 11434},
	}
	list := allowlist(rules...)
	public := New(plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic, Allow: rules[4:]})
	none := New(plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressNone, Allow: rules[:1]})
	learn := New(plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Learn: true})
	for _, test := range []struct {
		set  *Set
		name string
		port uint16
		want string // a allow, i intercept, p private, b bound; "" for denied
	}{
		{list, "github.com", 443, "aib"},
		{list, "github.com", 80, "aib"},
		{list, "github.com", 22, ""},
		{list, "evil-github.com", 443, ""},
		{list, "github.com.evil.example", 443, ""},
		{list, "sub.github.com", 443, ""},
		{list, "go.golang.org", 443, "aib"},
		{list, "a.b.golang.org", 443, "aib"},
		{list, "golang.org", 443, ""},
		{list, "evilgolang.org", 443, ""},
		{list, "api.example", 8443, "ab"},
		{list, "api.example", 443, ""},
		{list, "git.example", 22, "ab"},
		{list, "mirror.corp.example", 443, "aipb"},
		{list, "pinned.example", 443, "ab"},
		{list, "limited.example", 8080, "aib"},
		{list, plan.HostName, 11434, "a"},
		{list, plan.HostName, 443, ""},
		{list, "other.example", 443, ""},
		{public, "other.example", 443, "a"},
		{public, "other.example", 25, "a"},
		{public, "mirror.corp.example", 443, "aipb"},
		{public, "mirror.corp.example", 8081, "aipb"}, // a preset's
		{public, "mirror.corp.example", 22, ""},       // its rules do not name the port
		{public, plan.HostName, 22, ""},
		{public, plan.HostName, 11434, "a"},
		{none, "github.com", 443, "aib"},
		{none, "other.example", 443, ""},
		{learn, "other.example", 443, "a"},
		{learn, plan.HostName, 443, ""},
	} {
		v := test.set.Connect(test.name, test.port)
		got := ""
		for letter, set := range map[string]bool{"a": v.Allow, "i": v.Intercept, "p": v.Private, "b": v.Bound} {
			if set {
				got += letter
			}
		}
		if !sameLetters(got, test.want) || v.Allow == (v.Reason != "") {
			t.Errorf("%s: Connect(%s, %d) = %q, %+v; want %q", test.set.Network().Egress, test.name, test.port, got, v, test.want)
		}
	}
}

func sameLetters(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for _, r := range a {
		if !strings.ContainsRune(b, r) {
			return false
		}
	}
	return true
}

// A rule that denies wins over all others, also over one that comes later.
func TestDenied(t *testing.T) {
	n := plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressPublic, Allow: []plan.Rule{{Host: "bad.example"}}}
	s := New(n, plan.Rule{Host: "bad.example"}, plan.Rule{Host: "*.worse.example"}, plan.Rule{Host: "half.example", Port: 22}, plan.Rule{Host: "8.8.8.8"})
	for name, port := range map[string]uint16{"bad.example": 443, "a.worse.example": 80, "half.example": 22} {
		if v := s.Connect(name, port); v.Allow {
			t.Errorf("Connect(%s, %d) is allowed", name, port)
		}
	}
	if v := s.Connect("half.example", 443); !v.Allow {
		t.Errorf("Connect(half.example, 443) = %+v; want it allowed", v)
	}
	if v := s.Name("bad.example"); v.Allow {
		t.Error("Name(bad.example) is allowed")
	}
	if v := s.Name("half.example"); !v.Allow {
		t.Errorf("Name(half.example) = %+v; want it allowed: other ports are", v)
	}
	if v := s.Addr(netip.MustParseAddr("::ffff:8.8.8.8"), 443); v.Allow {
		t.Error("Addr(8.8.8.8) is allowed")
	}
}

func TestAddr(t *testing.T) {
	list := allowlist(plan.Rule{Host: "10.1.2.3", Port: 22, Private: true})
	if v := list.Addr(netip.MustParseAddr("10.1.2.3"), 22); !v.Allow || !v.Private {
		t.Errorf("Addr(10.1.2.3, 22) = %+v; want it allowed, private", v)
	}
	for _, addr := range []string{"10.1.2.3", "10.1.2.4", "8.8.8.8"} {
		if v := list.Addr(netip.MustParseAddr(addr), 443); v.Allow {
			t.Errorf("Addr(%s, 443) is allowed", addr)
		}
	}
	public := New(plan.Network{Egress: plan.EgressPublic})
	if v := public.Addr(netip.MustParseAddr("8.8.8.8"), 443); !v.Allow || v.Private {
		t.Errorf("public: Addr(8.8.8.8) = %+v; want it allowed, not private", v)
	}
}

func TestRequest(t *testing.T) {
	list := allowlist(
		plan.Rule{Host: "api.example", Methods: []string{"GET"}, Paths: []string{"/repos/acme/", "/user"}},
		plan.Rule{Host: "api.example", Methods: []string{"POST"}, Paths: []string{"/graphql"}},
		plan.Rule{Host: "all.example"},
	)
	for _, test := range []struct {
		name, method, path string
		want               bool
	}{
		{"api.example", "GET", "/repos/acme/x", true},
		{"api.example", "GET", "/repos/acme/", true},
		{"api.example", "GET", "/repos/acme", false},
		{"api.example", "GET", "/user", true},
		{"api.example", "GET", "/user/keys", true},
		{"api.example", "GET", "/users", false},
		{"api.example", "POST", "/repos/acme/x", false},
		{"api.example", "POST", "/graphql", true},
		{"api.example", "DELETE", "/user", false},
		{"api.example", "get", "/user", false},
		{"api.example", "GET", "/repos/acme/../evil", false},
		{"api.example", "GET", "/repos/acme/%2e%2e/evil", false},
		{"api.example", "GET", "/repos/acme/..%2fevil", false},
		{"api.example", "GET", "/repos/acme//evil", false},
		{"api.example", "GET", `/repos/acme/..\evil`, false},
		{"api.example", "GET", "/repos/acme/%5c..%5cevil", false},
		{"api.example", "GET", "/repos/acme/%252e%252e/evil", false},
		{"api.example", "GET", "/repos/acme/..;/evil", false},
		{"api.example", "GET", "/repos/acme/%00", false},
		{"api.example", "GET", "/repos/%61cme/x", true},
		{"api.example", "GET", "/repos/acme/x%3fy", false},
		{"api.example", "GET", "/repos/acme/x%23y", false},
		{"api.example", "GET", "/repos/acme/%c0%ae%c0%ae/evil", false},
		{"api.example", "GET", "/repos/acme/%e0%80%ae%e0%80%ae/evil", false},
		{"api.example", "GET", "/repos/acme/..%c0%afevil", false},
		{"api.example", "GET", "/repos/acme/%ef%bc%8e%ef%bc%8e/evil", false},
		{"api.example", "GET", "/repos/acme/..%ef%bc%8fevil", false},
		{"api.example", "GET", "/repos/acme/%e2%80%a5/evil", false},
		{"api.example", "GET", "/repos/acme/.%e2%80%8b./evil", false},
		{"api.example", "GET", "/repos/acme/.%c2%ad./evil", false},
		{"api.example", "GET", "/repos/acme/..%e2%88%95evil", false},
		{"api.example", "GET", "/repos/acme/%u002e%u002e/evil", false},
		{"api.example", "GET", "/repos/acme/..%20/evil", false},
		{"api.example", "GET", "/repos/acme/.../evil", false},
		{"api.example", "GET", "/repos/acme/%2e%2E;a=b/evil", false},
		{"api.example", "GET", "/repos/acme/x%3ba=b", false},
		{"api.example", "GET", "/repos/acme/%25%32%65%25%32%65/evil", false},
		{"api.example", "GET", "/repos/acme/a%0d%0ab", false},
		{"api.example", "GET", "/repos/acme/a%c2%85b", false},
		{"api.example", "GET", "*", false},
		{"api.example", "GET", "/repos/acme/v1.2.3/.github", true},
		{"api.example", "GET", "/repos/acme/%c3%a4%20b", true},
		{"all.example", "DELETE", "/a/../b", true}, // no rule speaks of its paths
		{"other.example", "GET", "/", false},
	} {
		v := list.Request(test.name, 443, test.method, test.path)
		if v.Allow != test.want || v.Allow == (v.Reason != "") {
			t.Errorf("Request(%s, %s, %s) = %+v; want %v", test.name, test.method, test.path, v, test.want)
		}
	}
}

// A secret's hosts are intercepted, and reached also from a list without them.
func TestSecretHosts(t *testing.T) {
	secrets := []plan.Secret{{Name: "KEY", Hosts: []string{"api.example", "*.cloud.example"}}}
	list := New(plan.Network{Egress: plan.EgressAllowlist, Secrets: secrets})
	public := New(plan.Network{Egress: plan.EgressPublic, Secrets: secrets})
	for _, s := range []*Set{list, public} {
		for _, name := range []string{"api.example", "a.cloud.example"} {
			if v := s.Connect(name, 443); !v.Allow || !v.Intercept {
				t.Errorf("%s: Connect(%s, 443) = %+v; want it intercepted", s.Network().Egress, name, v)
			}
		}
	}
	// What a host was sent by TLS it may tell without.
	if v := public.Connect("api.example", 80); !v.Allow || !v.Intercept {
		t.Errorf("public: Connect(api.example, 80) = %+v; want it intercepted", v)
	}
	if v := list.Connect("other.example", 443); v.Allow {
		t.Error("another host is allowed")
	}
	if v := public.Connect("other.example", 443); v.Intercept {
		t.Error("another host is intercepted")
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, path := range []string{"/", "/a/b", "/a/../b", "/%2e%2e/", "/a%2fb", "/a;b", "/a%3fb", "/%c0%ae%c0%ae/"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		path, err := CleanPath(escaped)
		if err != nil {
			return
		}
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.Contains(path, "\\") ||
			strings.ContainsAny(path, "?#;") || !utf8.ValidString(path) ||
			strings.Contains(path+"/", "/../") || strings.Contains(path+"/", "/./") {
			t.Errorf("CleanPath(%q) = %q, which is not clean", escaped, path)
		}
	})
}

// A rule that limits requests is not widened by what a request says beside its method
// and path.
func TestOverride(t *testing.T) {
	for _, name := range []string{
		"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_Http_Method_Override", "X-Http.Method_Override",
		"HTTP-Method-Override", "X-Original-Method", "X-Forwarded-Method", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix",
		"X-Forwarded-Uri", "X-Forwarded-Path", "X-Original-Uri", "X-Envoy-Original-Path", "X-Override-URL", "X-Request-Uri",
		"X-Script-Name", "X-Waws-Unencoded-Url", "X-HTTP-DestinationURL", "Destination", "Request-Uri", "Base-Url", "X-Path-Info",
	} {
		h := http.Header{http.CanonicalHeaderKey(name): {"x"}}
		if Override(h, nil, "") == "" || Override(nil, h, "") == "" {
			t.Errorf("Override(%s) = none", name)
		}
	}
	for _, name := range []string{
		"Accept", "Authorization", "X-Github-Api-Version", "X-Api-Key", "X-Request-Id", "Access-Control-Request-Method",
		"X-Stainless-Retry-Count", "Anthropic-Version", "X-Goog-Api-Client", "Referer", "If-None-Match", "X-Amz-Date",
	} {
		if got := Override(http.Header{name: {"x"}}, nil, "method=a&path=/b&url=c&q=_method"); got != "" {
			t.Errorf("Override(%s) = %s", name, got)
		}
	}
	for _, query := range []string{
		"_method=DELETE", "a=b&_method=DELETE", "a=b;_method=DELETE", "_METHOD=delete", "%5fmethod=DELETE", "_method", "_method[]=DELETE",
		"+_method=DELETE", "x-http-method-override=DELETE", "X_HTTP_Method=DELETE", "$httpMethod=DELETE", "_HttpMethod=PUT",
	} {
		if Override(nil, nil, query) == "" {
			t.Errorf("Override(?%s) = none", query)
		}
	}
}

// Whatever a request looks like, it is allowed only as a rule has it.
func FuzzRequest(f *testing.F) {
	f.Add("api.example", "GET", "/repos/acme/x")
	f.Add("api.example", "POST", "/repos/acme/%2e%2e/x")
	f.Add("a.api.example", "DELETE", "/user;x")
	list := allowlist(plan.Rule{Host: "api.example", Methods: []string{"GET"}, Paths: []string{"/repos/acme/"}})
	f.Fuzz(func(t *testing.T, name, method, path string) {
		v := list.Request(name, 443, method, path)
		clean, err := CleanPath(path)
		if want := name == "api.example" && method == "GET" && err == nil && strings.HasPrefix(clean, "/repos/acme/"); v.Allow != want {
			t.Errorf("Request(%q, %q, %q) = %+v; want %v", name, method, path, v, want)
		}
		if v.Allow && !v.Limited {
			t.Errorf("Request(%q, %q, %q) is not limited", name, method, path)
		}
	})
}

// Where all that is public may be reached, a host for which something else holds is not
// reached by what a connection to another says.
func TestSays(t *testing.T) {
	n := plan.Network{Egress: plan.EgressPublic, Secrets: []plan.Secret{{Name: "KEY", Hosts: []string{"api.example"}}},
		Allow: []plan.Rule{{Host: "limited.example", Methods: []string{"GET"}}, {Host: "ssh.example", Port: 22}}}
	s := New(n, plan.Rule{Host: "bad.example"}, plan.Rule{Host: "*.worse.example"}, plan.Rule{Host: "9.9.9.9"})
	for said, want := range map[string]bool{
		"other.example": true, "": true, "cdn.example": true, "bad.example": false, "bad.example.": false, "a.worse.example": false,
		"api.example": false, "limited.example": false, "ssh.example": false, "9.9.9.9": false,
	} {
		for _, name := range []string{"other.example", "93.184.216.34"} {
			if v := s.Says(name, said, 443); v.Allow != want {
				t.Errorf("Says(%s, %s) = %+v; want %v", name, said, v, want)
			}
		}
	}
	for _, v := range []Verdict{s.Connect("other.example", 80), s.Addr(netip.MustParseAddr("93.184.216.34"), 80), s.Connect("93.184.216.34", 80)} {
		if !v.Allow || !v.Intercept || v.Bound {
			t.Errorf("on port 80: %+v; want each request seen", v)
		}
	}
	if v := New(plan.Network{Egress: plan.EgressPublic}).Connect("other.example", 80); v.Intercept {
		t.Error("requests are seen for nothing")
	}
	if v := s.Connect("9.9.9.9", 443); v.Allow {
		t.Error("an address that is denied is allowed as a name")
	}
}

// Where the user is asked, names are known without a look at them, and connections that no
// rule covers are open. What a rule covers is as on a list.
func TestAsks(t *testing.T) {
	n := plan.Network{Egress: plan.EgressAsk, Allow: []plan.Rule{
		{Host: "known.example", Port: 443}, {Host: "limited.example", Methods: []string{"GET"}}, {Host: plan.HostName, Port: 11434},
		{Host: "once.example", Port: 443, Once: true}, {Host: "93.184.216.34", Once: true}, {Host: "93.184.216.34"},
	}, Secrets: []plan.Secret{{Name: "KEY", Hosts: []string{"api.example"}}}}
	s := New(n, plan.Rule{Host: "bad.example"})
	for _, test := range []struct {
		name             string
		port             uint16
		allow, ask, once bool
	}{
		{"known.example", 443, true, false, false},
		{"known.example", 22, false, true, false},
		{"api.example", 443, true, false, false},
		{"limited.example", 443, true, false, false},
		{"new.example", 443, false, true, false},
		{"once.example", 443, true, false, true},
		{"bad.example", 443, false, false, false},
		{plan.HostName, 11434, true, false, false},
		{plan.HostName, 22, false, false, false},
		{"8.8.8.8", 443, false, true, false},
		{"93.184.216.34", 443, true, false, false},
	} {
		v := s.Connect(test.name, test.port)
		if v.Allow != test.allow || v.Ask != test.ask || v.Once != test.once || !v.Allow && v.Reason == "" {
			t.Errorf("Connect(%s, %d) = %+v; want %+v", test.name, test.port, v, test)
		}
	}
	for name, want := range map[string]bool{"new.example": true, "known.example": true, "bad.example": false} {
		if v := s.Name(name); v.Allow != want || v.Allow && !v.Bound {
			t.Errorf("Name(%s) = %+v; want %v, without a look", name, v, want)
		}
	}
	if v := s.Request("new.example", 443, "GET", "/"); v.Allow {
		t.Error("a request to what is asked about passes")
	}
	if v := s.Request("limited.example", 443, "POST", "/"); v.Allow || v.Ask {
		t.Errorf("a request that a rule excludes: %+v", v)
	}
	n.Learn = true
	if v := New(n).Connect("new.example", 443); !v.Allow || v.Ask {
		t.Errorf("while it learns: %+v", v)
	}
	for _, egress := range []string{plan.EgressAsk, plan.EgressAllowlist} {
		n := plan.Network{Egress: egress}
		if names := New(n, plan.Rule{Host: "secret.evil.example", Port: 443}).DeniedNames(); len(names) > 0 {
			t.Errorf("with egress %s, the names %v would be looked up", egress, names)
		}
	}
}
