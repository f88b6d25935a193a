package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// named returns a host with the machine m, defined with flags.
func named(t *testing.T, flags ...string) *vm.Host {
	t.Helper()
	vm.Lock(t)
	h := vm.New(t)
	t.Cleanup(func() { h.Mayfly("rm", "--force", "m").Run() })
	h.Run(0, append([]string{"new", "m", "--workspace", h.Dir}, flags...)...)
	return h
}

// The life of a machine with a name: what it keeps, what it does not, and how it ends.
func TestNamed(t *testing.T) {
	dotfiles := t.TempDir()
	writeFile(t, filepath.Join(dotfiles, "bashrc"), "FROM_ENV=dotfile\nalias mine='echo my alias'\n")
	writeFile(t, filepath.Join(dotfiles, "config/emacs/init.el"), "(setq mine t)\n")
	writeFile(t, filepath.Join(dotfiles, "README.md"), "not for a home\n")
	h := named(t, "--dotfiles", dotfiles, "--volume", "var:/var:1GiB", "--volume", "cache:~/.cache:64MiB",
		"-e", "FROM_ENV=env", "--shell-init", "export FROM_INIT=$FROM_ENV-init; export PATH=$HOME/own:$PATH", "--history")
	writeFile(t, filepath.Join(h.Dir, "README"), "hello\n")
	h.Run(0, "start", "m")
	sh := func(t *testing.T, script string) string {
		t.Helper()
		return h.For(t).Run(0, "exec", "m", "--", "sh", "-c", script).Stdout
	}
	t.Run("environment", func(t *testing.T) {
		const want = "env env-init\n"
		for name, argv := range map[string][]string{
			"exec":              {"sh", "-c", "echo $FROM_ENV $FROM_INIT"},
			"login shell":       {"bash", "-lc", "echo $FROM_ENV $FROM_INIT"},
			"interactive shell": {"bash", "-ic", "echo $FROM_ENV $FROM_INIT"},
			"interactive zsh":   {"zsh", "-ic", "echo $FROM_ENV $FROM_INIT"},
		} {
			if got := h.For(t).Run(0, append([]string{"exec", "m", "--"}, argv...)...).Stdout; got != want {
				t.Errorf("%s: %q; want %q", name, got, want)
			}
		}
		if got := sh(t, "echo $PATH"); !strings.Contains(got, "/own:/") {
			t.Errorf("PATH = %q; want what home.shell_init puts first", got)
		}
	})
	t.Run("dotfiles", func(t *testing.T) {
		if got := sh(t, "bash -ic mine; cat ~/.config/emacs/init.el; ls ~/README.md 2>/dev/null; true"); got != "my alias\n(setq mine t)\n" {
			t.Errorf("in the home: %q", got)
		}
		if r := h.For(t).Mayfly("exec", "m", "--", "sudo", "sh", "-c", "echo x > ~dev/.config/emacs/init.el || mount -o remount,rw /opt/mayfly/dotfiles").Run(); r.Code == 0 {
			t.Error("the machine can write to the dotfiles")
		}
		writeFile(t, filepath.Join(dotfiles, "netrc"), "machine x login y password z\n")
		if r := h.For(t).Mayfly("restart", "m").Run(); r.Code != 2 || !strings.Contains(r.Stderr, "which a machine must not have") {
			t.Errorf("with a secret: exit code %d, %q", r.Code, r.Stderr)
		}
		if err := os.Remove(filepath.Join(dotfiles, "netrc")); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("volumes", func(t *testing.T) {
		// A new one has what the image has: packages can be installed.
		if got := sh(t, "ls -d /var/lib/dpkg/status; stat -c %U ~/.cache; df --output=size -m /var | tail -1"); !strings.HasPrefix(got, "/var/lib/dpkg/status\n") || strings.Contains(got, "root") {
			t.Errorf("in the volumes: %q", got)
		}
	})
	const agents = "~/.local/share/mayfly-agents"
	sh(t, "mkdir -p "+agents+"/claude/projects/p; echo said > "+agents+"/claude/projects/p/t.jsonl")
	const histories = "~/.local/share/mayfly-history"
	sh(t, "for shell in bash zsh 'sudo bash'; do echo true typed into $shell | $shell -i; done")
	sh(t, "echo kept > new.txt; rm README; sudo touch /var/kept /notkept; touch ~/.cache/kept ~/notkept; sync")

	t.Run("ls and inspect", func(t *testing.T) {
		var rows []struct {
			Name, State, Image     string
			Defined                bool
			Memory_used, Disk_used int64
		}
		if err := json.Unmarshal([]byte(h.For(t).Run(0, "ls", "--json").Stdout), &rows); err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || rows[0].State != "running" || rows[0].Image != "current" || !rows[0].Defined || rows[0].Memory_used == 0 || rows[0].Disk_used == 0 {
			t.Errorf("ls: %+v", rows)
		}
		out := h.For(t).Run(0, "inspect", "m").Stdout
		for _, want := range []string{"private copy of the workspace", "the volume var, 1024 MiB on /var", "the volume cache", "the state of agents, and the history of shells"} {
			if !strings.Contains(out, want) {
				t.Errorf("inspect does not say %q:\n%s", want, out)
			}
		}
		if got := h.For(t).Run(0, "top", "--once").Stdout; !strings.Contains(got, "\nm ") {
			t.Errorf("top: %q", got)
		}
	})
	// A shell that is open when the machine stops keeps its history, too.
	open := h.Terminal("shell", "m")
	open.Type("echo open $((6 * 7))\r")
	open.Expect("open 42")
	t.Run("a program that ignores SIGTERM", func(t *testing.T) {
		h := h.For(t)
		c := h.Mayfly("exec", "m", "--", "sh", "-c", "trap '' TERM HUP; echo up; while :; do sleep 1; done")
		c.Start()
		c.Printed("up")
		begin := time.Now()
		h.Run(0, "stop", "m")
		if took := time.Since(begin); took > 6*time.Second+vm.Slack {
			t.Errorf("stop took %v; want 6 s at most", took)
		}
		c.Wait()
		open.Wait()
		if names := h.Machines(); len(names) > 0 {
			t.Errorf("left of the run: %v", names)
		}
	})
	t.Run("restart", func(t *testing.T) {
		h := h.For(t)
		h.Run(0, "start", "m")
		if got := sh(t, "cat new.txt; ls README /var/kept ~/.cache/kept /notkept ~/notkept 2>/dev/null | wc -l"); got != "kept\n2\n" {
			t.Errorf("after a stop: %q; want the workspace's changes and the volumes, and nothing else", got)
		}
		if got := sh(t, "cat "+agents+"/claude/projects/p/t.jsonl"); got != "said\n" {
			t.Errorf("of the agents: %q", got)
		}
		if got := sh(t, "cat "+histories+"/bash "+histories+"/zsh"); got != "true typed into bash\necho open $((6 * 7))\ntrue typed into zsh\n" {
			t.Errorf("the histories of shells: %q", got)
		}
		if got := h.Run(0, "diff", "m").Stdout; got != "D  README\nA  new.txt (5 B)\n" {
			t.Errorf("diff: %q", got)
		}
		h.Run(0, "apply", "m")
		if data, err := os.ReadFile(filepath.Join(h.Dir, "new.txt")); err != nil || string(data) != "kept\n" {
			t.Errorf("applied: %q, %v", data, err)
		}
	})
	t.Run("killed", func(t *testing.T) {
		h := h.For(t)
		sh(t, "echo late > late.txt; sync")
		var st state.Status
		if err := state.ReadJSON(h.File("m", state.StatusFile), &st); err != nil || !st.Supervisor.Kill() {
			t.Fatalf("kill the supervisor: %v", err)
		}
		var r vm.Result
		for range 100 {
			if r = h.Run(0, "ls"); strings.Contains(r.Stdout, "dead") {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !strings.Contains(r.Stderr, "mayfly logs m, or mayfly start m") {
			t.Errorf("ls of a dead machine: %q %q", r.Stdout, r.Stderr)
		}
		h.Run(0, "start", "m")
		if got := sh(t, "cat late.txt"); got != "late\n" {
			t.Errorf("after a crash: %q", got)
		}
	})
	t.Run("grow and shrink", func(t *testing.T) {
		h := h.For(t)
		file := filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/machines/m.toml")
		change := func(from, to string) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, file, strings.Replace(string(data), from, to, 1))
		}
		change(`size = "1GiB"`, `size = "3GiB"`)
		if r := h.Run(0, "ls"); !strings.Contains(r.Stderr, "mayfly restart m uses its file as it is now") {
			t.Errorf("ls after the file was changed: %q", r.Stderr)
		}
		h.Run(0, "restart", "m")
		if got := sh(t, "df --output=size -m /var | tail -1 | tr -d ' '; ls /var/kept"); len(got) < 4 || got[0] < '2' || !strings.HasSuffix(got, "/var/kept\n") {
			t.Errorf("grown: %q; want about 2900 MiB", got)
		}
		change(`size = "3GiB"`, `size = "2GiB"`)
		// What cannot start is not stopped.
		r := h.Run(1, "restart", "m")
		if !strings.Contains(r.Stderr, "has 3072 MiB; it can grow, and not shrink to 2048 MiB") {
			t.Errorf("shrink: %q", r.Stderr)
		}
		sh(t, "true")
		change(`size = "2GiB"`, `size = "3GiB"`)
	})
	t.Run("reset", func(t *testing.T) {
		h := h.For(t)
		h.Run(0, "stop", "m")
		r := h.Run(0, "reset", "m")
		_, archive, _ := strings.Cut(r.Stderr, "the transcripts of its coding agents are in ")
		out, err := exec.Command("tar", "-xOf", strings.TrimSpace(archive), "claude/projects/p/t.jsonl").CombinedOutput()
		if err != nil || string(out) != "said\n" {
			t.Errorf("transcripts: %v: %q; reset said %q", err, out, r.Stderr)
		}
		h.Run(0, "start", "m")
		if got := sh(t, "ls; ls /var/kept ~/.cache/kept "+histories+"/* 2>/dev/null | wc -l"); got != "new.txt\n0\n" {
			t.Errorf("after reset: %q; want the directory as it is now, and empty volumes", got)
		}
		// The conversations come back, from before the reset.
		if r := h.Run(0, "transcripts", "restore", "m"); !strings.Contains(r.Stderr, "mayfly claude m --continue continues the last one") {
			t.Errorf("restore: %q", r.Stderr)
		}
		if got := sh(t, "cat ~/.claude/projects/p/t.jsonl; stat -c %U:%a ~/.claude/projects/p/t.jsonl; id -un"); !strings.HasPrefix(got, "said\n") || strings.Fields(got)[1] != strings.Fields(got)[2]+":600" {
			t.Errorf("restored: %q", got)
		}
		if got := h.Run(0, "transcripts", "show", "m").Stdout; got != "said\n" {
			t.Errorf("of the running machine there is %q", got)
		}
	})
	t.Run("cp", func(t *testing.T) {
		h := h.For(t)
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "src/a"), "a")
		writeFile(t, filepath.Join(dir, "src/sub/b"), "b")
		h.Run(0, "cp", filepath.Join(dir, "src"), "m:/tmp")
		h.Run(0, "cp", filepath.Join(dir, "src/a"), "m:renamed")
		h.Run(0, "cp", filepath.Join(dir, "src/a"), "m:~/tilde")
		if got := sh(t, "cat /tmp/src/a /tmp/src/sub/b ~/renamed ~/tilde; stat -c %U /tmp/src"); got != "abaa"+strings.TrimSpace(sh(t, "id -un"))+"\n" {
			t.Errorf("copied in: %q", got)
		}
		h.Run(0, "cp", "m:/tmp/src", filepath.Join(dir, "back"))
		if data, err := os.ReadFile(filepath.Join(dir, "back/sub/b")); err != nil || string(data) != "b" {
			t.Errorf("copied out: %q, %v", data, err)
		}
		// As with scp, paths begin in the home, which has a name of its own.
		for _, from := range []string{"m:renamed", "m:~/renamed"} {
			h.Run(0, "cp", from, filepath.Join(dir, "out"))
			if data, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(data) != "a" {
				t.Errorf("%s copied out: %q, %v", from, data, err)
			}
		}
		h.Run(0, "cp", "m:.", filepath.Join(dir, "all"))
		if data, err := os.ReadFile(filepath.Join(dir, "all/renamed")); err != nil || string(data) != "a" {
			t.Errorf("the home copied out: %q, %v", data, err)
		}
		if r := h.Run(1, "cp", "m:/no/such", dir); !strings.Contains(r.Stderr, "machine m: ") {
			t.Errorf("cp of nothing: %q", r.Stderr)
		}
	})
	h.Run(0, "rm", "m")
	if r := h.Run(0, "ls"); r.Stdout != "" {
		t.Errorf("after rm: %q", r.Stdout)
	}
	if _, err := os.Stat(filepath.Join(h.Dir, "new.txt")); err != nil {
		t.Errorf("rm touched the directory: %v", err)
	}
}

