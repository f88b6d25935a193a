package gitconfig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		data string
		want []string
	}{
		{"", nil},
		{"\uFEFF[core]\r\n\tbare = false\r\n", []string{"core.bare=false"}},
		{"[core]hooksPath=x", []string{"core.hookspath=x"}},
		{"[core]hooksPath=x [y]", []string{"core.hookspath=x [y]"}},
		{"[a] [b] c = 1", []string{"b.c=1"}},
		{"[a.B]\nc", []string{"a.b.c"}},
		{"[a \"B.c\"]\nD = 1\n[a   \"x\\\"\\\\y\"]\ne=", []string{"a.B.c.d=1", `a.x"\y.e=`}},
		{"[a]\nb = \"x ; y\" ; z\nc = 1 # \"\nd = a  b  \n", []string{"a.b=x ; y", "a.c=1", "a.d=a  b"}},
		{"[a]\nb = x\\\n  y\\\"\\t\nc = \" x \"", []string{"a.b=x  y\"\t", "a.c= x "}},
		{"[a]\n; b = 1\n# c\n b2-x = 2", []string{"a.b2-x=2"}},
		{"[a]\nb = 1\n[c]\nd = 1\n[a]\nb = 2", []string{"a.b=1", "c.d=1", "a.b=2"}},
		{"[alias]\nst = !sh", []string{"alias.st=!sh"}},
	} {
		settings, err := Parse([]byte(test.data))
		if err != nil {
			t.Errorf("Parse(%q): %v", test.data, err)
			continue
		}
		var got []string
		for _, s := range settings {
			got = append(got, show(s))
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", test.data, d)
		}
	}
}

func show(s Setting) string {
	if s.Bare {
		return s.Key()
	}
	return s.Key() + "=" + s.Value
}

