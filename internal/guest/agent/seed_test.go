package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

func TestMergeJSON(t *testing.T) {
	for _, tt := range []struct {
		name, file, must, defaults string
		want                       string // "" for unchanged, "error" for one
	}{
		{"new file", "", `{"a":true}`, `{"b":1}`, `{"a":true,"b":1}`},
		{"empty file", " \n", `{"a":true}`, "", `{"a":true}`},
		{"nothing to say", `{"x":1}`, "", "", ""},
		{"must wins, the rest stays", `{"a":false,"x":[1,2]}`, `{"a":true}`, "", `{"a":true,"x":[1,2]}`},
		{"default loses", `{"theme":"light"}`, "", `{"theme":"dark"}`, ""},
		{"null is something", `{"theme":null}`, "", `{"theme":"dark"}`, ""},
		{"holds already", `{ "a" : true }`, `{"a":true}`, `{"a":false}`, ""},
		{"deep", `{"p":{"/x":{"trust":false,"n":1},"/y":{}}}`, `{"p":{"/x":{"trust":true},"/z":{"trust":true}}}`, "", `{"p":{"/x":{"trust":true,"n":1},"/y":{},"/z":{"trust":true}}}`},
		{"object in the place of a value", `{"p":1}`, `{"p":{"a":1}}`, `{"p":{"b":2}}`, `{"p":{"a":1,"b":2}}`},
		{"default object leaves a value", `{"p":1}`, "", `{"p":{"b":2}}`, ""},
		{"numbers keep their digits", `{"n":12345678901234567890.10,"a":0}`, `{"a":1}`, "", `{"n":12345678901234567890.10,"a":1}`},
		{"no escapes for HTML", `{"s":"<a&b>"}`, `{"a":1}`, "", `{"s":"<a&b>","a":1}`},
		{"byte order mark", "\ufeff" + `{"s":1}`, `{"a":1}`, "", `{"s":1,"a":1}`},
		{"cut off", `{"a":`, `{"a":1}`, "", "error"},
		{"an array", `[1]`, `{"a":1}`, "", "error"},
		{"null", `null`, `{"a":1}`, "", "error"},
		{"two values", `{} {}`, `{"a":1}`, "", "error"},
		{"comments", "{\n// x\n}", `{"a":1}`, "", "error"},
		{"bad settings", `{}`, `[]`, "", "error"},
	} {
		got, changed, err := mergeJSON([]byte(tt.file), []byte(tt.must), []byte(tt.defaults), nil)
		if (err != nil) != (tt.want == "error") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil {
			continue
		}
		if changed != (tt.want != "") {
			t.Errorf("%s: changed = %v; want %v", tt.name, changed, tt.want != "")
		}
		want := tt.want
		if !changed {
			want = tt.file
		}
		if d := cmp.Diff(canonical(t, []byte(want)), canonical(t, got)); d != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, d)
		}
		if bytes.Contains(got, []byte(`\u003c`)) {
			t.Errorf("%s: %s is escaped", tt.name, got)
		}
	}
}

func TestMergeJSONLists(t *testing.T) {
	items := []listItem{{[]string{"l", "approved"}, "tail"}}
	for in, want := range map[string]string{
		``:                                `{"l":{"approved":["tail"]}}`,
		`{"l":{"approved":["a"],"x":1}}`:  `{"l":{"approved":["a","tail"],"x":1}}`,
		`{"l":{"approved":["tail","a"]}}`: "",
		`{"l":[1]}`:                       `{"l":{"approved":["tail"]}}`,
		`{"l":{"approved":{"a":1}}}`:      `{"l":{"approved":["tail"]}}`,
	} {
		got, changed, err := mergeJSON([]byte(in), nil, nil, items)
		if err != nil || changed != (want != "") {
			t.Errorf("mergeJSON(%s) = %v, %v; want %v", in, changed, err, want != "")
		}
		if want == "" {
			want = in
		}
		if d := cmp.Diff(canonical(t, []byte(want)), canonical(t, got)); d != "" {
			t.Errorf("mergeJSON(%s): -want +got:\n%s", in, d)
		}
	}
}