// Two commands that start a machine at once start one: who comes second finds it running,
// or hears that the first gave up.
func TestStartTwice(t *testing.T) {
	h := named(t, "--memory", "512MiB", "--network", "none")
	begin := func(args ...string) *vm.Command {
		c := h.Mayfly(args...)
		c.Start()
		return c
	}
	ends := func(t *testing.T, c *vm.Command, code int) vm.Result {
		t.Helper()
		r := c.Wait()
		if r.Code != code {
			t.Errorf("mayfly %s: exit code %d, %q; want %d", strings.Join(c.Args, " "), r.Code, r.Stderr, code)
		}
		return r
	}
	// halfway returns a start that is held up, and how to let it go on.
	halfway := func(t *testing.T) (start *vm.Command, goOn func()) {
		t.Helper()
		c := begin("start", "m")
		var st state.Status
		c.Until("its supervisor", func() bool {
			return state.ReadJSON(h.File("m", state.StatusFile), &st) == nil && st.Supervisor.PID > 1
		})
		if err := syscall.Kill(st.Supervisor.PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		goOn = func() { syscall.Kill(st.Supervisor.PID, syscall.SIGCONT) }
		t.Cleanup(goOn)
		return c, goOn
	}
	const waiting = "waiting for m, which another command starts"

	t.Run("at once", func(t *testing.T) {
		var said string
		for _, c := range []*vm.Command{begin("start", "m"), begin("start", "m"), begin("start", "--fresh", "m")} {
			said += ends(t, c, 0).Stderr
		}
		if strings.Count(said, "m runs: ") != 1 || strings.Count(said, "m runs already\n") != 2 {
			t.Errorf("three starts said %q; want that one has started it and two found it running", said)
		}
		h.Run(0, "stop", "m")
	})
	t.Run("and a command", func(t *testing.T) {
		first, goOn := halfway(t)
		second := begin("exec", "m", "--", "echo", "up")
		third, fourth := begin("cp", "m:/etc/hostname", filepath.Join(h.Dir, "copied")), begin("ssh", "m", "true")
		for _, c := range []*vm.Command{second, third, fourth} {
			c.Said(waiting)
		}
		goOn()
		ends(t, third, 0)
		ends(t, fourth, 0)
		if r := ends(t, second, 0); r.Stdout != "up\n" {
			t.Errorf("exec in a machine that is being started: %q, %q", r.Stdout, r.Stderr)
		}
		ends(t, first, 0)
		h.Run(0, "stop", "m")
	})
	t.Run("the first gives up", func(t *testing.T) {
		first, goOn := halfway(t)
		second := begin("start", "m")
		second.Said(waiting)
		first.Signal(os.Interrupt)
		goOn()
		ends(t, first, 130)
		r := ends(t, second, 1)
		if want := "mayfly: error: m does not run: the command that was starting it gave up\nmayfly: hint: mayfly start m\n"; !strings.HasSuffix(r.Stderr, want) {
			t.Errorf("the second start said %q; want %q", r.Stderr, want)
		}
	})
	t.Run("while it is stopped", func(t *testing.T) {
		h := h.For(t)
		h.Run(0, "start", "m")
		stubborn := begin("exec", "m", "--", "sh", "-c", "trap '' TERM HUP; echo up; while :; do sleep 1; done")
		stubborn.Printed("up")
		first := begin("stop", "m")
		first.Until("that m is stopping", func() bool { return strings.Contains(h.Run(0, "ls").Stdout, "stopping") })
		second, start := begin("stop", "m"), begin("start", "m")
		start.Said("waiting for the end of m")
		ends(t, first, 0)
		ends(t, second, 0)
		if r := ends(t, start, 0); !strings.Contains(r.Stderr, "m runs: ") {
			t.Errorf("start of a machine that is being stopped said %q", r.Stderr)
		}
		stubborn.Wait()
		h.Run(0, "stop", "m")
	})
}

// A machine in the foreground is a service: it ends with a signal, and fails when its
// machine does.
func TestForeground(t *testing.T) {
	h := named(t)
	for _, tt := range []struct {
		name string
		end  func(*vm.Command)
		code int
		say  string
	}{
		{"stopped", func(*vm.Command) { h.Run(0, "stop", "m") }, 0, "m was stopped"},
		{"signalled", func(c *vm.Command) { c.Signal(os.Interrupt) }, 0, "m is being stopped"},
		{"crashed", func(*vm.Command) {
			h.Mayfly("exec", "m", "--", "sudo", "sh", "-c", "echo c > /proc/sysrq-trigger").Run()
		}, 1, "the machine ended unexpectedly"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := h.For(t)
			c := h.Mayfly("start", "--foreground", "m")
			c.Start()
			c.Until("a machine that runs", func() bool { return strings.Contains(h.Run(0, "ls").Stdout, "running") })
			tt.end(c)
			r := c.Wait()
			if r.Code != tt.code || !strings.Contains(r.Stderr, tt.say) {
				t.Errorf("exit code %d, %q; want %d, %q", r.Code, r.Stderr, tt.code, tt.say)
			}
		})
	}
}

