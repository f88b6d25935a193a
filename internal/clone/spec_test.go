package clone

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func TestParseSpec(t *testing.T) {
	for _, test := range []struct {
		in, url, ref string
	}{
		{"https://host.example/a/b.git", "https://host.example/a/b.git", ""},
		{"https://host.example/a/b.git@v1.2", "https://host.example/a/b.git", "v1.2"},
		{"https://host.example/a/b@feature/x", "https://host.example/a/b", "feature/x"},
		{"https://alice:s@cret@host.example/a/b", "https://alice:s@cret@host.example/a/b", ""},
		{"https://alice@host.example:8443/a/b@main", "https://alice@host.example:8443/a/b", "main"},
		{"https://host.example/@scope/b", "https://host.example/@scope/b", ""},
		{"https://host.example/we@ird/b@HEAD", "https://host.example/we@ird/b", "HEAD"},
		{"ssh://git@host.example:22/a/b@main", "ssh://git@host.example:22/a/b", "main"},
		{"ssh://git@[2001:db8::1]:22/a/b", "ssh://git@[2001:db8::1]:22/a/b", ""},
		{"git@host.example:a/b.git", "git@host.example:a/b.git", ""},
		{"git@host.example:a/b.git@main", "git@host.example:a/b.git", "main"},
		{"host:b@main", "host:b", "main"},
		{"git@[2001:db8::1]:a/b@main", "git@[2001:db8::1]:a/b", "main"},
		{"/srv/b.git", "/srv/b.git", ""},
		{"./b@0123456789012345678901234567890123456789", "./b", "0123456789012345678901234567890123456789"},
		{"file:///srv/b.git@main", "file:///srv/b.git", "main"},
		{"/srv/a:b", "/srv/a:b", ""},
	} {
		got, err := ParseSpec(test.in)
		if want := (Spec{test.url, test.ref}); got != want || err != nil {
			t.Errorf("ParseSpec(%q) = %+v, %v; want %+v", test.in, got, err, want)
		}
	}
}

func TestParseSpecRefuses(t *testing.T) {
	for _, in := range []string{
		"",
		"--upload-pack=touch /tmp/x",
		"-uhttps://host.example/a",
		"ext::sh -c id",
		"ext::sh -c id@main",
		"fd::17/x",
		"::x",
		"transport::https://host.example/a",
		"ftp://host.example/a",
		"ext://host.example/a",
		"javascript://host.example/a",
		"https://host.example",
		"https://host.example/",
		"https:///a/b",
		"https://-oProxyCommand=id/a",
		"ssh://-oProxyCommand=id/a",
		"ssh://%2doProxyCommand=id/a",
		"ssh://-l@host.example/a",
		"ssh://%2dl@host.example/a",
		"ssh://host.example/-a",
		"ssh://ho$(id)st/a",
		"-oProxyCommand=id:a",
		"git@-oProxyCommand=id:a",
		"host:-a",
		"host:",
		"https://host.example/a?x=y",
		"https://host.example/a\nb",
		"https://us%0aer:x@host.example/a",
		"https://user:x%0ay@host.example/a",
		"https://host.example/a\x1b[2J",
		"https://host.example/a@",
		"https://host.example/a@-x",
		"https://host.example/a@--upload-pack=id",
		"https://host.example/a@a..b",
		"https://host.example/a@a b",
		"https://host.example/a@+x:y",
		"https://host.example/a@x^{commit}",
		"https://host.example/a@x.lock",
		"https://host.example/a@x/.git",
		"https://host.example/a@x//y",
		"file://host.example/a",
		"/" + strings.Repeat("a", maxURL),
		"https://host.example/a@" + strings.Repeat("a", maxRef+1),
	} {
		if got, err := ParseSpec(in); err == nil {
			t.Errorf("ParseSpec(%q) = %+v; want an error", in, got)
		} else if strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("ParseSpec(%q): the error has control characters: %q", in, err)
		}
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"https://host.example/a/b.git":  "b",
		"https://host.example/a/b/":     "b",
		"git@host.example:b.git":        "b",
		"git@host.example:a/b":          "b",
		"/srv/b/.git":                   "b",
		"./b":                           "b",
		"file:///srv/b.git":             "b",
		"https://host.example/a/..":     "",
		"https://host.example/a/.git":   "a",
		"https://host.example/.git":     "",
		"https://host.example/a/.x":     "",
		"..":                            "",
		"https://host.example/a/-x.git": "",
	} {
		if got := (Spec{URL: in}).Name(); got != want {
			t.Errorf("Name(%q) = %q; want %q", in, got, want)
		}
	}
}

