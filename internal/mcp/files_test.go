package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// file writes a file of the machine.
func (p *peer) file(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// content is what is in a file of the machine.
func (p *peer) content(name string) string {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.m.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

func TestRead(t *testing.T) {
	p := newPeer(t)
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintln(&lines, i+1)
	}
	p.file("lines", lines.String())
	p.file("none", "")
	p.file("last", "a\nb")
	p.file("crlf", "a\r\nb\r\n")
	p.file("odd", "a\u202eb\x1b[2J\xff\n")
	p.file("binary", "a\x00b")
	p.file("long", "first\n"+strings.Repeat("x", 3*mostRead)+"\n")
	for _, c := range []struct {
		in   args
		want readOutput
	}{
		{args{"path": "lines", "offset": 2, "limit": 2}, readOutput{Text: "2\n3\n", Lines: 2, More: true}},
		{args{"path": "lines", "offset": 3000}, readOutput{Text: "3000\n", Lines: 1}},
		{args{"path": "lines", "offset": 3001}, readOutput{}},
		{args{"path": "none"}, readOutput{}},
		{args{"path": "last"}, readOutput{Text: "a\nb", Lines: 2}},
		{args{"path": "last", "limit": 1}, readOutput{Text: "a\n", Lines: 1, More: true}},
		{args{"path": "last", "limit": 2}, readOutput{Text: "a\nb", Lines: 2}},
		{args{"path": "crlf"}, readOutput{Text: "a\nb\n", Lines: 2, Changed: true}},
		{args{"path": "odd"}, readOutput{Text: "a\\u{202e}b[2J\ufffd\n", Lines: 1, Changed: true}},
		{args{"path": "long"}, readOutput{Text: "first\n", Lines: 1, More: true}},
		{args{"path": "long", "offset": 2}, readOutput{Text: strings.Repeat("x", mostRead), Lines: 1, More: true}},
	} {
		got := must[readOutput](p, "read", c.in)
		c.want.Path = filepath.Join(p.m.dir, c.in["path"].(string))
		if got != c.want {
			t.Errorf("read(%v) = %.200v; want %.200v", c.in, got, c.want)
		}
	}
	if got := must[readOutput](p, "read", args{"path": "lines"}); got.Lines != 1000 || !got.More {
		t.Errorf("read of 3000 lines: %d, more %v", got.Lines, got.More)
	}
}

func TestReadRefuses(t *testing.T) {
	p := newPeer(t)
	p.file("binary", "a\x00b")
	for _, c := range []struct {
		in   args
		want string
	}{
		{args{"path": "binary"}, "no text"},
		{args{"path": "/dev/zero"}, "no text"},
		{args{"path": "/dev/zero", "offset": 2}, "not so far"},
		{args{"path": "missing"}, "No such file"},
		{args{"path": "."}, "directory"},
	} {
		if got := p.call("read", c.in, nil); !strings.Contains(got, c.want) {
			t.Errorf("read(%v) = %q; want %q", c.in, got, c.want)
		}
	}
}

func TestWriteAndEdit(t *testing.T) {
	p := newPeer(t)
	out := must[writeOutput](p, "write", args{"path": "a/b/c", "text": "one\ntwo\ntwo\n"})
	if got := p.content("a/b/c"); got != "one\ntwo\ntwo\n" || out.Bytes != 12 {
		t.Errorf("write wrote %q, %+v", got, out)
	}
	must[writeOutput](p, "edit", args{"path": "a/b/c", "old": "one\n", "new": "1\n"})
	if failed := p.call("edit", args{"path": "a/b/c", "old": "two", "new": "2"}, nil); !strings.Contains(failed, "2 times") {
		t.Errorf("edit of two places: %q", failed)
	}
	if out := must[writeOutput](p, "edit", args{"path": "a/b/c", "old": "two", "new": "2", "replace_all": true}); out.Replaced != 2 {
		t.Errorf("edit of all = %+v", out)
	}
	if got := p.content("a/b/c"); got != "1\n2\n2\n" {
		t.Errorf("edit left %q", got)
	}
	p.file("crlf", "a\r\nb\r\n")
	must[writeOutput](p, "edit", args{"path": "crlf", "old": "a\nb", "new": "c\nd"})
	if got := p.content("crlf"); got != "c\r\nd\r\n" {
		t.Errorf("edit left %q", got)
	}
	path := p.file("script", "#!/bin/sh\n")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	must[writeOutput](p, "write", args{"path": path, "text": "#!/bin/sh -e\n"})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("after write: %v, %v", info.Mode(), err)
	}
	must[writeOutput](p, "write", args{"path": "-n $(touch x) '\"", "text": "odd"})
	if got := p.content("-n $(touch x) '\""); got != "odd" {
		t.Errorf("an odd name: %q", got)
	}
	p.file("large", strings.Repeat("x", mostFile+1))
	for name, failed := range map[string]string{
		"missing text": p.call("edit", args{"path": "crlf", "old": "zzz", "new": ""}, nil),
		"empty old":    p.call("edit", args{"path": "crlf", "old": "", "new": "x"}, nil),
		"missing file": p.call("edit", args{"path": "missing", "old": "a", "new": "x"}, nil),
		"large file":   p.call("edit", args{"path": "large", "old": "x", "new": "y"}, nil),
		"large text":   p.call("write", args{"path": "x", "text": strings.Repeat("x", mostFile+1)}, nil),
		"a directory":  p.call("write", args{"path": ".", "text": "x"}, nil),
	} {
		if failed == "" {
			t.Errorf("%s: it was done", name)
		}
	}
}

