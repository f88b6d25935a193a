package agents_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/agents"
)

func TestBuiltinLock(t *testing.T) {
	lock, err := agents.Load("")
	if err != nil {
		t.Fatal(err)
	}
	list, err := lock.Select([]string{"opencode", "claude", "codex", "claude"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
		if want := a.Name + " " + a.Version + " (locked)"; a.String() != want {
			t.Errorf("String() = %q; want %q", a, want)
		}
	}
	if diff := cmp.Diff([]string{"claude", "codex", "opencode"}, names); diff != "" {
		t.Errorf("Select() (-want +got):\n%s", diff)
	}
	_, err = lock.Select([]string{"clippy"})
	if f, ok := fault.Of(err); !ok || f.Code != fault.AgentNotLocked || !strings.Contains(f.Args["known"], "claude") {
		t.Errorf("Select(clippy) = %v, %+v; want an error with the names that there are", err, f)
	}
}

// Each agent is pinned, and the lock file holds no other.
func TestLockIsOfTheTable(t *testing.T) {
	lock, err := agents.Load("")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(codingagent.Names(), slices.Sorted(maps.Keys(lock.Agents))); diff != "" {
		t.Errorf("agents (-table +lock file):\n%s", diff)
	}
}

func lockFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agents.lock.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// entry is an agent's entry in a lock file.
func entry(version, npm, integrity string) string {
	return fmt.Sprintf(`{"version": 1, "agents": {"claude": {"title": "T", "version": %q, "npm": %q,
		"integrity": %q, "size": 1, "files": ["bin", "LICENSE"], "bin": "bin/tool"}}}`, version, npm, integrity)
}

func integrity(data []byte) string {
	sum := sha512.Sum512(data)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func TestLoadOverride(t *testing.T) {
	good := integrity(nil)
	lock, err := agents.Load(lockFile(t, entry("9.9.0", "@x/tool@9.9.0", good)))
	if err != nil {
		t.Fatal(err)
	}
	if got := lock.Agents["claude"].Version; got != "9.9.0" {
		t.Errorf("version of claude = %q; want the override's", got)
	}
	if _, ok := lock.Agents["codex"]; !ok {
		t.Error("an override of one agent removes the others")
	}
	short, err := agents.Load(lockFile(t, fmt.Sprintf(`{"version": 1, "agents": {"claude": {"version": "9.9.0", "integrity": %q}}}`, good)))
	if err != nil {
		t.Fatal(err)
	}
	if a := short.Agents["claude"]; a.NPM != "@anthropic-ai/claude-code-linux-x64@9.9.0" || a.Title != "Claude Code" || a.Bin != "claude" {
		t.Errorf("an entry without its package is %+v; want the rest as the table has it", a)
	}
	if _, err := agents.Load(filepath.Join(t.TempDir(), "missing")); err != nil {
		t.Errorf("Load(missing) = %v", err)
	}
	for _, bad := range []string{
		"",
		`{"version": 2, "agents": {}}`,
		`{"version": 1, "agents": {}, "more": 1}`,
		entry("", "tool@1.0.0", good),
		entry("evil/repo", "tool@1.0.0", good),
		entry("latest", "tool@1.0.0", good),
		entry("1.0", "tool@1.0.0", good),
		entry("1.0.0\n", "tool@1.0.0", good),
		entry("1.0.0", "tool@evil/repo", good),
		entry("1.0.0", "tool@latest", good),
		entry("1.0.0", "evil/repo@1.0.0", good),
		entry("1.0.0", "tool@npm:evil@1.0.0", good),
		fmt.Sprintf(`{"version": 1, "agents": {"claude": {"version": "evil/repo", "integrity": %q}}}`, good),
		entry("1.0.0", "tool", good),
		entry("1.0.0", "--registry=x@1.0.0", good),
		entry("1.0.0", "git+ssh://x@1.0.0", good),
		entry("1.0.0", "../dir@1.0.0", good),
		entry("1.0.0", "tool@1.0.0", "sha1-abc"),
		entry("1.0.0", "tool@1.0.0", "sha512-abc"),
		strings.Replace(entry("1.0.0", "tool@1.0.0", good), `"bin/tool"`, `"other"`, 1),
		strings.Replace(entry("1.0.0", "tool@1.0.0", good), `"LICENSE"`, `"../../etc"`, 1),
		strings.Replace(entry("1.0.0", "tool@1.0.0", good), `"claude"`, `"../claude"`, 1),
	} {
		if _, err := agents.Load(lockFile(t, bad)); err == nil {
			t.Errorf("Load(%s) succeeded", bad)
		}
	}
}

// npmArchive is what npm pack makes, with some things that it should not.
func npmArchive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	for _, name := range []string{"package/bin/tool", "package/bin/../../../evil", "package/LICENSE", "package/README", "package/bin/link"} {
		content, ok := files[name]
		if !ok {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o6777, Uid: 1000, Size: int64(len(content))}
		if name == "package/bin/link" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, content, 0
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(tw, content)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// fakeNPM puts a program called npm first in PATH that packs an archive.
func fakeNPM(t *testing.T, archive []byte) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "archive"), archive, 0o644); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n" +
		`[ "$*" = "pack --json --ignore-scripts --pack-destination $PWD @x/tool@9.9.0" ] || { echo "called with $*" >&2; exit 1; }` + "\n" +
		"cp " + bin + `/archive x-tool-9.9.tgz; echo '[{"id": "@x/tool@9.9.0", "filename": "@x/tool-9.9.tgz"}]'` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestLayer(t *testing.T) {
	archive := npmArchive(t, map[string]string{
		"package/bin/tool":          "#!tool",
		"package/bin/../../../evil": "evil",
		"package/LICENSE":           "free",
		"package/README":            "not needed",
		"package/bin/link":          "/etc/passwd",
	})
	fakeNPM(t, archive)
	list := selectClaude(t, integrity(archive))
	files, err := agents.Fetch(t.Context(), list, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	if err := agents.WriteLayer(t.Context(), list, files, &layer); err != nil {
		t.Fatal(err)
	}
	var got []string
	tr := tar.NewReader(&layer)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s belongs to %d:%d; want root", h.Name, h.Uid, h.Gid)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%o %s %s", h.Mode, h.Name, h.Linkname)))
	}
	want := []string{
		"755 opt/", "755 opt/mayfly/", "755 opt/mayfly/agents/", "755 opt/mayfly/agents/claude/", "755 opt/mayfly/agents/claude/bin/",
		"755 opt/mayfly/agents/claude/bin/tool",
		"755 opt/mayfly/agents/claude/LICENSE",
		"755 usr/", "755 usr/local/", "755 usr/local/bin/",
		"777 usr/local/bin/claude /opt/mayfly/agents/claude/bin/tool",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

func selectClaude(t testing.TB, integrity string) []agents.Named {
	t.Helper()
	lock, err := agents.Load(lockFile(t, entry("9.9.0", "@x/tool@9.9.0", integrity)))
	if err != nil {
		t.Fatal(err)
	}
	list, err := lock.Select([]string{"claude"})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFetchWrongArchive(t *testing.T) {
	archive := npmArchive(t, map[string]string{"package/bin/tool": "#!evil"})
	fakeNPM(t, archive)
	_, err := agents.Fetch(t.Context(), selectClaude(t, integrity([]byte("another"))), t.TempDir())
	if fault.CodeOf(err) != fault.AgentArchiveWrong {
		t.Errorf("Fetch(wrong hash) = %v, %q; want %s", err, fault.CodeOf(err), fault.AgentArchiveWrong)
	}
}

func TestFetchWithoutNPM(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := os.Stat("/usr/sbin/npm"); err == nil {
		t.Skip("npm is in a directory that is always searched")
	}
	_, err := agents.Fetch(t.Context(), selectClaude(t, integrity(nil)), t.TempDir())
	if fault.CodeOf(err) != fault.AgentsWithoutNPM {
		t.Errorf("Fetch() = %v, %q; want %s", err, fault.CodeOf(err), fault.AgentsWithoutNPM)
	}
}

func TestWriteLayerIncomplete(t *testing.T) {
	archive := npmArchive(t, map[string]string{"package/LICENSE": "free"})
	path := filepath.Join(t.TempDir(), "x.tgz")
	for name, data := range map[string][]byte{"no program": archive, "no archive": []byte("html"), "cut short": archive[:len(archive)/2]} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := agents.WriteLayer(t.Context(), selectClaude(t, integrity(nil)), []string{path}, io.Discard); err == nil {
			t.Errorf("WriteLayer(%s) succeeded", name)
		}
	}
}

// fakeView puts a program called npm first in PATH that knows one newer version.
func fakeView(t *testing.T, version, dist string) {
	t.Helper()
	bin := t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in\n" +
		`"view --json @x/tool version") echo '"` + version + `"';;` + "\n" +
		`"view --json @x/tool@` + version + `-linux-x64 dist") echo '` + dist + `';;` + "\n" +
		"*) echo \"called with $*\" >&2; exit 1;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestLatest(t *testing.T) {
	old := agents.Named{Name: "tool", Agent: agents.Agent{
		Title: "Tool", Version: "1.0.0", NPM: "@x/tool@1.0.0-linux-x64", Integrity: integrity([]byte("old")), Size: 1, Files: []string{"tool"}, Bin: "tool",
	}}
	fakeView(t, "1.1.0", `{"integrity": "`+integrity([]byte("new"))+`", "unpackedSize": 7}`)
	got, err := agents.Latest(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != "1.1.0" || got.NPM != "@x/tool@1.1.0-linux-x64" || got.Integrity != integrity([]byte("new")) || got.Size != 7 {
		t.Errorf("Latest = %+v", got)
	}
	// What is pinned is what is loaded.
	path := filepath.Join(t.TempDir(), "config", "agents.lock.json")
	if err := agents.Pin(path, []agents.Named{got}); err != nil {
		t.Fatal(err)
	}
	lock, err := agents.Load(path)
	if err != nil || lock.Agents["tool"].Version != "1.1.0" || lock.Agents["claude"].Version == "" {
		t.Errorf("Load of what was pinned: %+v, %v", lock.Agents["tool"], err)
	}
	fakeView(t, "1.0.0", "")
	if got, err := agents.Latest(t.Context(), old); err != nil || got.Version != "1.0.0" || got.Integrity != old.Integrity {
		t.Errorf("Latest of the newest = %+v, %v", got, err)
	}
	// What npm would take for a git repository, a directory or a tag is no version.
	for _, version := range []string{"evil/repo", "../evil", "latest", "1.1", "v1.1.0", "git+ssh://evil/repo", "1.1.0 || 2", "^1.1.0", "npm:evil@1.1.0", ""} {
		fakeView(t, version, `{"integrity": "`+integrity([]byte("new"))+`", "unpackedSize": 7}`)
		if got, err := agents.Latest(t.Context(), old); err == nil {
			t.Errorf("Latest takes the version %q: %+v", version, got)
		}
	}
	// A registry that gives no hash is not believed.
	fakeView(t, "1.1.0", `{"integrity": "sha1-x", "unpackedSize": 7}`)
	if _, err := agents.Latest(t.Context(), old); err == nil {
		t.Error("Latest without a SHA-512 works")
	}
}

// What is said of the hosts that an agent contacts was measured with the program that is in
// images.
func TestMeasured(t *testing.T) {
	lock, err := agents.Load("")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range codingagent.Agents() {
		version, contacts := a.Measured()
		if got := lock.Agents[a.Name].Version; got != version || len(contacts) == 0 {
			t.Errorf("%s %s is locked, and %s was measured, with %v; let TestAgentsWork measure it again", a.Name, got, version, contacts)
		}
		for _, c := range contacts {
			reached := slices.ContainsFunc(a.Hosts, func(h codingagent.Host) bool { return credential.Covers(h.Name, c.Host) })
			if reached != (c.Tries == 0) || reached != (c.Costs == "") || reached != (c.Wants == "") {
				t.Errorf("%s: contact %+v; want tries and their cost for what its preset does not have, and for nothing else", a.Name, c)
			}
		}
	}
}
