package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// The program of the other tests may be linked with C, for the race detector, and is then
// not confined on all threads. This one is as it is installed.

// The threads of all processes of a machine have given up what they do not need, and the
// machine does all that it is for.
func TestConfined(t *testing.T) {
	vm.Lock(t)
	program := filepath.Join(t.TempDir(), "mayfly")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../cmd/mayfly")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build mayfly without C: %v\n%s", err, out)
	}
	t.Run("root", func(t *testing.T) {
		h := vm.New(t)
		h.Program = program
		// CAP_KILL and CAP_NET_BIND_SERVICE, to end the server of a share and to publish low ports.
		testConfined(t, h, 1<<unix.CAP_KILL|1<<unix.CAP_NET_BIND_SERVICE)
	})
	t.Run("a normal user", func(t *testing.T) {
		h := vm.NewUser(t)
		h.BorrowStore()
		data, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.Program, data, 0o755); err != nil {
			t.Fatal(err)
		}
		testConfined(t, h, 0)
	})
}

func testConfined(t *testing.T, h *vm.Host, capabilities uint64) {
	if os.Geteuid() != 0 {
		capabilities = 0
	}
	docs := filepath.Join(h.Home, "docs")
	writeFile(t, filepath.Join(docs, "text"), "of the host\n")
	writeFile(t, filepath.Join(h.Dir, "file"), "of the workspace\n")
	for _, path := range []string{docs, filepath.Join(docs, "text"), filepath.Join(h.Dir, "file")} {
		if c := h.Credential; c != nil {
			if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.Run(0, "run", "--keep", "--name", "m", "--no-detect", "--share", docs+":/srv/docs:ro", "--publish", "0:8000", "--", "true")
	t.Cleanup(func() { h.Mayfly("rm", "--force", "m").Run() })

	var st state.Status
	if err := state.ReadJSON(h.File("m", state.StatusFile), &st); err != nil {
		t.Fatal(err)
	}
	servers := childrenOf(t, st.Supervisor.PID)
	if len(servers) != 2 {
		t.Fatalf("the supervisor's children are %v; want QEMU %d and a virtiofsd", servers, st.VMM.PID)
	}
	checkThreads(t, "the supervisor", st.Supervisor.PID, capabilities)
	for _, pid := range servers {
		checkThreads(t, "a child of the supervisor", pid, 0)
	}
	if h.Credential == nil && os.Geteuid() == 0 {
		own := fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", confine.User(st.Supervisor.PID))
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.VMM.PID)); err != nil || !strings.Contains(string(data), own) {
			t.Errorf("QEMU, %d, is not the machine's own user: %v\n%s", st.VMM.PID, err, data)
		}
		// It may signal its QEMU, and that may not signal it.
		own = fmt.Sprintf("Uid:\t%d\t%d\t%[1]d\t%[1]d\n", confine.SupervisorUser(st.Supervisor.PID), confine.User(st.Supervisor.PID))
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.Supervisor.PID)); err != nil || !strings.Contains(string(data), own) {
			t.Errorf("the supervisor, %d, is not a user of its own: %v\n%s", st.Supervisor.PID, err, data)
		}
	}
	checkToken(t, h)

	// All that goes through the supervisor, or that it does.
	h.Run(0, "exec", "m", "--", "sh", "-c", "cat /srv/docs/text >page && (setsid python3 -m http.server 8000 >/dev/null 2>&1 &) && "+
		"for i in $(seq 100); do curl -s http://127.0.0.1:8000/page >/dev/null && exit 0; sleep 0.1; done; exit 1")
	_, list, _ := strings.Cut(h.Run(0, "port", "m").Stdout, "\n") // below the heads
	fields := strings.Fields(list)
	if len(fields) < 3 {
		t.Fatalf("the ports are %q", list)
	}
	published := fields[0] + ":" + fields[1]
	added := strings.TrimSpace(h.Run(0, "port", "m", "add", "0:8000").Stdout)
	for _, port := range []string{published, added} {
		resp, err := http.Get("http://" + port + "/page")
		if err != nil {
			t.Errorf("the port %q: %v", port, err)
			continue
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(page) != "of the host\n" {
			t.Errorf("the port %q: %q, %v; want the guest's page", port, page, err)
		}
	}
	h.Run(0, "policy", "m", "allow", "other.example")
	if out := h.Run(0, "policy", "m").Stdout; !strings.Contains(out, "other.example") {
		t.Errorf("policy: %s; want what was allowed", out)
	}
	h.Mayfly("exec", "m", "--", "curl", "-sS", "-m", "5", "http://192.0.2.1/").Run()
	if out := h.Run(0, "audit", "m").Stdout; !strings.Contains(out, "192.0.2.1") {
		t.Errorf("audit: %s; want what was tried", out)
	}
	h.Run(0, "cp", "m:/etc/hostname", filepath.Join(h.Dir, "copied"))
	h.Run(0, "cp", filepath.Join(h.Dir, "file"), "m:/tmp/there")
	if out := h.Run(0, "exec", "m", "--", "cat", "/tmp/there").Stdout; out != "of the workspace\n" {
		t.Errorf("cp: %q; want the file", out)
	}
	if out := h.Run(0, "ssh", "m", "--", "echo by ssh").Stdout; out != "by ssh\n" {
		t.Errorf("ssh: %q", out)
	}
	h.Run(0, "apply", "m")
	if data, err := os.ReadFile(filepath.Join(h.Dir, "page")); err != nil || string(data) != "of the host\n" {
		t.Errorf("applied: %q, %v", data, err)
	}
	checkThreads(t, "the supervisor after all that", st.Supervisor.PID, capabilities)
	h.Run(0, "rm", "--force", "m")
}

