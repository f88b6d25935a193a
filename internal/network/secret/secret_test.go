package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// However a value is printed, it does not show.
func TestValueIsRedacted(t *testing.T) {
	const plain = "the value"
	v := NewValue(plain)
	s := Secret{Name: "N", Value: v}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v, "s", s)
	// fmt calls no methods below a field that is not exported.
	hidden := struct{ s []Secret }{[]Secret{s}}
	data, err := json.Marshal(map[string]any{"v": v, "s": s, "p": &v})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d %v %+v %#v %s %v", v, v, v, v, v, v, v, s, s, s, &v, []Secret{s}) +
		fmt.Sprintf("%v %+v %#v", hidden, hidden, hidden) +
		fmt.Sprintf("%v %+v %#v", NewTable([]Secret{s}), NewTable([]Secret{s}), *NewTable([]Secret{s})) +
		fmt.Sprint(v, fmt.Errorf("%v", v)) + log.String() + string(data)
	for _, text := range []string{plain, fmt.Sprintf("%x", plain)} {
		if strings.Contains(all, text) {
			t.Errorf("%q shows in %s", text, all)
		}
	}
	if !strings.Contains(all, redacted) || v.Reveal() != plain {
		t.Errorf("printed: %s; revealed: %q", all, v.Reveal())
	}
}

func TestPlaceholder(t *testing.T) {
	for value, want := range map[string]string{
		"ghp_abcDEF0123456789abcDEF0123456789abcd":     `^ghp_[0-9A-Za-z]{36}$`,
		"sk-ant-api03-abcDEF0123456789_abcDEF012-3456": `^sk-ant-api03-[0-9A-Za-z]{16}_[0-9A-Za-z]{9}-[0-9A-Za-z]{4}$`,
		"0123456789abcdef0123456789abcdef":             `^[0-9a-f]{32}$`,
		"12345678901234567890":                         `^[0-9]{20}$`,
		"eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2Q":   `^[0-9A-Za-z]{12}\.[0-9A-Za-z]{12}\.[0-9A-Za-z]{16}$`,
		"123e4567-e89b-42d3-a456-426614174000":         `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`,
		"hunter2":                                      `^mayfly-[0-9a-f]{32}$`,
		"päss-wörter-sind-länger-als":                  `^mayfly-[0-9a-f]{32}$`,
	} {
		a, b := Placeholder(NewValue(value)), Placeholder(NewValue(value))
		if !regexp.MustCompile(want).MatchString(a) || a == b || a == value {
			t.Errorf("Placeholder(%q) = %q, then %q; want two that match %s", value, a, b, want)
		}
	}
}

// Of a value that has no vendor's prefix, but a dash early, nothing is kept.
func TestPlaceholderKeepsNothingRandom(t *testing.T) {
	for _, value := range []string{"123e4567-e89b-42d3-a456-426614174000", "Zk3Qw9_xTy8RmN_4vBqL2sJdF6hGpXcYuAeKo7iW1z"} {
		if p := Placeholder(NewValue(value)); p[:8] == value[:8] || p[9:13] == value[9:13] {
			t.Errorf("Placeholder(%q) = %q; it begins as the value", value, p)
		}
	}
}

func FuzzPlaceholder(f *testing.F) {
	f.Add("ghp_abcDEF0123456789abcDEF0123456789abcd")
	f.Add("-")
	f.Fuzz(func(t *testing.T, value string) {
		p := Placeholder(NewValue(value))
		if p == value || countAlnum(p) < minRandom || !isPrintable(p) {
			t.Errorf("Placeholder(%q) = %q", value, p)
		}
	})
}

// A machine keeps its placeholder as long as the value keeps its shape, and what it had
// stays known.
func TestRenew(t *testing.T) {
	one, two := NewValue("sk-ant-api03-abcDEF0123456789_abcDEF012-3456"), NewValue("sk-ant-oat01-abcDEF0123456789_abcDEF012-3456")
	first, earlier := Renew(one, nil)
	if first == "" || len(earlier) != 0 {
		t.Fatalf("Renew = %q, %q", first, earlier)
	}
	again, earlier := Renew(one, []string{first})
	if again != first || len(earlier) != 0 {
		t.Errorf("Renew = %q, %q; want %q", again, earlier, first)
	}
	// Random ones look like a vendor's prefix now and then.
	for range 1000 {
		v := NewValue("abcdefab-0123-4567-89ab-abcdefabcdef")
		p := Placeholder(v)
		if q, _ := Renew(v, []string{p}); q != p {
			t.Fatalf("Renew = %q; want %q", q, p)
		}
	}
	for _, value := range []string{"hunter2", "p\u00e4ss"} {
		p := Placeholder(NewValue(value))
		if q, _ := Renew(NewValue(value+"x"), []string{p}); q != p {
			t.Errorf("Renew = %q; want %q", q, p)
		}
	}
	// A new value of the same kind.
	rotated := NewValue("sk-ant-api03-ZZZDEF0123456789_ZZZDEF012-9999")
	if p, _ := Renew(rotated, []string{first}); p != first {
		t.Errorf("Renew after a rotation = %q; want %q", p, first)
	}
	// Another kind.
	second, earlier := Renew(two, []string{first})
	if second == first || second[:13] != "sk-ant-oat01-" || len(earlier) != 1 || earlier[0] != first {
		t.Errorf("Renew = %q, %q; want another than %q", second, earlier, first)
	}
	// What may be anything, or is the value itself, is no placeholder.
	if p, earlier := Renew(one, []string{"", "a", one.Reveal(), first, first}); p != first || len(earlier) != 0 {
		t.Errorf("Renew = %q, %q; want %q", p, earlier, first)
	}
	var many []string
	for range 100 {
		many = append(many, Placeholder(two))
	}
	if _, earlier := Renew(one, many); len(earlier) != maxEarlier {
		t.Errorf("%d earlier ones; want %d", len(earlier), maxEarlier)
	}
}

