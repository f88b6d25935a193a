package review

import (
	"cmp"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// session is the change set of an honest session, as testdata/sessions has it.
type session struct {
	// Made says where: "host" is a run of the workload on a host, in a directory with the
	// host's own tools, compared before and after. No session was made in a machine yet.
	Made    string              `json:"made"`
	Files   int                 `json:"files"`
	Names   map[string][]string `json:"names"` // by directory, before
	Changes []sessionChange     `json:"changes"`
}

type sessionChange struct {
	Path    string       `json:"path"`
	Ignored bool         `json:"ignored,omitempty"`
	Old     *sessionNode `json:"old,omitempty"`
	New     *sessionNode `json:"new,omitempty"`
}

type sessionNode struct {
	Kind   string `json:"kind"` // "file", "dir" or "link"
	Mode   uint32 `json:"mode"`
	Text   string `json:"text,omitempty"`
	Bytes  []byte `json:"bytes,omitempty"` // instead of Text where it is none
	Left   bool   `json:"left,omitempty"`  // the content is left out: of trees that tools produce
	Target string `json:"target,omitempty"`
}

func (n *sessionNode) node() Node {
	switch {
	case n == nil:
		return Node{}
	case n.Kind == "link":
		return link(n.Target)
	case n.Kind == "dir":
		return Node{Kind: Dir, Mode: n.Mode}
	case n.Left:
		return Node{Kind: Regular, Mode: n.Mode, Size: 1}
	}
	f := file(cmp.Or(n.Text, string(n.Bytes)))
	f.Mode = n.Mode
	return f
}

func (s *session) input() Input {
	in := Input{Host: Host{Files: s.Files, Names: func(dir string) []string { return s.Names[dir] }}}
	for _, c := range s.Changes {
		in.Changes = append(in.Changes, Change{Path: c.Path, Ignored: c.Ignored, Old: c.Old.node(), New: c.New.node()})
	}
	return in
}

// asked returns how many questions a session costs, and how many are about what runs by
// itself and about what is suspicious. Ignored files and trees that tools produce are
// left out of an apply; what builds is one question, as is what is ordinary.
func (s *session) asked(t *testing.T, name string) (questions, runs, suspicious int) {
	r, err := Classify(t.Context(), s.input())
	if err != nil {
		t.Fatal(err)
	}
	groups := map[Class]bool{}
	for i, v := range r.Verdicts {
		alone := slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Alone })
		switch {
		case s.Changes[i].Ignored || v.Generated || v.Withheld:
			continue
		case v.Class == Runs:
			runs++
		case v.Class == Suspicious:
			suspicious++
		case !alone:
			groups[v.Class] = true
			continue
		}
		questions++
		t.Logf("%s: %v %s: %+v", name, v.Class, s.Changes[i].Path, v.Findings[0])
	}
	return questions + len(groups), runs, suspicious
}

// TestSessions counts what honest sessions are asked: people who answer yes all day read
// no question any more.
func TestSessions(t *testing.T) {
	files, err := filepath.Glob("testdata/sessions/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 40 {
		t.Fatalf("%d sessions; want 40 or more", len(files))
	}
	var questions []int
	withRuns, withSuspicious := 0, 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var s session
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n, runs, suspicious := s.asked(t, strings.TrimSuffix(path.Base(name), ".json"))
		questions = append(questions, n)
		if runs > 0 {
			withRuns++
		}
		if suspicious > 0 {
			withSuspicious++
		}
	}
	slices.Sort(questions)
	all := len(files)
	t.Logf("%d sessions: %d ask about what runs by itself, %d about what is suspicious; questions: median %d, 95 %% at most %d", all, withRuns, withSuspicious, questions[all/2], questions[all*95/100])
	if withRuns*20 > all {
		t.Errorf("%d of %d sessions ask about what runs by itself; want at most 5 %%", withRuns, all)
	}
	if withSuspicious*50 > all {
		t.Errorf("%d of %d sessions ask about what is suspicious; want at most 2 %%", withSuspicious, all)
	}
	if median := questions[all/2]; median > 2 {
		t.Errorf("median of questions = %d; want at most 2", median)
	}
	if most := questions[all*95/100]; most > 3 {
		t.Errorf("questions of 95 %% of the sessions = %d; want at most 3", most)
	}
}

