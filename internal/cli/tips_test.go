package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
)

// Files that were committed and are not as in the machine's working tree are counted by the
// host: what is shown as changes is not what would be committed. The list for programs has
// the commits, too.
func TestTipDiffers(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(s *committer)
		want int
	}{
		"nothing":         {func(s *committer) {}, 0},
		"the rest is new": {func(s *committer) { s.write(s.guest, "untracked.txt", "u\n") }, 0},
		"edited since":    {func(s *committer) { s.write(s.guest, "a.txt", "3\n") }, 1},
		"as it was before, behind git's back": {func(s *committer) {
			s.git(s.guest, "update-index", "--assume-unchanged", "a.txt", "new/c.txt")
			s.write(s.guest, "a.txt", "1\n")
			s.write(s.guest, "new/c.txt", "harmless\n")
		}, 2},
		"deleted there only": {func(s *committer) { os.Remove(filepath.Join(s.guest, "new/c.txt")) }, 1},
		"there again":        {func(s *committer) { s.write(s.guest, "dir/gone.txt", "1\n") }, 1},
		"a program":          {func(s *committer) { os.Chmod(filepath.Join(s.guest, "a.txt"), 0o755) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			s.write(s.guest, "a.txt", "2\n")
			s.write(s.guest, "new/c.txt", "c\n")
			s.git(s.guest, "rm", "-q", "dir/gone.txt")
			tip := s.commit(s.guest, "one")
			tt.do(s)
			list, err := s.mayfly("diff", "m")
			said := strings.Contains(list, "  the working tree differs from the tip of main in "+map[int]string{1: "1 file\n", 2: "2 files\n"}[tt.want])
			if err != nil || said != (tt.want > 0) {
				t.Errorf("diff = %v:\n%s", err, list)
			}
			list, _ = userOf(t, s.home, nil).printed(t, "diff", "m", "--json")
			var all []struct {
				Op, Path string
				Branches []mayfly.Branch
			}
			if err := json.Unmarshal([]byte(list), &all); err != nil {
				t.Fatalf("%v in %s", err, list)
			}
			c := all[0]
			if c.Op != "C" || c.Path != "." || len(c.Branches) != 1 || c.Branches[0].Tip != tip || c.Branches[0].Differs != tt.want ||
				len(c.Branches[0].Commits) != 1 || c.Branches[0].Commits[0].Subject != "one" || c.Branches[0].Commits[0].Author != "Ada <ada@example.org>" {
				t.Errorf("diff --json begins with %+v", c)
			}
		})
	}
}
