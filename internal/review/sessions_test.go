package review

import (
	"cmp"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// session is the change set of an honest session, as testdata/sessions has it.
type session struct {
	// Made says where: "machine" is a run of the workload in a machine, of which mayfly diff
	// says what changed. "host" is one on a host, in a directory compared before and after.
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
	var questions []int
	withRuns, withSuspicious, inMachines := 0, 0, 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var s session
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch s.Made {
		case "machine":
			inMachines++
		case "host":
		default:
			t.Errorf("%s: made = %q; want machine or host", name, s.Made)
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
	t.Logf("%d sessions, %d made in machines: %d ask about what runs by itself, %d about what is suspicious; questions: median %d, 95 %% at most %d", all, inMachines, withRuns, withSuspicious, questions[all/2], questions[all*95/100])
	if inMachines < 40 {
		t.Errorf("%d of %d sessions were made in machines; want 40 or more", inMachines, all)
	}
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