// An object is put into a list once, beside what a user has there.
func TestMergeJSONObjects(t *testing.T) {
	ours := map[string]any{"hooks": []any{map[string]any{"type": "command", "command": "a && b", "timeout": 10.0}}}
	items := []listItem{{[]string{"hooks", "Stop"}, ours}}
	const mine = `{"hooks":{"Stop":[{"matcher":"x","hooks":[{"type":"command","command":"mine"}]}],"Setup":[]},"model":"m"}`
	first, changed, err := mergeJSON([]byte(mine), nil, nil, items)
	if err != nil || !changed {
		t.Fatalf("mergeJSON = %v, %v", changed, err)
	}
	want := `{"hooks":{"Stop":[{"matcher":"x","hooks":[{"type":"command","command":"mine"}]},
		{"hooks":[{"command":"a && b","timeout":10,"type":"command"}]}],"Setup":[]},"model":"m"}`
	if d := cmp.Diff(canonical(t, []byte(want)), canonical(t, first)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if again, changed, err := mergeJSON(first, nil, nil, items); err != nil || changed || !bytes.Equal(again, first) {
		t.Errorf("a second merge: %v, %v\n%s", changed, err, again)
	}
}

func canonical(t testing.TB, data []byte) any {
	t.Helper()
	if len(data) == 0 {
		return nil
	}
	object, err := decodeObject(data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return object
}

// Whatever the file: what must hold does, what else was in it is in it still, and
// a second merge changes nothing.
func FuzzMergeJSON(f *testing.F) {
	const must, defaults = `{"a":true,"p":{"/x":{"t":true}}}`, `{"theme":"dark","p":{"/x":{"n":1}}}`
	items := []listItem{{[]string{"l", "approved"}, "tail"}}
	for _, seed := range []string{"", "{}", `{"a":1,"p":{"/x":{"t":false,"k":[1]}},"theme":null}`, `{"p":[1]}`, `{"a":1e400,"a":2}`, `{"":{"":{}}}`, "[", "null", "\ufeff{}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		merged, _, err := mergeJSON(file, []byte(must), []byte(defaults), items)
		if err != nil {
			return
		}
		again, changed, err := mergeJSON(merged, []byte(must), []byte(defaults), items)
		if err != nil || changed || !bytes.Equal(again, merged) {
			t.Fatalf("a second merge of %q: %q, %v, %v", file, again, changed, err)
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(bytes.TrimPrefix(merged, []byte("\ufeff")), &got); err != nil {
			t.Fatal(err)
		}
		if string(got["a"]) != "true" || got["theme"] == nil {
			t.Errorf("of %q came %q", file, merged)
		}
		if len(bytes.TrimSpace(file)) == 0 {
			return
		}
		old, err := decodeObject(file)
		if err != nil {
			t.Fatal(err)
		}
		now := canonical(t, merged).(map[string]any)
		for key, value := range old {
			if key != "a" && key != "p" && key != "l" && !cmp.Equal(value, now[key]) {
				t.Errorf("of %q came %q: %q differs", file, merged, key)
			}
		}
	})
}

func seedFiles(t testing.TB, g *guest, files ...wire.SeedFile) ([]string, error) {
	t.Helper()
	answer, err := client.Seed(g.open(t), &wire.Seed{Files: files})
	return answer.Aside, err
}

// A conversation that an agent has had is told of, and one of another agent is not.
func TestSeedTellsOfConversations(t *testing.T) {
	g := startGuest(t)
	home := t.TempDir()
	claude, codex := filepath.Join(home, ".claude"), filepath.Join(home, ".codex")
	earlier := func() bool {
		t.Helper()
		place := wire.TranscriptPlace{Name: "claude", Dirs: []string{filepath.Join(home, "nowhere"), claude}, Files: []string{"projects"}}
		answer, err := client.Seed(g.open(t), &wire.Seed{Transcripts: []wire.TranscriptPlace{place}})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Earlier
	}
	for _, name := range []string{filepath.Join(claude, "settings.json"), filepath.Join(codex, "projects/p/t.jsonl")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(claude, "projects/empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if earlier() {
		t.Error("there is a conversation before the first")
	}
	if err := os.WriteFile(filepath.Join(claude, "projects/empty/t.jsonl"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !earlier() {
		t.Error("there is no conversation after the first")
	}
}

func TestSeed(t *testing.T) {
	g := startGuest(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, content string, perm os.FileMode) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(content), perm); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(b)), "")
	}
	must := json.RawMessage(`{"a":1}`)
	put("old", `{"b":2}`, 0o640)
	put("broken", `{"b":`, 0o600)
	put("linked", `{"c":3}`, 0o600)
	put("text", "mine", 0o600)
	put("listed", `{"k":[{"mine":1}]}`, 0o600)
	if err := os.Symlink("linked", at("link")); err != nil {
		t.Fatal(err)
	}
	aside, err := seedFiles(t, g,
		wire.SeedFile{Path: at("new/deep/file"), Must: must},
		wire.SeedFile{Path: at("old"), Must: must},
		wire.SeedFile{Path: at("broken"), Must: must},
		wire.SeedFile{Path: at("link"), Must: must},
		wire.SeedFile{Path: at("text"), Text: "theirs"},
		wire.SeedFile{Path: at("fresh"), Text: "theirs"},
		wire.SeedFile{Path: at("key"), Variable: "LANG", Text: "{\"k\": @VALUE@}\n"},
		wire.SeedFile{Path: at("text"), Variable: "LANG", Text: "@VALUE@"},
		wire.SeedFile{Path: at("no-key"), Variable: "NO_SUCH_KEY", Text: "{\"k\": @VALUE@}\n"},
		wire.SeedFile{Path: at("tail"), Tails: []wire.SeedTail{
			{Keys: []string{"k"}, Variable: "LANG", Length: 3}, {Keys: []string{"k"}, Variable: "KEEP", Length: 30}, {Keys: []string{"k"}, Variable: "NONE", Length: 3},
		}},
		wire.SeedFile{Path: at("listed"), Items: []wire.SeedItem{{Keys: []string{"k"}, Value: json.RawMessage(`{"ours":1}`)}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(aside) != 1 || !strings.HasPrefix(aside[0], at("broken.unreadable-")) {
		t.Fatalf("aside are %q; want the one that is broken", aside)
	}
	for name, want := range map[string]string{
		"new/deep/file": `{"a":1}`, "old": `{"a":1,"b":2}`, "broken": `{"a":1}`, filepath.Base(aside[0]): `{"b":`,
		"linked": `{"a":1,"c":3}`, "text": "mine", "fresh": "theirs", "key": `{"k":"C.UTF-8"}`, "listed": `{"k":[{"mine":1},{"ours":1}]}`, "tail": `{"k":["F-8","base"]}`, // LANG=C.UTF-8
	} {
		if got := read(name); got != want {
			t.Errorf("%s holds %s; want %s", name, got, want)
		}
	}
	for name, want := range map[string]os.FileMode{"old": 0o640, "new/deep/file": 0o600, "new/deep": 0o700 | os.ModeDir, "link": 0o777 | os.ModeSymlink} {
		if fi, err := os.Lstat(at(name)); err != nil || fi.Mode() != want {
			t.Errorf("%s has mode %v, %v; want %v", name, fi.Mode(), err, want)
		}
	}
	if _, err := os.Lstat(at("no-key")); err == nil {
		t.Error("a file for a variable that is not set is there")
	}
	if left, _ := filepath.Glob(at("*.mayfly-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}

	// Nothing waits for what is no file.
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []wire.SeedFile{{Path: at("fifo"), Must: must}, {Path: dir, Must: must}, {Path: "relative", Must: must}, {Path: at("text/x"), Must: must}} {
		if _, err := seedFiles(t, g, f); err == nil {
			t.Errorf("settings in %s = nil; want an error", f.Path)
		}
	}
}

// The user's rights are all that there are: a link to what is root's leads to
// an error, and what is made is the user's.
func TestAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	// The directories above are of 0700 and root's.
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	theirs, secret := filepath.Join(dir, "theirs"), filepath.Join(dir, "secret")
	if err := os.Mkdir(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte(`{"b":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(theirs, "link")); err != nil {
		t.Fatal(err)
	}
	user := &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{nobody}}
	seed := func(path string) error {
		return asUser(user, func() error {
			_, err := seedFile(wire.SeedFile{Path: path, Must: json.RawMessage(`{"a":1}`)}, nil)
			return err
		})
	}
	if err := seed(filepath.Join(theirs, "link")); err == nil {
		t.Error("settings through a link to a file of root's = nil; want an error")
	}
	if b, _ := os.ReadFile(secret); string(b) != `{"b":2}` {
		t.Errorf("the file of root's holds %s", b)
	}
	if err := seed(filepath.Join(dir, "new")); err == nil {
		t.Error("settings in a directory of root's = nil; want an error")
	}
	if err := seed(filepath.Join(theirs, "sub/file")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sub", "sub/file"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(theirs, name), &st); err != nil || st.Uid != nobody || st.Gid != nobody {
			t.Errorf("%s is of %d:%d, %v; want the user's", name, st.Uid, st.Gid, err)
		}
	}
	// Nobody else has become the user.
	for range 100 {
		done := make(chan error)
		go func() { _, err := os.ReadFile(secret); done <- err }()
		if err := <-done; err != nil {
			t.Fatalf("root cannot read: %v", err)
		}
	}
}