func TestParseRefuses(t *testing.T) {
	for _, data := range []string{
		"a = 1", "[a", "[a \"\"]\nb=1", "[a.]\nb=1", "[.a]\nb=1", "[a ", "[a\n\"b\"]", "[]\nb=1", "[a b]\nc=1", "[a \"b\nc\"]", "[a \"b\"x]", "[a]\n= 1", "[a]\n1 = 2", "[a]\nb c", "[a]\nb = \"x",
		"[a]\nb = \\q", "[a]\nb = x\\", "[a_b]\nc=1", "[a]\nb = 1\rc = 2", "[a]\nb = 1\x00", "[ \"a\"]\nb=1",
		"[a]\n" + strings.Repeat("b\n", MostSettings+1), strings.Repeat(" ", MostBytes+1),
	} {
		if got, err := Parse([]byte(data)); err == nil {
			t.Errorf("Parse(%.40q) = %v, want an error", data, got)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, test := range []struct {
		before, after string
		want          []string
	}{
		{"[a]\nb=1\nc=2", "[a]\nc=2\n[a]\nb=1 ; x", nil},
		{"[a]\nb=1", "[a]\nb=2\nc", []string{"+a.b=2", "-a.b=1", "+a.c"}},
		{"[a]\nb=1\nb=2", "[a]\nb=2\nb=1", []string{"+a.b=2", "+a.b=1"}},
		{"[a]\nb=1\nb=2", "[a]\nb=2", []string{"-a.b=1"}},
		{"[a]\nb=", "[a]\nb", []string{"+a.b", "-a.b="}},
		{"[a \"x\"]\nb=1", "[a \"X\"]\nb=1", []string{"+a.X.b=1", "-a.x.b=1"}},
	} {
		before, err := Parse([]byte(test.before))
		if err != nil {
			t.Fatal(err)
		}
		after, err := Parse([]byte(test.after))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range Diff(before, after) {
			sign := "+"
			if c.Removed {
				sign = "-"
			}
			got = append(got, sign+show(c.Setting))
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("Diff(%q, %q) (-want +got):\n%s", test.before, test.after, d)
		}
	}
}

func TestEffect(t *testing.T) {
	remotes := Remotes{"origin": "https://host/x"}
	for effect, texts := range map[Effect][]string{
		Executes: {
			"[core] fsmonitor = \"sh x\"", "[core] hooksPath = .h", "[hook \"a\"] command = x", "[hook \"a\"] event = post-index-change",
			"[filter \"x\"] clean = x", "[FILTER \"x\"] Process = x", "[diff] external = x", "[diff \"x\"] textconv = x", "[diff \"x\"] command = x",
			"[merge \"x\"] driver = x", "[core] pager = x", "[pager] log = x", "[core] editor = x", "[sequence] editor = x",
			"[interactive] diffFilter = x", "[alias] st = !x", "[alias \"x\"] command = y", "[gpg] program = x", "[gpg \"ssh\"] program = x",
			"[gpg \"ssh\"] defaultKeyCommand = x", "[gc] recentObjectsHook = x", "[trailer \"x\"] cmd = x", "[include] path = x",
			"[includeIf \"hasconfig:remote.*.url:x\"] path = x", "[core] sshCommand = x", "[core] gitProxy = x", "[core] askPass = x",
			"[core] alternateRefsCommand = x", "[credential] helper = x", "[credential \"https://x\"] helper = x", "[remote \"origin\"] uploadpack = x",
			"[remote \"origin\"] receivepack = x", "[remote \"origin\"] vcs = x", "[remote \"origin\"] url = ext::sh", "[submodule \"x\"] update = !x",
			"[uploadpack] packObjectsHook = x", "[extensions] partialClone = x", "[remote \"x\"] promisor = true",
			"[lfs \"customtransfer.x\"] path = x", "[lfs \"extension.x\"] clean = x", "[lfs] standalonetransferagent = x", "[difftool \"x\"] cmd = x",
			"[mergetool \"x\"] path = x", "[diff] tool = x", "[merge] tool = x", "[guitool \"x\"] cmd = x", "[browser \"x\"] cmd = x",
			"[man \"x\"] path = x", "[man] viewer = x", "[web] browser = x", "[help] browser = x", "[instaweb] httpd = x", "[imap] tunnel = x",
			"[sendemail] smtpServer = x", "[sendemail \"x\"] sendmailCmd = x", "[tar \"x\"] command = x", "[init] templateDir = x",
			"[receive] procReceiveRefs = x", "[annex] secure-erase-command = x", "[svn] x = y", "[git-p4] client = x", "[core.x] hooksPath = y",
		},
		Redirects: {
			"[url \"https://evil/\"] insteadOf = https://host/", "[remote \"origin\"] url = https://evil/x", "[remote \"new\"] url = https://host/x",
			"[remote \"origin\"] pushurl = x", "[remote \"origin\"] proxy = x", "[remote] pushDefault = x", "[branch \"m\"] remote = https://evil/",
			"[branch \"m\"] pushRemote = x", "[http] sslVerify = false", "[http \"https://x\"] extraHeader = x", "[core] worktree = /x",
			"[core] attributesFile = x", "[extensions] worktreeConfig = true", "[extensions] refStorage = reftable", "[fetch] bundleURI = x",
			"[protocol \"ext\"] allow = always", "[transfer] fsckObjects = false", "[user] email = x", "[author] name = x", "[submodule \"x\"] url = y",
		},
		Blinds: {
			"[status] showUntrackedFiles = no", "[diff] ignoreSubmodules = all", "[submodule \"x\"] ignore = all", "[core] fileMode = false",
			"[core] trustctime = false", "[core] checkStat = minimal", "[core] ignoreStat = true", "[diff \"x\"] binary = true", "[core] excludesFile = x",
			"[log] showSignature = true", "[gpg \"ssh\"] allowedSignersFile = x",
		},
		Unknown: {"[core] fsmonitor = true", "[core] repositoryformatversion = 1", "[core] bare = true", "[what] ever = 1", "[core] autocrlf = true", "[pull] twohead = x"},
		Harmless: {
			"[core] repositoryformatversion = 0", "[core] bare = false", "[core] filemode = true", "[branch \"f\"] remote = origin",
			"[branch \"f\"] remote = .", "[branch \"f\"] merge = refs/heads/f", "[remote \"origin\"] url = https://host/x",
			"[remote \"origin\"] fetch = +refs/heads/*:refs/remotes/origin/*", "[pull] rebase = true", "[color] ui", "[color \"diff\"] old = red",
			"[advice] detachedHead = false", "[submodule \"x\"] active = true", "[lfs] repositoryformatversion = 0",
		},
	} {
		for _, text := range texts {
			settings, err := Parse([]byte(text))
			if err != nil || len(settings) != 1 {
				t.Fatalf("Parse(%q) = %v, %v", text, settings, err)
			}
			if got := (Change{Setting: settings[0]}).Effect(remotes); got != effect {
				t.Errorf("effect of %q = %d, want %d", text, got, effect)
			}
		}
	}
}

// FuzzParse compares with git itself where it is installed: what both understand is the
// same, and what the parser takes git takes as well.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"[core]hooksPath=x\n", "[a.B]\nc\n", "[a \"B.c\"]\nD = 1\n", "[a]\nb = \"x ; y\" ; z\nc = 1 # \"\nd = a  b  \n",
		"[a]b=\xa5  \"\"  \nc=# ", "[a]\nb = x  \\\n  \nc = \" \" \n",
		"[a]\nb = x\\\n  y\\\"\\t\nc = \" x \"", "\uFEFF[core]\r\n\tbare = false\r\n",
	} {
		f.Add([]byte(s))
	}
	git, err := exec.LookPath("git")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, parseErr := Parse(data)
		if parseErr != nil || err != nil {
			return
		}
		if d := Diff(settings, settings); len(d) > 0 {
			t.Errorf("%q differs from itself", data)
		}
		var want strings.Builder
		for _, s := range settings {
			if s.Section == "include" || s.Section == "includeif" || s.Section == "core" || s.Section == "extensions" {
				return
			}
			want.WriteString(s.Key())
			if !s.Bare {
				want.WriteString("\n" + s.Value)
			}
			want.WriteByte(0)
		}
		file := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := exec.Command(git, "config", "--file", file, "--null", "--list", "--no-includes").Output()
		if err != nil {
			t.Skipf("git does not take %q: %v", data, err)
		}
		// git before 2.45 made every blank in a value a space.
		blanks := strings.NewReplacer("\t", " ")
		if blanks.Replace(string(got)) != blanks.Replace(want.String()) {
			t.Errorf("%q is\n%q for git and\n%q here", data, got, want.String())
		}
	})
}