func TestList(t *testing.T) {
	p := newPeer(t)
	for _, name := range []string{"a.go", "sub/b.go", "sub/deep/c.txt", ".git/config", "sub/.git/x", "odd\x1b[2J\nname"} {
		p.file(name, "package x\nneedle "+"here\n")
	}
	p.file("binary", "needle\x00\n")
	for _, c := range []struct {
		in   args
		want []string
	}{
		{args{}, []string{"a.go", "binary", "odd[2Jname", "sub/"}},
		{args{"depth": 9}, []string{"a.go", "binary", "odd[2Jname", "sub/", "sub/b.go", "sub/deep/", "sub/deep/c.txt"}},
		{args{"path": "sub"}, []string{"b.go", "deep/"}},
	} {
		if got := must[listOutput](p, "list", c.in); !slices.Equal(got.Entries, c.want) || got.Truncated {
			t.Errorf("list(%v) = %q; want %q", c.in, got.Entries, c.want)
		}
	}
	got := must[listOutput](p, "list", args{"pattern": "NEEDLE h", "glob": "*.go", "ignore_case": true})
	slices.SortFunc(got.Matches, func(a, b match) int { return strings.Compare(a.Path, b.Path) })
	if want := []match{{"a.go", 2, "needle here"}, {"sub/b.go", 2, "needle here"}}; !slices.Equal(got.Matches, want) {
		t.Errorf("grep = %+v; want %+v", got.Matches, want)
	}
	if got := must[listOutput](p, "list", args{"pattern": "nowhere"}); len(got.Matches) > 0 {
		t.Errorf("grep of what is nowhere = %+v", got)
	}
	for _, in := range []args{{"pattern": "("}, {"path": "missing"}, {"path": "missing", "pattern": "x"}} {
		if p.call("list", in, nil) == "" {
			t.Errorf("list(%v) was done", in)
		}
	}
	for i := range mostEntries + 1 {
		p.file(fmt.Sprintf("many/%d", i), "line\nline\n")
	}
	if got := must[listOutput](p, "list", args{"path": "many"}); len(got.Entries) != mostEntries || !got.Truncated {
		t.Errorf("list of many: %d, %v", len(got.Entries), got.Truncated)
	}
	if got := must[listOutput](p, "list", args{"pattern": "line"}); len(got.Matches) != mostMatches || !got.Truncated {
		t.Errorf("grep of many: %d, %v", len(got.Matches), got.Truncated)
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"", "plain\n", "\x1b[31mred\x1b[0m", "\x1b]0;t\x07x", "\x1bPq\x1b\\", "a\rb\r\n", "\xff\xfe", "\u202e\u2066", "\x1b", "\x1b["} {
		f.Add([]byte(seed), 7)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if why := hostileText(clean(text)); why != "" {
			t.Errorf("clean(%q) has %s", text, why)
		}
		o := &output{limit: 30}
		at := max(0, min(cut, len(text)))
		o.Write(text[:at])
		o.Write(text[at:])
		got, left := o.take()
		if why := hostileText(got); why != "" || len(got) > 120 {
			t.Errorf("output of %q has %d bytes and %s", text, len(got), why)
		}
		if left != (len(text) > 30) && len(clean(text)) < 60 {
			t.Errorf("of %d bytes, left out is %v", len(text), left)
		}
	})
}

func FuzzWindow(f *testing.F) {
	f.Add([]byte("a\nb\nc"), 1, 1, 2)
	f.Add([]byte("\n\n\n"), 0, 2, 1)
	f.Fuzz(func(t *testing.T, text []byte, skip, lines, size int) {
		skip, lines, size = max(0, skip%100), max(1, lines%100), max(1, size%100)
		w := &window{skip: skip, lines: lines, most: 50}
		for p := range slices.Chunk(text, size) {
			if _, err := w.Write(p); err != nil {
				break
			}
		}
		w.finish()
		want := bytes.SplitAfter(text, []byte("\n"))
		want = want[min(skip, len(want)):]
		want = want[:min(lines, len(want))]
		if all := bytes.Join(want, nil); !bytes.HasPrefix(all, w.text) || len(w.text) > 50 || len(all) <= 50 && len(w.text) != len(all) {
			t.Errorf("%d lines from %d of %q: %q", lines, skip, text, w.text)
		}
	})
}

// A write that is killed before it has all of the text leaves what was there.
func TestPutKilled(t *testing.T) {
	name := filepath.Join(t.TempDir(), "dir", "f")
	put := func() *exec.Cmd { return exec.Command("sh", "-c", putScript, "sh", name) }
	c := put()
	c.Stdin = strings.NewReader("old\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(name, 0o750); err != nil {
		t.Fatal(err)
	}
	c = put()
	c.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: somebody has read of it when this returns.
	if _, err := in.Write(make([]byte, 256<<10)); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(-c.Process.Pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	c.Wait()
	text, err := os.ReadFile(name)
	if err != nil || string(text) != "old\n" {
		t.Errorf("after a write that was killed there are %d bytes, %v; want what was there", len(text), err)
	}
	c = put()
	c.Stdin = strings.NewReader("new\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	text, err = os.ReadFile(name)
	fi, statErr := os.Stat(name)
	if err != nil || statErr != nil || string(text) != "new\n" || fi.Mode().Perm() != 0o750 {
		t.Errorf("after a write: %q, %v, mode %v", text, errors.Join(err, statErr), fi.Mode())
	}
}