// A normal user's machine is as root's; its user is who it is on the host.
func TestNamedUser(t *testing.T) {
	vm.Lock(t)
	h := vm.NewUser(t)
	h.BorrowStore()
	t.Cleanup(func() { h.Mayfly("rm", "--force", "m").Run() })
	h.Run(0, "new", "m", "--volume", "cache:~/.cache:64MiB", "--network", "none")
	ws := filepath.Join(h.Home, "microvm/m")
	h.Run(0, "start", "m")
	if got := h.Run(0, "exec", "m", "--", "sh", "-c", "pwd; id -un; echo new > file; echo kept > ~/.cache/file").Stdout; got != ws+"\n"+filepath.Base(h.Home)+"\n" {
		t.Errorf("in the machine: %q", got)
	}
	var rows []struct {
		State       string
		Memory_used int64
	}
	if err := json.Unmarshal([]byte(h.Run(0, "ls", "--json").Stdout), &rows); err != nil || len(rows) != 1 || rows[0].Memory_used == 0 {
		t.Errorf("ls: %+v, %v", rows, err)
	}
	h.Run(0, "stop", "m")
	h.Run(0, "start", "m")
	if got := h.Run(0, "exec", "m", "--", "sh", "-c", "cat file ~/.cache/file").Stdout; got != "new\nkept\n" {
		t.Errorf("after a restart: %q", got)
	}
	h.Run(0, "apply", "m")
	if fi, err := os.Stat(filepath.Join(ws, "file")); err != nil || fi.Sys().(*syscall.Stat_t).Uid != h.Credential.Uid {
		t.Errorf("what was applied: %v, %v", fi, err)
	}
	h.Run(0, "rm", "m")
}

