package words

import (
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
)

func TestCommits(t *testing.T) {
	r := mayfly.Repository{Dir: ".", Branches: []mayfly.Branch{{
		Name: "feat\x1b[2J", Count: 12, Files: 1, Worktree: "/tmp/wt",
		Commits: []mayfly.Commit{
			{ID: "f4e5d6a7890123", Subject: "add\u202e a test"},
			{ID: "a1b2c3d4e5f607", Subject: "fix", Author: "Bob <b@x>", Flags: []string{"identity", "signed", "merge", "unrelated", "future"}},
		},
	}}}
	got := strings.Join(Commits(r), "\n")
	want := `12 commits on "feat\x1b[2J", 1 file (worktree /tmp/wt in the machine)
  f4e5d6a789  add? a test
  a1b2c3d4e5  fix  (by Bob <b@x>, who is not who commits in the machine; signature not checked; a merge; begins another history; dated in the future)
  … and 10 more`
	if got != want {
		t.Errorf("Commits() =\n%s\nwant\n%s", got, want)
	}
	if got := Commits(mayfly.Repository{Dir: "lib/sub", Refused: "bad\npack"}); got[0] != "lib/sub: commits cannot be brought back: bad pack" {
		t.Errorf("Commits(refused) = %q", got)
	}
}

func TestLanded(t *testing.T) {
	r := mayfly.Repository{Dir: "."}
	for want, b := range map[string]mayfly.Branch{
		"main: fast-forwarded to f4e5d6a789, 2 commits":                                                                      {Name: "main", Tip: "f4e5d6a7890123", Count: 2, Forward: true},
		"1 commit of feat: branch mayfly/m/feat (their branch is not checked out here); git merge mayfly/m/feat":             {Name: "feat", Count: 1, Landed: "mayfly/m/feat", Stay: mayfly.StayOther},
		"1 commit of feat: branch mayfly/m/feat; git merge mayfly/m/feat":                                                    {Name: "feat", Count: 1, Landed: "mayfly/m/feat", Stay: mayfly.StayUnwanted},
		"1 commit of no branch: branch mayfly/m/detached (not all of their files were applied); git reset mayfly/m/detached": {Name: "HEAD", Count: 1, Landed: "mayfly/m/detached", Stay: mayfly.StayFiles},
	} {
		if got := Landed(r, b); got != want {
			t.Errorf("Landed() = %q; want %q", got, want)
		}
	}
	for want, b := range map[string]mayfly.Branch{
		"m has other commits with these changes; mayfly sync m, then there: git reset mayfly/host/main":                  {Name: "main", Anew: true, Forward: true},
		"after the merge: m has other commits with these changes; mayfly sync m, then there: git reset mayfly/host/main": {Name: "main", Anew: true, Stay: mayfly.StayMerged},
		"": {Name: "main", Forward: true},
	} {
		if got := GoOn("m", r, b); got != want {
			t.Errorf("GoOn() = %q; want %q", got, want)
		}
	}
	if got := Landed(mayfly.Repository{Dir: "a b"}, mayfly.Branch{Name: "x", Count: 1, Landed: "mayfly/m/x"}); !strings.HasSuffix(got, "; git -C 'a b' merge mayfly/m/x") {
		t.Errorf("Landed() = %q", got)
	}
}
