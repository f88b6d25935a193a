package systemd

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

var limits = Limits{MemoryMax: 5 << 30, CPUPercent: 400, TasksMax: 512}

// The units of a user's manager and of the computer's, as they are written.
func TestGolden(t *testing.T) {
	for name, tt := range map[string]struct {
		scope Scope
		owner Owner
	}{
		"user":   {scope: User},
		"system": {System, Owner{Account: "alice", Home: "/home/alice", Env: []string{"XDG_DATA_HOME=/srv/big disk/alice", "MAYFLY_QEMU=/opt/100%/qemu"}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := Machine{Name: "web-1", Exe: "/usr/local/bin/mayfly", Limits: limits, Owner: tt.owner}
			files, err := m.Files(tt.scope)
			if err != nil {
				t.Fatal(err)
			}
			more, err := Update{Exe: m.Exe, Scope: tt.scope, Owner: tt.owner}.Files()
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, f := range append(files, more...) {
				b.WriteString("-- " + f.Path + " --\n" + f.Text)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Errorf("the units of %s (-want +got):\n%s", name, d)
			}
		})
	}
}

// systemd itself has nothing to say against the units, whatever the paths are.
func TestVerify(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("the units are read by systemd itself: %v", err)
	}
	for _, scope := range []Scope{User, System} {
		for _, dir := range []string{"plain", `with blank`, `100%`, `$HOME`, "ü;"} {
			d := Dir{t.TempDir(), scope}
			bin := filepath.Join(t.TempDir(), dir)
			exe := filepath.Join(bin, "mayfly")
			if err := errors.Join(os.MkdirAll(bin, 0o755), os.WriteFile(exe, []byte("#!/bin/sh\n"), 0o755)); err != nil {
				t.Fatal(err)
			}
			m := Machine{Name: "a-b", Exe: exe, Limits: limits, Owner: Owner{Env: []string{"XDG_DATA_HOME=" + bin + `/"a" \ 'b'`}}}
			manager := "--user"
			if scope == System {
				m.Owner.Account, m.Owner.Home, manager = "root", bin, "--system"
			}
			files, err := m.Files(scope)
			if err != nil {
				t.Fatal(err)
			}
			more, err := Update{Exe: exe, Scope: scope, Owner: m.Owner}.Files()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write(append(files, more...)); err != nil {
				t.Fatal(err)
			}
			// An instance needs a file of its name to be given to the tool.
			service := filepath.Join(d.Path, Service(m.Name))
			if err := os.Symlink(TemplateFile, service); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(tool, manager, "--man=no", "--generators=no", "--recursive-errors=no", "verify",
				service, filepath.Join(d.Path, UpdateTimer), filepath.Join(d.Path, UpdateService))
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
			out, err := cmd.CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, d.Path) || strings.Contains(line, "mayfly") {
					t.Errorf("%s %q: systemd-analyze verify: %s", manager, dir, line)
				}
			}
			if err != nil {
				t.Errorf("%s %q: systemd-analyze verify: %v\n%s", manager, dir, err, out)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	good := Machine{Name: "web", Exe: "/bin/mayfly", Owner: Owner{Account: "alice", Home: "/home/alice"}}
	if _, err := good.Files(System); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Machine){
		"a path as a name":       func(m *Machine) { m.Name = "../x" },
		"no name":                func(m *Machine) { m.Name = "" },
		"a hyphen at the end":    func(m *Machine) { m.Name = "a-" },
		"a specifier as a name":  func(m *Machine) { m.Name = "%h" },
		"a relative program":     func(m *Machine) { m.Exe = "mayfly" },
		"a program with quotes":  func(m *Machine) { m.Exe = `/opt/"x"/mayfly` },
		"a backslash":            func(m *Machine) { m.Exe = `/opt/\x/mayfly` },
		"a program on two lines": func(m *Machine) { m.Exe = "/bin/x\nExecStartPre=/bin/rm" },
		"a user on two lines":    func(m *Machine) { m.Owner.Account = "alice\nUser=root" },
		"a user with blanks":     func(m *Machine) { m.Owner.Account = "alice root" },
		"a home on two lines":    func(m *Machine) { m.Owner.Home = "/home\n[Install]" },
		"a relative home":        func(m *Machine) { m.Owner.Home = "home" },
		"a value on two lines":   func(m *Machine) { m.Owner.Env = []string{"A=b\nExecStart=/bin/x"} },
		"a value that is binary": func(m *Machine) { m.Owner.Env = []string{"A=\xff"} },
		"a value without name":   func(m *Machine) { m.Owner.Env = []string{"=b"} },
		"no value":               func(m *Machine) { m.Owner.Env = []string{"A"} },
		"a name with a blank":    func(m *Machine) { m.Owner.Env = []string{"A B=c"} },
	} {
		m := good
		change(&m)
		if files, err := m.Files(System); err == nil {
			t.Errorf("%s: Files = %+v; want an error", name, files)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"/usr/bin/mayfly", "/usr/bin/mayfly"},
		{"/opt/my tools/mayfly", `"/opt/my tools/mayfly"`},
		{"/opt/100%/mayfly", "/opt/100%%/mayfly"},
		{`/a"b\c`, `"/a\"b\\c"`},
		{"/a;b", `"/a;b"`},
		{"$HOME/x", "$HOME/x"},
		{"", `""`},
	} {
		if got := quote(tt.in); got != tt.want {
			t.Errorf("quote(%q) = %s; want %s", tt.in, got, tt.want)
		}
	}
}

