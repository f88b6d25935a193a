package systemd_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/sdnotify"
	"github.com/mayfly-vm/mayfly/internal/systemd"
	"github.com/mayfly-vm/mayfly/internal/test/env"
	systemdtest "github.com/mayfly-vm/mayfly/internal/test/systemd"
)

// The test binary is the program of the units, too: it does what mayfly start
// --foreground does, by the name of the machine.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "start" && os.Args[2] == "--foreground" {
		os.Exit(play(os.Args[3]))
	}
	if len(os.Args) == 2 && os.Args[1] == "vmm" {
		signal.Ignore(syscall.SIGTERM)
		os.Stdin.Read(make([]byte, 1))
		// What a VMM that is the guest's would try.
		n, _ := sdnotify.New(os.Getenv)
		n.Send(sdnotify.Status("the guest's own words"))
		fmt.Println("said")
		select {}
	}
	os.Exit(m.Run())
}

func play(machine string) int {
	n, err := sdnotify.New(os.Getenv)
	if err != nil || !n.Enabled() {
		fmt.Fprintln(os.Stderr, "no service manager:", err)
		return 1
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	n.Send(sdnotify.Extend(time.Minute), sdnotify.Status("booting"))
	switch machine {
	case "refused":
		return 1
	case "silent":
		fmt.Fprintln(os.Stderr, "the guest boots")
		<-signals
		fmt.Fprintln(os.Stderr, "mayfly: error: the guest did not answer")
		return 1
	}
	// In a session of its own, as a supervisor is.
	vmm := exec.Command(os.Args[0], "vmm")
	vmm.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, inErr := vmm.StdinPipe()
	out, outErr := vmm.StdoutPipe()
	if inErr != nil || outErr != nil || vmm.Start() != nil {
		return 1
	}
	fmt.Fprintf(os.Stderr, "id %d data %s\n", os.Getuid(), os.Getenv("XDG_DATA_HOME"))
	n.Send(sdnotify.Ready, sdnotify.Status("running"))
	in.Write([]byte("x"))
	out.Read(make([]byte, 64))
	fmt.Fprintln(os.Stderr, "the VMM has spoken")
	if <-signals == syscall.SIGUSR1 {
		fmt.Fprint(os.Stderr, "mayfly: error: the machine ended unexpectedly\n  | Kernel panic - not syncing\n")
		return 1
	}
	n.Send(sdnotify.Stopping, sdnotify.Status("powering off"))
	fmt.Fprintln(os.Stderr, "stopped as asked")
	return 0
}

// program copies the test binary to where every user may run it, with all in its
// path that is special in a unit and allowed.
func program(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("/var/tmp", "mayfly-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	dir := filepath.Join(root, "my $HOME 100% ü;")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "mayfly")
	for _, err := range []error{os.Chmod(root, 0o755), os.Mkdir(dir, 0o755), os.WriteFile(exe, data, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return exe
}

// A systemd runs the units: started is a machine that answers, stopped one that
// ended in order, failed one that crashed, with its console's end in the journal.
func TestRun(t *testing.T) {
	env.NeedVM(t)
	m := systemdtest.Start(t)
	exe := program(t)
	t.Run("system", func(t *testing.T) {
		testRun(t, m.For(t), exe, systemd.Owner{Account: "nobody", Home: "/var/tmp"}, true)
	})
	t.Run("user", func(t *testing.T) {
		home := filepath.Join(filepath.Dir(filepath.Dir(exe)), "home")
		// In version 1 of control groups no user gets a part of them.
		testRun(t, m.For(t).User("nobody", home), exe, systemd.Owner{}, m.Unified)
	})
}

func testRun(t *testing.T, m *systemdtest.Manager, exe string, owner systemd.Owner, limited bool) {
	owner.Env = []string{`XDG_DATA_HOME=/srv/100% of "it"\$HOME`}
	for _, name := range []string{"web-1", "crash", "refused", "silent", "killed"} {
		m.Install(systemd.Machine{
			Name: name, Exe: exe, Owner: owner,
			Limits: systemd.Limits{MemoryMax: 1<<30 + 4096*7, CPUPercent: 150, TasksMax: 77},
		})
	}
	m.Run(0, "systemctl", "daemon-reload")
	// none reports what is left of a machine.
	none := func(when string) {
		t.Helper()
		m.Run(1, "pgrep", "-u", "nobody", "-x", "mayfly")
		if t.Failed() {
			t.Log(when)
		}
	}

	const web = "mayfly@web-1.service"
	m.Run(0, "systemctl", "start", web)
	m.UntilSaid(web, "the VMM has spoken")
	for property, want := range map[string]string{
		"ActiveState": "active", "SubState": "running", "StatusText": "running", "Result": "success",
		"MemoryMax": strconv.Itoa(1<<30 + 4096*7), "TasksMax": "77", "CPUQuotaPerSecUSec": "1.500000s",
		"User": owner.Account, "LimitCORE": "0", "Slice": "mayfly.slice", "NRestarts": "0",
	} {
		if got := m.Show(web, property); got != want {
			t.Errorf("a machine that runs has %s=%s; want %s", property, got, want)
		}
	}
	for _, c := range []struct{ controller, file, legacy, want string }{
		{"memory", "memory.max", "memory.limit_in_bytes", strconv.Itoa(1<<30 + 4096*7)},
		{"pids", "pids.max", "pids.max", "77"},
	} {
		if !limited {
			continue
		}
		if got := m.Controller(web, c.controller, c.file, c.legacy); got != c.want {
			t.Errorf("its control group has %s=%s; want %s", c.file, got, c.want)
		}
	}
	if journal := m.Journal(web); !strings.Contains(journal, `data /srv/100% of "it"\$HOME`+"\n") {
		t.Errorf("the environment's values are other ones:\n%s", journal)
	}
	processes := strings.Fields(m.Run(0, "pgrep", "-u", "nobody", "-x", "mayfly"))
	if len(processes) != 2 {
		t.Fatalf("processes %q; want mayfly and its VMM", processes)
	}
	if owner.Account != "" {
		// Nothing that is installed can be changed.
		usr := ""
		for line := range strings.Lines(m.Run(0, "cat", "/proc/"+m.Show(web, "MainPID")+"/mountinfo")) {
			if f := strings.Fields(line); len(f) > 5 && f[4] == "/usr" {
				usr = f[5]
			}
		}
		if !strings.HasPrefix(usr, "ro") {
			t.Errorf("/usr is mounted %q; want it read-only", usr)
		}
	}

	m.Run(3, "systemctl", "status", "--no-pager", "mayfly@crash.service") // not running
	m.Run(0, "systemctl", "stop", web)
	if state, result := m.Show(web, "ActiveState"), m.Show(web, "Result"); state != "inactive" || result != "success" {
		t.Errorf("after a stop the machine is %s, %s; want inactive, success\n%s", state, result, m.Journal(web))
	}
	none("after a stop, though the VMM ignores SIGTERM")
	if journal := m.Journal(web); !strings.Contains(journal, "stopped as asked") {
		t.Errorf("the journal of a machine that was stopped:\n%s", journal)
	}

	const crash = "mayfly@crash.service"
	m.Run(0, "systemctl", "start", crash)
	m.UntilSaid(crash, "the VMM has spoken")
	m.Run(0, "systemctl", "kill", "--kill-whom=main", "--signal=USR1", crash)
	m.Until(crash, "ActiveState", "failed")
	if result, n := m.Show(crash, "Result"), m.Show(crash, "NRestarts"); result != "exit-code" || n != "0" {
		t.Errorf("a machine that crashed: %s, %s restarts; want exit-code, and none", result, n)
	}
	if journal := m.Journal(crash); !strings.Contains(journal, "Kernel panic - not syncing") {
		t.Errorf("the journal of a machine that crashed has no end of its console:\n%s", journal)
	}
	none("after a crash")

	// start itself fails where a machine never answered, and the journal says why.
	// Of a process that ends at once it does not know whose it was, so this one
	// does not.
	m.Run(1, "systemctl", "start", "mayfly@refused.service")
	const silent = "mayfly@silent.service"
	m.Run(0, "systemctl", "start", "--no-block", silent)
	m.UntilSaid(silent, "the guest boots")
	if state, status := m.Show(silent, "ActiveState"), m.Show(silent, "StatusText"); state != "activating" || status != "booting" {
		t.Errorf("a machine that boots is %s, %s; want activating, booting", state, status)
	}
	m.Run(0, "systemctl", "kill", "--kill-whom=main", "--signal=USR1", silent)
	m.Until(silent, "ActiveState", "failed")
	if journal := m.Journal(silent); !strings.Contains(journal, "the guest did not answer") {
		t.Errorf("the journal of a machine that did not start:\n%s", journal)
	}

	const killed = "mayfly@killed.service"
	m.Run(0, "systemctl", "start", killed)
	m.UntilSaid(killed, "the VMM has spoken")
	m.Run(0, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", killed)
	m.Until(killed, "ActiveState", "failed")
	none("after mayfly itself was killed")
}