func TestTable(t *testing.T) {
	table := NewTable([]Secret{
		{Name: "A", Placeholder: "aaaa", Hosts: []string{"api.example", "*.cloud.example"}},
		{Name: "B", Placeholder: "bbbb", Earlier: []string{"cccc"}, Hosts: []string{"b.example"}},
		{Name: "C", Placeholder: "dddd", Hosts: []string{"*.amazonaws.com", "me.github.io"}},
	})
	for host, want := range map[string]string{
		"api.example": "A", "x.cloud.example": "A", "x.y.cloud.example": "A", "b.example": "B",
		"me.github.io": "C", "x.amazonaws.com": "C", "x.s3.amazonaws.com": "", "you.github.io": "", "cloud.example": "", "xcloud.example": "", "sub.api.example": "", "example": "",
	} {
		got := ""
		for _, s := range table.For(host) {
			got += s.Name
		}
		if got != want {
			t.Errorf("For(%s) = %q; want %q", host, got, want)
		}
	}
	if found := table.Find("x aaaa bbbb"); len(found) != 2 {
		t.Errorf("Find finds %d; want 2", len(found))
	}
	if found := table.Find("cccc"); len(found) != 1 || !found[0].Stands("cccc") || found[0].Stands("cccc ") {
		t.Errorf("an earlier placeholder is %v", found)
	}
	if found := table.FindName("X-Aaaa-1"); len(found) != 1 || found[0].Name != "A" {
		t.Errorf("FindName finds %v", found)
	}
	var none *Table
	if none.Find("aaaa") != nil || none.FindName("aaaa") != nil || none.For("api.example") != nil {
		t.Error("no table has secrets")
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxValue+1), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TOKEN": "from a variable", "HOME": dir, "LINES": "one\ntwo"}
	getenv := func(name string) string { return env[name] }
	for from, want := range map[string]string{
		"env:TOKEN": "from a variable", "file:" + file: "from a file", "file:~/token": "from a file",
		"cmd:echo from a command": "from a command", "cmd:printf %s 'a b'": "a b",
	} {
		if v, err := Resolve(t.Context(), from, getenv); v.Reveal() != want || err != nil {
			t.Errorf("Resolve(%s) = %q, %v; want %q", from, v.Reveal(), err, want)
		}
	}
	for _, from := range []string{
		"TOKEN", "one:two", "env:", "env:MISSING", "env:LINES", "file:" + dir, "file:" + large, "file:" + fifo, "file:/no/such",
		"cmd:false", "cmd:true", "cmd:head -c 100000 /dev/zero", "cmd:yes", "vault:x",
	} {
		v, err := Resolve(t.Context(), from, getenv)
		if err == nil || v.Reveal() != "" {
			t.Errorf("Resolve(%s) = %q; want an error", from, v.Reveal())
		} else if strings.Contains(err.Error(), "one") && strings.Contains(err.Error(), "two") || from == "TOKEN" && strings.Contains(err.Error(), from) {
			t.Errorf("Resolve(%s) tells the value: %v", from, err)
		}
	}
	if _, err := Resolve(t.Context(), "env:MISSING", getenv); fault.CodeOf(err) != fault.VariableUnset {
		t.Errorf("a variable that is not set: %v, %q", err, fault.CodeOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resolve(ctx, "cmd:sleep 100", getenv); err == nil {
		t.Error("a command goes on after its context")
	}
}

// A value that is renewed is what it is now, remembers what it was, and is none once it has
// expired or was taken away.
func TestLive(t *testing.T) {
	at := time.Now()
	l := NewLive("one", at.Add(time.Hour))
	v := l.Value()
	if v.Reveal() != "one" || v.Missing() != "" || !slices.Equal(v.All(), []string{"one"}) {
		t.Errorf("it is %q, %q, %q; want one", v.Reveal(), v.Missing(), v.All())
	}
	l.Explain("nobody renews it")
	if plain, why := l.get(at.Add(2 * time.Hour)); plain != "" || why != "nobody renews it" {
		t.Errorf("an expired one is %q, %q", plain, why)
	}
	l.Set("two", time.Time{})
	if plain, why := l.get(at.Add(10000 * time.Hour)); plain != "two" || why != "" || !slices.Equal(v.All(), []string{"two", "one"}) {
		t.Errorf("it is %q, %q, %q; want two, and one before it", plain, why, v.All())
	}
	l.Set("two", at)
	if why := v.Missing(); !strings.Contains(why, "expired") {
		t.Errorf("an expired one is missing for %q", why)
	}
	l.Clear("it was revoked")
	l.Clear("it was revoked")
	if v.Reveal() != "" || v.Missing() != "it was revoked" || !slices.Equal(v.All(), []string{"two", "one"}) {
		t.Errorf("what was taken away is %q, %q, %q", v.Reveal(), v.Missing(), v.All())
	}
	for i := range 100 {
		l.Set(fmt.Sprint("value", i), time.Time{})
	}
	if n := len(v.All()); n != maxPast+1 {
		t.Errorf("%d values are remembered; want %d", n, maxPast+1)
	}
	hidden := struct{ v Value }{NewLive("the value", time.Time{}).Value()}
	if text := fmt.Sprintf("%v %+v %#v %s %v %+v", v, v, l, l, hidden, hidden); strings.Contains(text, "value") {
		t.Errorf("it prints as %s", text)
	}
}
