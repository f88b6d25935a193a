package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

func TestSetEntry(t *testing.T) {
	const line = "u:x:1000:1000::/home/u:/bin/zsh"
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", line + "\n"},
		{"appended", "root:x:0:0::/root:/bin/sh\n", "root:x:0:0::/root:/bin/sh\n" + line + "\n"},
		{"no newline at the end", "root:x:0:0::/root:/bin/sh", "root:x:0:0::/root:/bin/sh\n" + line + "\n"},
		{"replaced", "a:x:1:1::/:/\nu:x:5:5::/old:/old\nb:x:2:2::/:/\n", "a:x:1:1::/:/\nb:x:2:2::/:/\n" + line + "\n"},
		{"replaced, twice there", "u:x:5:5::/:/\nu:x:6:6::/:/\n", line + "\n"},
		{"others that begin so", "uu:x:1:1::/:/\nu2:x:2:2::/:/\n#u:x:3\n", "uu:x:1:1::/:/\nu2:x:2:2::/:/\n#u:x:3\n" + line + "\n"},
	} {
		if got := string(setEntry([]byte(tt.in), "u", line)); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

// What is written for git, git reads.
func TestGitConfig(t *testing.T) {
	settings := map[string]string{
		"user.name": `  Ada "L" \n; # ä `, "user.email": "ada@example.org", "author.name": "Augusta", "committer.email": `\`,
	}
	file := filepath.Join(t.TempDir(), "gitconfig")
	if err := os.WriteFile(file, []byte(gitConfig(settings)), 0o600); err != nil {
		t.Fatal(err)
	}
	settings["core.checkStat"], settings["core.trustctime"] = "minimal", "false"
	for key, want := range settings {
		out, err := exec.Command("git", "config", "--file", file, key).Output()
		if got := string(out); err != nil || got != want+"\n" {
			t.Errorf("git config %s = %q, %v; want %q", key, got, err, want)
		}
	}
}

func TestSetGroups(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		groups   []wire.Group
		want     string
	}{
		{"own group", "root:x:0:\n", nil, "root:x:0:\nu:x:1000:u\n"},
		{"no newline at the end", "root:x:0:", nil, "root:x:0:\nu:x:1000:u\n"},
		{"own number is another's", "users:x:1000:\n", nil, "users:x:1000:u\n"},
		{"own name is another's", "u:x:7:\n", nil, "u:x:7:\nhost-1000:x:1000:u\n"},
		{"others in it", "users:x:1000:a,b\n", nil, "users:x:1000:a,b,u\n"},
		{"in it already", "users:x:1000:a,u\n", nil, "users:x:1000:a,u\n"},
		{"more groups", "audio:x:29:a\nvideo:x:44:\n", []wire.Group{{Name: "sound", GID: 29}, {Name: "video", GID: 45}, {Name: "kvm", GID: 106}},
			"audio:x:29:a,u\nvideo:x:44:\nu:x:1000:u\nhost-45:x:45:u\nkvm:x:106:u\n"},
		{"a group twice", "", []wire.Group{{Name: "g", GID: 9}, {Name: "g", GID: 9}}, "\nu:x:1000:u\ng:x:9:u\n"},
		{"bad lines stay", "bad\na:b:c\n", nil, "bad\na:b:c\nu:x:1000:u\n"},
		{"number that only begins so", "a:x:10000:\n", nil, "a:x:10000:\nu:x:1000:u\n"},
	} {
		u := wire.User{Name: "u", GID: 1000, Groups: tt.groups}
		got := string(setGroups([]byte(tt.in), u))
		if got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
		if again := string(setGroups([]byte(got), u)); again != got {
			t.Errorf("%s: a second time: got %q; want %q", tt.name, again, got)
		}
	}
}

func TestJoinedGroups(t *testing.T) {
	for file, want := range map[string][]wire.Group{
		"": nil,
		"root:x:0:\ndocker:x:102:\ndockers:x:103:\n":                    {{Name: "docker", GID: 102}},
		"docker:x:0:\ndocker:x:-1:\ndocker:x:4294967296:\ndocker:x:7\n": nil,
		"systemd-journal:x:999:a\ndocker:x:102:":                        {{Name: "systemd-journal", GID: 999}, {Name: "docker", GID: 102}},
	} {
		tr := newTree(t, map[string]string{"etc/group": file})
		if got, err := tr.joinedGroups(); err != nil || !slices.Equal(got, want) {
			t.Errorf("joinedGroups() with %q = %v, %v; want %v", file, got, err, want)
		}
	}
	if got, err := newTree(t, map[string]string{"etc/": ""}).joinedGroups(); err != nil || got != nil {
		t.Errorf("joinedGroups() without the file = %v, %v", got, err)
	}
}
