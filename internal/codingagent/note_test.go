package codingagent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// An agent is told in few words what it may do, in a file of its own place.
func TestNote(t *testing.T) {
	var many []string
	for i := range 25 {
		many = append(many, fmt.Sprintf("h%d.example", i))
	}
	for _, tt := range []struct {
		facts     Facts
		has, lack string // words, apart by |
	}{
		{Facts{Network: true, Decided: true, Public: true}, "private copy|Public hosts|mayfly policy m allow HOST|sudo|mayfly port m add PORT:PORT", "only"},
		{Facts{Network: true, Decided: true, Allow: []string{"a.example", "b.example:22"}, Ports: []string{"80 as 127.0.0.1:8080"}},
			"Only these hosts can be reached: a.example, b.example:22.|Published are: 80 as 127.0.0.1:8080.", "Public hosts"},
		{Facts{Network: true, Decided: true, Allow: many}, "h19.example and 5 more", "h20.example"},
		{Facts{Network: true, Decided: true, Asks: true, Allow: []string{"a.example"}}, "may wait for a minute|These pass at once: a.example.|mayfly policy m allow HOST", "Only these|No host"},
		{Facts{Network: true, Decided: true}, "No host can be reached", "Only"},
		{Facts{Network: true, Live: true}, "changed at once", "mayfly policy|no network|private copy"},
		{Facts{}, "There is no network", "mayfly policy"},
	} {
		tt.facts.Name = "m"
		note := tt.facts.note("/work/a`b")
		if len(note) > 2000 || !strings.Contains(note, "`/work/a'b`") {
			t.Errorf("%+v: %s", tt.facts, note)
		}
		for _, want := range strings.Split(tt.has, "|") {
			if !strings.Contains(note, want) {
				t.Errorf("%+v: no %q in %s", tt.facts, want, note)
			}
		}
		for _, bad := range strings.Split(tt.lack, "|") {
			if strings.Contains(note, bad) {
				t.Errorf("%+v: %q in %s", tt.facts, bad, note)
			}
		}
	}
	if note := (Facts{Quiet: true, Network: true}).note("/work"); note != "" {
		t.Errorf("switched off: %q", note)
	}
	for _, a := range Agents() {
		if a.memory == "" {
			t.Errorf("%s is told nothing", a.Name)
		}
		at := Place{Dir: "/work", Home: "/h", Facts: &Facts{Name: "m"}}
		block := func(f File) bool { return f.Block }
		s, err := Launch(a.Name, at, nil)
		if err != nil || !slices.ContainsFunc(s.Files, block) {
			t.Errorf("Launch(%s) = %+v, %v; want a note", a.Name, s.Files, err)
		}
		// Never in the workspace.
		at.Dir = "/h"
		if s, err = Launch(a.Name, at, nil); err != nil || slices.ContainsFunc(s.Files, block) {
			t.Errorf("Launch(%s) in the home = %+v, %v; want no note", a.Name, s.Files, err)
		}
		at.Dir, at.Mounts = "/work", []string{"/h/" + StateDir}
		if s, err = Launch(a.Name, at, nil); err != nil || slices.ContainsFunc(s.Files, block) {
			t.Errorf("Launch(%s) in a share = %+v, %v; want no note", a.Name, s.Files, err)
		}
	}
}