// What comes in from outside, the names of directories and of a user, never
// becomes a line of a unit.
func FuzzFiles(f *testing.F) {
	f.Add("web", "/usr/bin/mayfly", "alice", "/home/alice", "/srv/x")
	f.Add("a-b", `/a b %i$x;`, "root", "/", "\n[Install]")
	f.Add("..", "/\x85/\u2028", "x", "/ü", "\\x0a")
	f.Fuzz(func(t *testing.T, name, exe, account, home, value string) {
		clean := Machine{Name: "x", Exe: "/x", Limits: limits, Owner: Owner{Account: "x", Home: "/x", Env: []string{"A=x"}}}
		want, err := clean.Files(System)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Machine{Name: name, Exe: exe, Limits: limits, Owner: Owner{Account: account, Home: home, Env: []string{"A=" + value}}}.Files(System)
		if err != nil {
			return
		}
		for i, f := range got {
			if i == 2 && account == "" {
				continue // it has no User=
			}
			if strings.Count(f.Text, "\n") != strings.Count(want[i].Text, "\n") {
				t.Errorf("%s has other lines:\n%s", f.Path, f.Text)
			}
			if filepath.Clean(f.Path) != f.Path || strings.Count(f.Path, "/") != strings.Count(want[i].Path, "/") {
				t.Errorf("path %q", f.Path)
			}
		}
	})
}

