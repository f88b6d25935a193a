package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// gitHome has a home with a configuration of git's, and a repository in home/work.
type gitHome struct {
	t    *testing.T
	env  map[string]string
	home string
	work string
}

func newGitHome(t *testing.T) gitHome {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	home := t.TempDir()
	h := gitHome{t, map[string]string{"HOME": home, "PATH": os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM": "1"}, home, filepath.Join(home, "work")}
	h.write(".gitconfig", "[user]\n\tname = Ada \\\"L\\\"\n\temail = ada@example.org\n")
	h.write("work/.git/HEAD", "ref: refs/heads/main\n")
	h.write("work/.git/config", "[core]\n\trepositoryformatversion = 0\n")
	for _, dir := range []string{"objects", "refs"} {
		if err := os.MkdirAll(filepath.Join(h.work, ".git", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h gitHome) write(name, text string) {
	h.t.Helper()
	name = filepath.Join(h.home, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func (h gitHome) fifo(name string) {
	h.t.Helper()
	os.Remove(filepath.Join(h.home, name))
	if err := unix.Mkfifo(filepath.Join(h.home, name), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h gitHome) read(dir string) Git {
	h.t.Helper()
	return ReadGit(h.t.Context(), Options{Getenv: func(name string) string { return h.env[name] }}, dir)
}

var ada = map[string]string{"user.name": `Ada "L"`, "user.email": "ada@example.org"}

func TestReadGit(t *testing.T) {
	both := []string{"commit.gpgsign", "tag.gpgsign"}
	for _, test := range []struct {
		name string
		set  func(h gitHome)
		want Git
	}{
		{"the user's file", func(gitHome) {}, Git{Identity: ada}},
		{"the other place of the user's file", func(h gitHome) {
			h.write("xdg/git/config", "[user]\n\tname = X\n\temail = x@example.org\n")
			h.env["XDG_CONFIG_HOME"] = filepath.Join(h.home, "xdg")
			os.Remove(filepath.Join(h.home, ".gitconfig"))
		}, Git{Identity: map[string]string{"user.name": "X", "user.email": "x@example.org"}}},
		{"the repository", func(h gitHome) {
			h.write("work/.git/config", "[user]\n\temail = work@example.org\n")
		}, Git{Identity: map[string]string{"user.name": `Ada "L"`, "user.email": "work@example.org"}}},
		{"a file for the directory", func(h gitHome) {
			h.write(".gitconfig", "[user]\n\tname = Ada\n\temail = ada@example.org\n[includeIf \"gitdir:"+h.work+"/\"]\n\tpath = at-work\n[include]\n\tpath = more\n")
			h.write("at-work", "[user]\n\temail = work@example.org\n[commit]\n\tgpgsign\n")
			h.write("more", "[author]\n\tname = Augusta\n")
		}, Git{Identity: map[string]string{"user.name": "Ada", "user.email": "work@example.org", "author.name": "Augusta"}, Signs: []string{"commit.gpgsign"}}},
		{"the environment", func(h gitHome) {
			h.env["GIT_AUTHOR_NAME"], h.env["GIT_COMMITTER_EMAIL"] = "Augusta", "bot@example.org"
		}, Git{Identity: map[string]string{"user.name": `Ada "L"`, "user.email": "ada@example.org", "author.name": "Augusta", "committer.email": "bot@example.org"}}},
		{"the environment alone", func(h gitHome) {
			os.Remove(filepath.Join(h.home, ".gitconfig"))
			h.env["GIT_AUTHOR_NAME"], h.env["EMAIL"] = "Augusta", "a@example.org"
		}, Git{Identity: map[string]string{"user.name": "Augusta", "author.name": "Augusta", "user.email": "a@example.org"}}},
		{"nobody", func(h gitHome) { os.Remove(filepath.Join(h.home, ".gitconfig")) }, Git{}},
		{"signatures", func(h gitHome) {
			h.write(".gitconfig", "[commit]\n\tgpgSign = yes\n[tag]\n\tgpgSign = false\n\tforceSignAnnotated = 1\n[gpg]\n\tformat = ssh\n[user]\n\tsigningKey = k\n")
			h.write("work/.git/config", "[push]\n\tgpgSign = if-asked\n")
		}, Git{Signs: []string{"commit.gpgsign", "push.gpgsign", "tag.forcesignannotated"}}},
		{"signatures that the repository has off", func(h gitHome) {
			h.write(".gitconfig", "[commit]\n\tgpgSign = true\n")
			h.write("work/.git/config", "[commit]\n\tgpgSign = false\n")
		}, Git{}},
		{"a repository with settings of a work tree", func(h gitHome) {
			h.write("work/.git/config", "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tworktreeConfig = true\n")
			h.write("work/.git/config.worktree", "[user]\n\temail = tree@example.org\n")
		}, Git{Identity: map[string]string{"user.name": `Ada "L"`, "user.email": "tree@example.org"}}},
		{"words of more than a line, and without end", func(h gitHome) {
			h.write(".gitconfig", "[user]\n\tname = \"a\\nb\"\n\temail = \""+strings.Repeat("e", 300)+"\"\n[author]\n\tname = \x1b[31m\n\temail = \xff\n")
		}, Git{}},
		{"no git", func(h gitHome) { h.env["PATH"] = "/nonexistent" }, Git{}},

		// Of repositories that nobody made in good faith.
		{"a repository that includes a file", func(h gitHome) {
			h.write("work/.git/config", "[user]\n\tname = Evil\n[InClude]\n\tpath = fifo\n")
			h.fifo("work/.git/fifo")
		}, Git{Identity: ada, Signs: both}},
		{"a configuration that is a FIFO", func(h gitHome) { h.fifo("work/.git/config") }, Git{Identity: ada, Signs: both}},
		{"a configuration of a work tree that is a link", func(h gitHome) {
			os.Symlink("/dev/zero", filepath.Join(h.work, ".git/config.worktree"))
		}, Git{Identity: ada, Signs: both}},
		{"a repository with its configuration elsewhere", func(h gitHome) {
			h.write("work/.git/commondir", "..")
		}, Git{Identity: ada, Signs: both}},
		{"a configuration that is none", func(h gitHome) { h.write("work/.git/config", "[user\n") }, Git{Identity: ada}},
		{"an endless value", func(h gitHome) {
			h.write("work/.git/config", "[user]\n\tname = "+strings.Repeat("e", 100<<10)+"\n")
		}, Git{Identity: ada}},
		{"a directory that git takes for a repository, whose configuration nobody looked at", func(h gitHome) {
			os.Remove(filepath.Join(h.work, ".git/HEAD"))
			h.write("work/HEAD", "ref: refs/heads/main\n")
			h.write("work/objects/x", "")
			h.write("work/refs/x", "")
			h.write("work/config", "[include]\n\tpath = "+h.home+"/other\n")
			h.write("other", "[user]\n\tname = Evil\n")
		}, Git{Identity: ada}},
		{"a repository above, whose configuration nobody looked at", func(h gitHome) {
			os.Rename(filepath.Join(h.work, ".git"), filepath.Join(h.home, ".git"))
			h.write(".git/config", "[include]\n\tpath = "+h.home+"/other\n")
			h.write("other", "[user]\n\tname = Evil\n")
			h.write("work/.git/config", "")
		}, Git{Identity: ada}},
		{"a git in the repository", func(h gitHome) {
			h.env["PATH"] = ".:" + h.env["PATH"]
			h.write("work/git", "#!/bin/sh\ntouch ran\n")
		}, Git{Identity: ada}},
		{"a repository that lies elsewhere", func(h gitHome) {
			os.Rename(filepath.Join(h.work, ".git"), filepath.Join(h.home, "main"))
			h.write("main/config", "[user]\n\temail = work@example.org\n")
			h.write("work/.git", "gitdir: ../main\n")
		}, Git{Identity: map[string]string{"user.name": `Ada "L"`, "user.email": "work@example.org"}}},
		{"a repository that begins above", func(h gitHome) {
			os.Rename(filepath.Join(h.work, ".git"), filepath.Join(h.home, ".git"))
			h.write(".git/config", "[user]\n\temail = work@example.org\n[commit]\n\tgpgSign = true\n")
		}, Git{Identity: map[string]string{"user.name": `Ada "L"`, "user.email": "work@example.org"}, Signs: []string{"commit.gpgsign"}}},
		{"a repository elsewhere that includes a file", func(h gitHome) {
			os.Rename(filepath.Join(h.work, ".git"), filepath.Join(h.home, "main"))
			h.write("main/config", "[user]\n\temail = work@example.org\n[include]\n\tpath = fifo\n")
			h.fifo("main/fifo")
			h.write("work/.git", "gitdir: ../main\n")
		}, Git{Identity: ada}},
		{"programs for git to run", func(h gitHome) {
			h.write("work/run", "#!/bin/sh\ntouch "+h.work+"/ran\n")
			run := filepath.Join(h.work, "run")
			h.write("work/.git/config", "[core]\n\tfsmonitor = "+run+"\n\tpager = "+run+"\n\teditor = "+run+"\n\thooksPath = "+h.work+"\n[pager]\n\tconfig = "+run+"\n[alias]\n\tconfig = !"+run+"\n")
		}, Git{Identity: ada}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newGitHome(t)
			test.set(h)
			if d := cmp.Diff(test.want, h.read(h.work)); d != "" {
				t.Errorf("ReadGit: -want +got:\n%s", d)
			}
			if _, err := os.Lstat(filepath.Join(h.work, "ran")); err == nil {
				t.Error("something of the repository ran")
			}
		})
	}
}

// Who asks without a workspace, or in a directory without a repository, gets what holds
// everywhere.
func TestReadGitWithoutRepository(t *testing.T) {
	h := newGitHome(t)
	for _, dir := range []string{"", h.home} {
		if d := cmp.Diff(Git{Identity: ada}, h.read(dir)); d != "" {
			t.Errorf("ReadGit(%q): -want +got:\n%s", dir, d)
		}
	}
}