// Six machines at once, on any computer, and removal in whatever state one is.
func TestSixAtOnce(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	names := []string{"m1", "m2", "m3", "m4", "m5", "m6"}
	t.Cleanup(func() { h.Mayfly(append([]string{"rm", "--force"}, names...)...).Run() })
	for _, name := range names {
		h.Run(0, "new", name, "--memory", "512MiB", "--vcpus", "1", "--network", "none")
	}
	var starts []*vm.Command
	for _, name := range names {
		c := h.Mayfly("start", name)
		c.Start()
		starts = append(starts, c)
	}
	for i, c := range starts {
		if r := c.Wait(); r.Code != 0 {
			t.Errorf("start %s: exit code %d, %q", names[i], r.Code, r.Stderr)
		}
	}
	for _, name := range names {
		if got := h.Run(0, "exec", name, "--", "hostname").Stdout; got != name+"\n" {
			t.Errorf("in %s: %q", name, got)
		}
	}
	// Running, stopped, dead, starting, and without its file.
	h.Run(0, "stop", "m2")
	var st state.Status
	if err := state.ReadJSON(h.File("m3", state.StatusFile), &st); err != nil || !st.Supervisor.Kill() {
		t.Fatalf("kill a supervisor: %v", err)
	}
	h.Run(0, "stop", "m4")
	starting := h.Mayfly("start", "m4")
	starting.Start()
	starting.Until("its directory", func() bool { _, err := os.Stat(h.File("m4", state.StatusFile)); return err == nil })
	h.Run(0, "stop", "m5")
	if err := os.Remove(filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/machines/m5.toml")); err != nil {
		t.Fatal(err)
	}
	h.Run(0, append([]string{"rm"}, names...)...)
	starting.Wait()
	if left, err := os.ReadDir(filepath.Join(h.State, "kept")); err != nil || len(left) > 0 {
		t.Errorf("left after rm: %v, %v", left, err)
	}
	if names := h.Machines(); len(names) > 0 {
		t.Errorf("left after rm: %v", names)
	}
}