// names returns all files below dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	found := []string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestInstall(t *testing.T) {
	d := Dir{filepath.Join(t.TempDir(), "systemd/user"), User}
	install := func(name string) []string {
		t.Helper()
		files, err := Machine{Name: name, Exe: "/bin/mayfly", Limits: limits}.Files(d.Scope)
		if err != nil {
			t.Fatal(err)
		}
		written, err := d.Write(files)
		if err != nil {
			t.Fatal(err)
		}
		for i := range written {
			written[i], _ = filepath.Rel(d.Path, written[i])
		}
		return written
	}
	if d := cmp.Diff([]string{"mayfly@.service", "mayfly@a.service.d/limits.conf"}, install("a")); d != "" {
		t.Errorf("the first machine writes (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"mayfly@b.service.d/limits.conf"}, install("b")); d != "" {
		t.Errorf("the second machine writes (-want +got):\n%s", d)
	}
	if again := install("b"); len(again) > 0 {
		t.Errorf("a second time writes %q; want nothing", again)
	}
	if info, err := os.Stat(filepath.Join(d.Path, TemplateFile)); err != nil || info.Mode() != 0o644 {
		t.Errorf("the template has mode %v, %v; want 0644", info.Mode(), err)
	}

	for want, wait := range map[string]string{"default.target.wants/mayfly@a.service": Service("a")} {
		if link, err := d.Enable(wait); err != nil || link != filepath.Join(d.Path, want) {
			t.Errorf("Enable(%s) = %s, %v; want %s", wait, link, err, want)
		}
		if link, err := d.Enable(wait); err != nil || link != "" {
			t.Errorf("Enable(%s) again = %s, %v; want nothing done", wait, link, err)
		}
		if to, err := filepath.EvalSymlinks(filepath.Join(d.Path, want)); err != nil || filepath.Base(to) != TemplateFile {
			t.Errorf("%s leads to %s, %v; want the template", want, to, err)
		}
	}

	// What the user wrote beside it stays.
	own := filepath.Join(d.Path, DropInDir("b"), "own.conf")
	if err := os.WriteFile(own, []byte("[Service]\nNice=5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.RemoveMachine("a"); err != nil {
		t.Fatal(err)
	}
	want := []string{"mayfly@.service", "mayfly@b.service.d/limits.conf", "mayfly@b.service.d/own.conf"}
	if d := cmp.Diff(want, names(t, d.Path)); d != "" {
		t.Errorf("without the first machine (-want +got):\n%s", d)
	}
	removed, err := d.RemoveMachine("b")
	if err != nil || len(removed) != 2 {
		t.Errorf("RemoveMachine = %q, %v; want the drop-in and the template", removed, err)
	}
	if d := cmp.Diff([]string{"mayfly@b.service.d/own.conf"}, names(t, d.Path)); d != "" {
		t.Errorf("without any machine (-want +got):\n%s", d)
	}
	if removed, err := d.RemoveMachine("b"); err != nil || len(removed) > 0 {
		t.Errorf("RemoveMachine again = %q, %v; want nothing", removed, err)
	}
}

// A unit of the same name that somebody else wrote, or masked, is not replaced.
func TestForeign(t *testing.T) {
	for name, put := range map[string]func(string) error{
		"file":   func(name string) error { return os.WriteFile(name, []byte("[Service]\nExecStart=/bin/true\n"), 0o644) },
		"masked": func(name string) error { return os.Symlink("/dev/null", name) },
	} {
		d := Dir{t.TempDir(), System}
		if err := put(filepath.Join(d.Path, TemplateFile)); err != nil {
			t.Fatal(err)
		}
		files, err := Machine{Name: "a", Exe: "/bin/mayfly"}.Files(d.Scope)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(files)
		if written, err := d.Write(files); !errors.Is(err, ErrForeign) || len(written) > 0 {
			t.Errorf("%s: Write = %q, %v; want %v and nothing written", name, written, err, ErrForeign)
		}
		if removed, err := d.RemoveMachine("a"); err != nil || len(removed) > 0 {
			t.Errorf("%s: RemoveMachine = %q, %v; want nothing", name, removed, err)
		}
		if d := cmp.Diff([]string{TemplateFile}, names(t, d.Path)); d != "" {
			t.Errorf("%s: (-want +got):\n%s", name, d)
		}
	}
}

func TestTimer(t *testing.T) {
	d := Dir{t.TempDir(), System}
	files, err := Update{Exe: "/bin/mayfly", Scope: System}.Files()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(files); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Enable(UpdateTimer); err != nil {
		t.Fatal(err)
	}
	want := []string{"mayfly-update.service", "mayfly-update.timer", "timers.target.wants/mayfly-update.timer"}
	if d := cmp.Diff(want, names(t, d.Path)); d != "" {
		t.Errorf("the timer (-want +got):\n%s", d)
	}
	if removed, err := d.RemoveUpdate(); err != nil || len(removed) != 3 {
		t.Errorf("RemoveUpdate = %q, %v; want three files", removed, err)
	}
	if left := names(t, d.Path); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestUserDir(t *testing.T) {
	for _, tt := range []struct{ home, config, want string }{
		{"/home/alice", "", "/home/alice/.config/systemd/user"},
		{"/home/alice", "/srv/config", "/srv/config/systemd/user"},
		{"/home/alice", "relative", "/home/alice/.config/systemd/user"},
		{"", "", ""},
	} {
		env := map[string]string{"HOME": tt.home, "XDG_CONFIG_HOME": tt.config}
		d, err := UserDir(func(name string) string { return env[name] })
		if d.Path != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("UserDir(%v) = %q, %v; want %q", env, d.Path, err, tt.want)
		}
	}
}