// TestRecordSessions makes testdata/sessions anew with the workloads of
// testdata/sessions.sh: MAYFLY_RECORD_SESSIONS=1, or the name of one.
func TestRecordSessions(t *testing.T) {
	only := os.Getenv("MAYFLY_RECORD_SESSIONS")
	if only == "" {
		t.Skip("MAYFLY_RECORD_SESSIONS is not set")
	}
	script, err := filepath.Abs("testdata/sessions.sh")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("bash", script, "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if only != "1" && only != name {
			continue
		}
		dir := t.TempDir()
		run := func(step string) {
			cmd := exec.Command("bash", script, step, name)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s %s: %v\n%s", step, name, err, out)
			}
		}
		run("base")
		before := treeOf(t, dir)
		run("work")
		data, err := json.MarshalIndent(compared(before, treeOf(t, dir), dir), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/sessions/"+name+".json", append(anonymous(data), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func treeOf(t *testing.T, root string) map[string]*sessionNode {
	tree := map[string]*sessionNode{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		switch {
		case err != nil || rel == ".":
			return err
		case rel == ".git":
			return fs.SkipDir // it comes back as commits
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n := &sessionNode{Kind: "dir", Mode: uint32(info.Mode().Perm())}
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			n.Kind = "file"
			if utf8.Valid(data) {
				n.Text = string(data)
			} else {
				n.Bytes = data
			}
		case info.Mode()&fs.ModeSymlink != 0:
			n.Kind = "link"
			n.Target, err = os.Readlink(p)
			if path.IsAbs(n.Target) { // where the host has its interpreters says nothing
				n.Target = "/usr/bin/" + path.Base(n.Target)
			}
		}
		tree[rel] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// mostLeft bounds the paths of produced trees that a session names.
const mostLeft = 60

func compared(before, after map[string]*sessionNode, dir string) *session {
	s := &session{Made: "host", Names: map[string][]string{".": {".git"}}}
	var paths []string
	for p, n := range before {
		s.Names[path.Dir(p)] = append(s.Names[path.Dir(p)], path.Base(p))
		if n.Kind == "file" {
			s.Files++
		}
		if after[p] == nil {
			paths = append(paths, p)
		}
	}
	for p, n := range after {
		if old := before[p]; old == nil || n.Kind != old.Kind || n.Mode != old.Mode || n.Text != old.Text || string(n.Bytes) != string(old.Bytes) || n.Target != old.Target {
			paths = append(paths, p)
		}
	}
	for _, names := range s.Names {
		slices.Sort(names)
	}
	slices.Sort(paths)
	left := 0
	for _, p := range paths {
		c := sessionChange{Path: p, Old: before[p], New: after[p]}
		check := exec.Command("git", "-C", dir, "check-ignore", "-q", p)
		c.Ignored = check.Run() == nil
		if c.Ignored || strings.Contains(p, "node_modules") {
			if left++; left > mostLeft {
				continue
			}
			if c.New != nil && c.New.Kind == "file" {
				c.New = &sessionNode{Kind: "file", Mode: c.New.Mode, Left: true}
			}
		}
		s.Changes = append(s.Changes, c)
	}
	return s
}

var server = regexp.MustCompile(`(https?://|sparse\+https://)([a-z0-9.-]+\.[a-z0-9.-]+)(:[0-9]+)?/`)

// anonymous names the servers that the host installs from by numbers.
func anonymous(data []byte) []byte {
	var known []string
	return server.ReplaceAllFunc(data, func(m []byte) []byte {
		part := server.FindSubmatch(m)
		host := string(part[2])
		if strings.HasSuffix(host, ".example") || host == "www.w3.org" {
			return m
		}
		i := slices.Index(known, host)
		if i < 0 {
			i = len(known)
			known = append(known, host)
		}
		return []byte(string(part[1]) + "server" + strconv.Itoa(i) + ".example/")
	})
}
