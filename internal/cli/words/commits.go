package words

import (
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxCommits are named of a branch.
const maxCommits = 10

// Commits describes what was committed in a repository, one line each.
func Commits(r mayfly.Repository) (lines []string) {
	if r.Refused != "" {
		return []string{in(r) + "commits cannot be brought back: " + termsafe.Line(r.Refused)}
	}
	for _, b := range r.Branches {
		line := fmt.Sprintf("%s%s on %s, %s", in(r), counted(b.Count, "commit"), branchName(b), counted(b.Files, "file"))
		if b.Worktree != "" {
			line += " (worktree " + termsafe.Quote(b.Worktree) + " in the machine)"
		}
		lines = append(lines, line)
		if b.Differs > 0 {
			lines = append(lines, "  the working tree differs from the tip of "+branchName(b)+" in "+counted(b.Differs, "file"))
		}
		for i, c := range b.Commits {
			if i == maxCommits {
				break
			}
			line := "  " + short(c.ID) + "  " + termsafe.Line(termsafe.Clip(c.Subject, 100))
			if flags := flagWords(c); len(flags) > 0 {
				line += "  (" + strings.Join(flags, "; ") + ")"
			}
			lines = append(lines, line)
		}
		if more := b.Count - min(len(b.Commits), maxCommits); more > 0 {
			lines = append(lines, fmt.Sprintf("  … and %d more", more))
		}
	}
	return lines
}

// Landed says what became of the commits of a branch.
func Landed(r mayfly.Repository, b mayfly.Branch) string {
	if b.Forward {
		return fmt.Sprintf("%s%s: fast-forwarded to %s, %s", in(r), branchName(b), short(b.Tip), counted(b.Count, "commit"))
	}
	if b.CheckedOut {
		return fmt.Sprintf("%s%s of %s: branch %s, which is checked out", in(r), counted(b.Count, "commit"), branchName(b), b.Landed)
	}
	git := "git"
	if r.Dir != "." {
		git += " -C " + shellquote.Word(r.Dir)
	}
	line := fmt.Sprintf("%s%s of %s: branch %s", in(r), counted(b.Count, "commit"), branchName(b), b.Landed)
	why := stayWords[b.Stay]
	if b.Stay == mayfly.StayOther && b.Name == "HEAD" {
		why = "they are on no branch in the machine"
	}
	if why != "" {
		line += " (" + why + ")"
	}
	command := "merge"
	if b.Stay == mayfly.StayFiles {
		command = "reset" // the files that were applied are those of the commits
	}
	return line + "; " + git + " " + command + " " + b.Landed
}

// GoOn says how a machine that is to go on gets commits that were made anew; "" where it need not.
func GoOn(machine string, r mayfly.Repository, b mayfly.Branch) string {
	if !b.Anew || r.Dir != "." || b.Name == "HEAD" || !b.Forward && b.Stay != mayfly.StayMerged {
		return ""
	}
	line := fmt.Sprintf("%s has other commits with these changes; mayfly sync %s, then there: git reset %s", machine, machine, shellquote.Word("mayfly/host/"+b.Name))
	if !b.Forward {
		return "after the merge: " + line
	}
	return line
}

// GitFiles says what of git's own stays in the machine.
func GitFiles(n int) string {
	return fmt.Sprintf("git's own files: %s, not brought back", counted(n, "change"))
}

var stayWords = map[string]string{
	mayfly.StayOther:   "their branch is not checked out here",
	mayfly.StayMoved:   "the branch here has other commits",
	mayfly.StayIndex:   "you have staged something that they change",
	mayfly.StayBusy:    "a merge, a rebase or another git has not ended here",
	mayfly.StayOutside: "they change files outside of the workspace",
	mayfly.StaySparse:  "mayfly leaves this kind of index alone",
	mayfly.StayMerged:  "on top of the branch here, with files that both have changed",
	mayfly.StayFiles:   "not all of their files were applied",
}

func flagWords(c mayfly.Commit) (flags []string) {
	for _, f := range c.Flags {
		switch f {
		case "identity":
			flags = append(flags, "by "+termsafe.Line(termsafe.Clip(c.Author, 100))+", who is not who commits in the machine")
		case "signed":
			flags = append(flags, "signature not checked")
		case "merge":
			flags = append(flags, "a merge")
		case "unrelated":
			flags = append(flags, "begins another history")
		case "future":
			flags = append(flags, "dated in the future")
		}
	}
	return flags
}

// in names a repository that is not the workspace's own.
func in(r mayfly.Repository) string {
	if r.Dir == "." {
		return ""
	}
	return termsafe.Quote(r.Dir) + ": "
}

func branchName(b mayfly.Branch) string {
	if b.Name == "HEAD" {
		return "no branch"
	}
	return termsafe.Quote(b.Name)
}

func short(id string) string { return id[:min(len(id), 10)] }

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