// childrenOf returns the processes that pid has started.
func childrenOf(t *testing.T, pid int) (pids []int) {
	t.Helper()
	statuses, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range statuses {
		data, _ := os.ReadFile(status) // the process may have ended
		if !strings.Contains(string(data), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(status)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, child)
	}
	return pids
}

// startCapabilities are CAP_SETPCAP and CAP_SYS_CHROOT.
const startCapabilities = "0000000000040100"

// checkThreads fails the test if a thread of the process pid has more rights than
// capabilities.
func checkThreads(t *testing.T, what string, pid int, capabilities uint64) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("%s, %d, has no threads: %v", what, pid, err)
	}
	want := map[string]string{
		"NoNewPrivs": "1", "Seccomp": "2", "CapInh": fmt.Sprintf("%016x", 0), "CapAmb": fmt.Sprintf("%016x", 0),
		"CapEff": fmt.Sprintf("%016x", capabilities), "CapPrm": fmt.Sprintf("%016x", capabilities),
	}
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		// QEMU's library has a thread from the beginning, which keeps what the virtiofsd
		// in C needs to start, in a root and with a filter where it is of no use.
		rcu := filepath.Base(filepath.Dir(task)) != strconv.Itoa(pid) && strings.HasPrefix(string(data), "Name:\tvirtiofsd\n")
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(line, ":")
			if rcu && strings.HasPrefix(key, "Cap") && strings.TrimSpace(value) == startCapabilities {
				continue
			}
			if w, ok := want[key]; ok && strings.TrimSpace(value) != w {
				t.Errorf("%s, %s: %s is %s; want %s", what, task, key, strings.TrimSpace(value), w)
			}
		}
	}
}

// checkToken fails the test if the machine's token is not for its owner only.
func checkToken(t *testing.T, h *vm.Host) {
	t.Helper()
	fi, err := os.Lstat(h.File("m", state.TokenFile))
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("the token: %v, %v; want a file for its owner only", fi, err)
	}
	if out := h.Run(0, "inspect", "--json", "m").Stdout; !json.Valid([]byte(out)) || !strings.Contains(out, `"namespaces": true`) {
		t.Errorf("inspect: %s; want the walls", out)
	}
}
