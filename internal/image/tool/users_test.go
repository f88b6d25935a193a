package tool_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/image/tool"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// usersVariable makes this test run a program as other users, for ever.
const usersVariable = "MAYFLY_TEST_USERS"

// A program with users of its own is root of these, nobody outside, and is stopped when
// this process is killed, as any other.
func TestRunUsers(t *testing.T) {
	const first = 1_800_000_000
	program := tool.Cmd{
		Name: "sh", Dir: "/", Stdout: os.Stdout, Users: first,
		Args: []string{"-c", `read -r pid _ </proc/self/stat; id -u; cat /proc/self/uid_map; echo "$pid"; while :; do sleep 1; done`},
	}
	if os.Getenv(usersVariable) != "" {
		fmt.Println(tool.Run(t.Context(), program))
		os.Exit(1)
	}
	env.NeedRoot(t)
	if err := tool.Run(t.Context(), tool.Cmd{Name: "true", Dir: "/", Users: first}); err != nil {
		t.Skipf("may not make user namespaces here: %v", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunUsers$")
	cmd.Env = append(os.Environ(), usersVariable+"=x")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewReader(out)
	next := func() string {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the program said %q: %v", line, err)
		}
		return strings.Join(strings.Fields(line), " ")
	}
	if uid, users := next(), next(); uid != "0" || users != fmt.Sprintf("0 %d 65536", first) {
		t.Errorf("it is user %s of %s; want root of %d", uid, users, first)
	}
	pid, err := strconv.Atoi(next())
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", first)) {
		t.Errorf("on the host it is %v\n%s; want user %d", err, status, first)
	}
	cmd.Process.Kill()
	ended := make(chan struct{})
	go func() {
		lines.ReadString(0) // until nobody has the pipe
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(tool.Grace):
		t.Error("it outlives its parent")
	}
}