// A password is in no error, no command line and no origin.
func TestPasswordIsRemoved(t *testing.T) {
	for _, test := range []struct {
		in, fetch, shown string
	}{
		{"https://alice:hunter2@host.example:8443/a/b", "https://host.example:8443/a/b", "https://…@host.example:8443/a/b"},
		{"https://hunter2@host.example/a/b", "https://host.example/a/b", "https://…@host.example/a/b"},
		{"ssh://git:hunter2@host.example/a", "ssh://git@host.example/a", "ssh://git@host.example/a"},
		{"git@host.example:a", "git@host.example:a", "git@host.example:a"},
	} {
		spec, err := ParseSpec(test.in)
		if err != nil {
			t.Fatal(err)
		}
		r, err := spec.resolve()
		if err != nil || r.fetch != test.fetch || r.stored != test.fetch {
			t.Errorf("%q resolves to %q, stored %q, %v; want %q", test.in, r.fetch, r.stored, err, test.fetch)
		}
		if got := redact(test.in); got != test.shown {
			t.Errorf("redact(%q) = %q; want %q", test.in, got, test.shown)
		}
	}
	if _, err := ParseSpec("https://alice:hunter2@host.example/"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("ParseSpec(with a password) = %v; want an error without it", err)
	}
}

func TestFind(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	var r refs
	r.Write([]byte("ref: refs/heads/main\tHEAD\n" + a + "\tHEAD\n" + a + "\trefs/heads/main\n" + b + "\trefs/heads/feature/x\n" +
		b + "\trefs/tags/v1\n" + b + "\trefs/tags/v1^{}\n" + b + "\trefs/tags/main\n" + b + "\trefs/pull/1/head\n" +
		b + "\trefs/heads/-x\n" + b + "\trefs/heads/\x1b[2J\nrubbish\n" + b + "\trefs/heads/" + strings.Repeat("x", 9000) + "\n" + b + "\trefs/heads/v1.1\n"))
	if len(r.names) != 5 {
		t.Errorf("names = %v; want 5", r.names)
	}
	for _, test := range []struct {
		in   string
		want target
		ok   bool
	}{
		{"", target{"refs/heads/main", "main"}, true},
		{"HEAD", target{"refs/heads/main", "main"}, true},
		{"main", target{"refs/heads/main", "main"}, true},
		{"refs/tags/main", target{"refs/tags/main", ""}, true},
		{"feature/x", target{"refs/heads/feature/x", "feature/x"}, true},
		{"v1", target{"refs/tags/v1", ""}, true},
		{a, target{a, ""}, true},
		{"mian", target{"mian", ""}, false},
	} {
		if got, ok := r.find(test.in); got != test.want || ok != test.ok {
			t.Errorf("find(%q) = %v, %v; want %v, %v", test.in, got, ok, test.want, test.ok)
		}
	}
	if d := cmp.Diff([]string{"main"}, r.near("mian")); d != "" {
		t.Errorf("near(mian) (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"v1.1", "v1"}, r.near("v1.2")); d != "" {
		t.Errorf("near(v1.2) (-want +got):\n%s", d)
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"https://a@h/p@r", "git@h:p@r", "ssh://[::1]:2/x@y", "/a@b", "ext::x", "[a]:b", "file:///x", "https://u:p@h/x@y@z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParseSpec(s)
		if err != nil {
			if !termsafe.Is(err.Error()) {
				t.Errorf("ParseSpec(%q): unprintable error %q", s, err)
			}
			return
		}
		if name := spec.Name(); strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
			t.Errorf("ParseSpec(%q) has the name %q", s, name)
		}
		r, err := spec.resolve()
		if err != nil {
			return
		}
		for _, arg := range []string{r.fetch, r.stored} {
			if strings.HasPrefix(arg, "-") || helper.MatchString(arg) || !termsafe.Is(arg) {
				t.Errorf("ParseSpec(%q) gives git the argument %q", s, arg)
			}
		}
		if r.pass != "" && len(r.pass) > 8 && strings.Contains(r.fetch, r.pass) && !strings.Contains(strings.Replace(spec.URL, ":"+r.pass+"@", "", 1), r.pass) {
			t.Errorf("ParseSpec(%q) keeps the password in %q", s, r.fetch)
		}
		if strings.HasPrefix(spec.Ref, "-") {
			t.Errorf("ParseSpec(%q) has the reference %q", s, spec.Ref)
		}
	})
}

func FuzzRefs(f *testing.F) {
	f.Add([]byte("ref: refs/heads/main\tHEAD\n"+strings.Repeat("a", 40)+"\trefs/heads/main\n"), 3)
	f.Add([]byte("\t\n\n"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		var whole, parts refs
		whole.Write(data)
		if cut >= 0 && cut < len(data) {
			parts.Write(data[:cut])
			parts.Write(data[cut:])
			if d := cmp.Diff(whole.names, parts.names); d != "" {
				t.Errorf("in two parts (-whole +parts):\n%s", d)
			}
		}
		for name := range whole.names {
			if !termsafe.Is(name) || strings.Contains(name, "..") {
				t.Errorf("name %q", name)
			}
		}
		whole.near("main")
	})
}
