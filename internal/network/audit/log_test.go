package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path, "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func read(t *testing.T, path string) []Event {
	t.Helper()
	var all []Event
	if err := Read(path, func(e Event) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// A log that is closed and opened again goes on where it was, also after a crash
// in the middle of a line.
func TestLogContinues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	l.Record(Event{Kind: Flow, Verdict: Allow, Name: "a.example", Port: 443})
	l.Record(Event{Kind: Flow, Verdict: Cut, Name: "b.example", Port: 22})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":3,"ti`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	open(t, path).Record(Event{Kind: Note})
	var got []int64
	for _, e := range read(t, path) {
		got = append(got, e.Seq)
		if e.Machine != "m" || e.Time.IsZero() {
			t.Errorf("line %+v lacks its machine or time", e)
		}
	}
	if d := cmp.Diff([]int64{1, 2, 3}, got); d != "" {
		t.Errorf("the numbers of the lines (-want +got):\n%s", d)
	}
}

// Whoever changes a line, or takes one out, changes what follows.
// A machine starts also when its log cannot be continued.
func TestDamagedLogIsSetAside(t *testing.T) {
	for name, text := range map[string]string{"no JSON": "x\n", "a line without end": strings.Repeat("x", 1<<20)} {
		path := filepath.Join(t.TempDir(), "m.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path, "m")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if data, err := os.ReadFile(path + DamagedSuffix); err != nil || string(data) != text {
			t.Errorf("%s: set aside: %d bytes, %v", name, len(data), err)
		}
		said := false
		if err := Read(path, func(e Event) error { said = said || strings.Contains(e.Reason, "set aside"); return nil }); err != nil || !said {
			t.Errorf("%s: the new log says so: %v, %v", name, said, err)
		}
	}
}

func TestReadFindsChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		l.Record(Event{Kind: Flow, Verdict: Allow, Name: name})
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(good), "\n")
	for what, bad := range map[string]string{
		"changed":   strings.Replace(string(good), "b.example", "x.example", 1),
		"taken out": lines[0] + lines[2],
		"exchanged": lines[0] + lines[2] + lines[1],
		"no JSON":   lines[0] + "x\n" + lines[2],
		"too long":  lines[0] + strings.Repeat("x", maxLine+1) + "\n",
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Read(path, func(Event) error { return nil })
		if err == nil || what != "too long" && !errors.Is(err, ErrChanged) {
			t.Errorf("a line %s: Read = %v; want an error", what, err)
		}
	}
}

// A guest that causes lines without end fills no disk, and each is counted.
func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, clock := openAt(t, path)
	long := strings.Repeat("\x00", 5000)
	const all = 50_000
	for i := range all {
		if i%10 == 0 {
			clock.pass(time.Millisecond)
		}
		l.Record(Event{Kind: Request, Verdict: Deny, Name: long, Path: long, Method: long, Reason: long, Rule: long})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, most := range map[string]int64{
		path: MaxFileSize, path + Suffix: MaxFileSize, path + DeniedSuffix: maxDeniedSize, path + DeniedSuffix + Suffix: maxDeniedSize,
	} {
		if fi, err := os.Stat(name); err == nil && fi.Size() > most {
			t.Errorf("%s has %d bytes; want at most %d", name, fi.Size(), most)
		}
	}
	lines, counted := 0, 0
	for _, e := range read(t, path) {
		lines++
		counted += max(1, e.Count)
	}
	if counted != all || lines > 100 {
		t.Errorf("%d lines for %d refusals; want few, for all %d", lines, counted, all)
	}
	if denied, more := l.Denials(); len(denied) != 1 || denied[0].Count != all || more != 0 {
		t.Errorf("Denials() = %d kinds, %d; want all %d of one kind", len(denied), more, all)
	}
}

// However fast a guest is refused, what was allowed with a secret, or cut, stays recorded,
// the lines are in order, and each refusal is counted.
func TestRefusalsHideNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		l, err := Open(path, "m")
		if err != nil {
			t.Fatal(err)
		}
		const seconds, perSecond = 15, 5000
		for i := range seconds * perSecond {
			// Many destinations, many paths, and some again and again.
			e := Event{Kind: Request, Verdict: Deny, Name: fmt.Sprintf("h%d.example", i%7919), Port: 443, Method: "GET", Path: fmt.Sprintf("/%d", i)}
			if i%3 == 0 {
				e = Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: "10.0.0.1", Port: i % 10}
			}
			l.Record(e)
			if i%(perSecond/10) == 0 {
				l.Record(Event{Kind: Request, Verdict: Allow, Name: "api.example", Port: 443, Path: fmt.Sprintf("/allowed/%d", i), Secrets: []string{"TOKEN"}})
			}
			if i%perSecond == 0 {
				l.Record(Event{Kind: Flow, Verdict: Cut, Name: fmt.Sprintf("cut%d.example", i), Port: 443})
				time.Sleep(time.Second)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		allowed, cut, refused, missing := 0, 0, 0, 0
		last := time.Time{}
		for _, e := range read(t, path) {
			if e.Time.Before(last) {
				t.Fatalf("line %+v comes after one of %v", e, last)
			}
			last = e.Time
			switch {
			case e.Kind == Note:
				missing += e.Count
			case e.Verdict == Allow:
				allowed += max(1, e.Count)
			case e.Verdict == Cut:
				cut++
			default:
				refused += max(1, e.Count)
			}
		}
		if allowed != seconds*10 || cut != seconds {
			t.Errorf("%d requests that were allowed and %d cuts; want %d and %d", allowed, cut, seconds*10, seconds)
		}
		if missing == 0 && refused != seconds*perSecond {
			t.Errorf("%d refusals are counted; want %d", refused, seconds*perSecond)
		}
		if missing > 0 {
			t.Logf("%d lines of refusals are said to be no longer there", missing)
		}
	})
}

// What was allowed too often to be recorded one by one is counted, by its host.
func TestAllowedIsNeverLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	const all = 20_000
	for i := range all {
		l.Record(Event{Kind: Request, Verdict: Allow, Name: fmt.Sprintf("h%d.example", i%5), Path: fmt.Sprint(i), Up: 1, Secrets: []string{"TOKEN"}})
		l.Record(Event{Kind: Flow, Verdict: Allow, Name: fmt.Sprintf("f%d.example", i%3000), Up: 1})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	count, up, names := 0, int64(0), make(map[string]bool)
	for _, e := range read(t, path) {
		count += max(1, e.Count)
		up += e.Up
		names[e.Name] = true
		if e.Kind == Request && len(e.Secrets) != 1 {
			t.Fatalf("line %+v lacks its secret", e)
		}
	}
	if count != 2*all || up != 2*all || len(names) != 3005 {
		t.Errorf("%d lines, %d bytes, %d hosts; want %d, %d and 3005", count, up, len(names), 2*all, 2*all)
	}
}

// Where older lines are gone, the log says so, in each of its files.
func TestMissingIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	l.kept.max, l.denied.max = 4000, 4000
	for i := range 100 {
		l.Record(Event{Kind: Flow, Verdict: Allow, Name: fmt.Sprintf("a%d.example", i)})
		l.Record(Event{Kind: Flow, Verdict: Deny, Name: fmt.Sprintf("d%d.example", i)})
	}
	all := read(t, path)
	var said []string
	there := map[Verdict]int{}
	for _, e := range all {
		if e.Kind == Note {
			said = append(said, e.Reason)
			there[map[bool]Verdict{true: Deny, false: Allow}[strings.Contains(e.Reason, "refusals")]] += e.Count
		} else {
			there[e.Verdict]++
		}
	}
	if len(said) != 2 || there[Allow] != 100 || there[Deny] != 100 {
		t.Errorf("said: %q; there or missing: %v; want a note of each kind, and 100 of each", said, there)
	}
}

// Whoever follows a log sees every line once and in order, across its rotation.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	done := make(chan struct{})
	var got []int64
	enough := make(chan struct{})
	const all = 24_000 // about 22 MiB
	var once sync.Once
	ended := make(chan error)
	go func() {
		ended <- Follow(path, done, func(e Event) error {
			got = append(got, e.Seq)
			if e.Seq >= 5 {
				once.Do(func() { close(enough) })
			}
			return nil
		})
	}()
	text := strings.Repeat("x", maxText)
	for i := range all {
		l.keep.tokens = 1e9
		if i == 10 {
			<-enough
		}
		l.Record(Event{Kind: Request, Name: text, Reason: text, Rule: text})
	}
	close(done)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for i, seq := range got {
		if seq != int64(i+1) {
			t.Fatalf("line %d has the number %d", i+1, seq)
		}
	}
	if len(got) != all {
		t.Errorf("%d lines; want %d", len(got), all)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("{\"seq\":1,\"prev\":\"\"}\n{\"seq\":2,\"prev\":\"\"}\n"))
	f.Add([]byte("\n"))
	path := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		begun := false
		Read(path, func(e Event) error {
			if !begun && e.Kind == Note && e.Seq == 0 {
				return nil // older lines are missing
			}
			if begun && e.Seq != last+1 {
				t.Errorf("line %d after line %d", e.Seq, last)
			}
			begun, last = true, e.Seq
			return nil
		})
	})
}

// The directory of a log may be that of a supervisor that was taken over. The next one, which
// is root when it opens the log, follows no link there, and waits for no pipe.
func TestLogInPlaceOfAnother(t *testing.T) {
	for name, make := range map[string]func(path, other string) error{
		"a link":      func(path, other string) error { return os.Symlink(other, path) },
		"a hard link": func(path, other string) error { return os.Link(other, path) },
		"a pipe":      func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"a directory": func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"a link as its older file": func(path, other string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Symlink(other, path+Suffix))
		},
		"a pipe as its older file": func(path, _ string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), unix.Mkfifo(path+Suffix, 0o600))
		},
		"an older file without end": func(path, _ string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.WriteFile(path+Suffix, nil, 0o600), os.Truncate(path+Suffix, 1<<40))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, other := filepath.Join(dir, "m.jsonl"), filepath.Join(dir, "other")
			if err := errors.Join(os.WriteFile(other, []byte("of another"), 0o600), make(path, other)); err != nil {
				t.Fatal(err)
			}
			open(t, path).Close()
			if data, err := os.ReadFile(other); err != nil || string(data) != "of another" {
				t.Errorf("the other file: %q, %v; want it as it was", data, err)
			}
			fi, err := os.Lstat(path)
			if err != nil || !fi.Mode().IsRegular() {
				t.Errorf("the log: %v, %v; want a file", fi, err)
			}
		})
	}
}
