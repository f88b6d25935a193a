package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// randomProgram prints what programs in Go take for random.
const randomProgram = `package main

import (
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"os"
)

func main() {
	b := make([]byte, 64)
	if _, err := crand.Read(b); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("go-crypto %x\ngo-math %x\n", b, rand.Uint64())
}
`

// identityScript prints all by which one machine is told from another, a name and
// a value on each line.
const identityScript = `set -e
echo machine-id $(cat /etc/machine-id)
echo boot-id $(cat /proc/sys/kernel/random/boot_id)
echo getrandom $(head -c 64 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
echo uuid $(cat /proc/sys/kernel/random/uuid)
echo uuidgen $(uuidgen)
bash -c 'echo bash $RANDOM $RANDOM $RANDOM $RANDOM'
ssh-keygen -q -t ed25519 -N '' -f /tmp/key
echo ssh-host-key $(cut -d ' ' -f 2 /tmp/key.pub)
echo openssl $(openssl rand -hex 32)
python3 -c 'import os, random, uuid; print("python-random", random.random(), "\npython-urandom", os.urandom(32).hex(), "\npython-uuid", uuid.uuid4())'
perl -e 'print "perl ", rand(), "\n"'
echo mktemp $(mktemp -u XXXXXXXXXXXX)
awk 'BEGIN { "cat /proc/self/stat" | getline; print "stack", $28 }'
./random
`

// No two of many machines from one template have anything random in common.
func TestClonesDiffer(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	source := filepath.Join(t.TempDir(), "main.go")
	writeFile(t, source, randomProgram)
	build := exec.Command("go", "build", "-o", filepath.Join(h.Dir, "random"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	flags := []string{"run", "--discard", "--no-detect", "--explain",
		"--package", "openssh-client", "--package", "uuid-runtime", "--package", "python3"}
	clone := func() vm.Result {
		c := h.Mayfly(append(flags, "--", "sh", "-c", identityScript)...)
		c.Timeout = 3 * vm.Timeout // the first one builds an image
		return c.Want(0)
	}
	clone()
	results := make([]vm.Result, 20)
	for i := 0; i < len(results); i += 2 {
		atOnce(2, func(j int) { results[i+j] = clone() }) // a pair is as quick as one
	}
	seen := make(map[string]int) // name and value → the machine that had it first
	for i, r := range results {
		wantStart(t, r, fromTemplate)
		n := 0
		for line := range strings.Lines(r.Stdout) {
			line = strings.TrimSpace(line)
			if first, ok := seen[line]; ok {
				t.Errorf("machines %d and %d have the same %s", first, i, line)
			}
			seen[line] = i
			n++
		}
		if n != 16 {
			t.Fatalf("%d values; want 16:\n%s", n, r.Stdout)
		}
	}
}

// The clock of a guest is the host's, though its template is of another time.
func TestCloneClock(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	for range 5 {
		h.Run(0, "run", "--keep", "--name", "m", "--no-detect", "--", "true")
		if offset := clockOffset(t, h); offset.Abs() > 50*time.Millisecond {
			t.Errorf("the guest's clock is %v ahead; want it within 50 ms", offset)
		}
		h.Run(0, "rm", "m")
	}
}

// clockOffset returns by how much the clock of machine m is ahead of ours, by the
// quickest of some questions: half of its way is the error.
func clockOffset(t *testing.T, h *vm.Host) time.Duration {
	t.Helper()
	c := h.Mayfly("exec", "m", "--", "bash", "-c", `while read -r; do echo $EPOCHREALTIME; done`)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, answersW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin, c.Stdout = r, answersW
	c.Start()
	r.Close()
	answersW.Close()
	lines := bufio.NewScanner(answers)
	best, offset := time.Hour, time.Duration(0)
	for range 20 {
		asked := time.Now()
		fmt.Fprintln(w)
		if !lines.Scan() {
			t.Fatal("the guest gave no time")
		}
		took := time.Since(asked)
		seconds, micros, ok := strings.Cut(lines.Text(), ".")
		s, err1 := strconv.ParseInt(seconds, 10, 64)
		us, err2 := strconv.ParseInt(micros, 10, 64)
		if !ok || err1 != nil || err2 != nil {
			t.Fatalf("the guest's time is %q", lines.Text())
		}
		if took < best {
			best, offset = took, time.Unix(s, us*1000).Sub(asked.Add(took/2))
		}
	}
	w.Close()
	c.Wait()
	t.Logf("the guest's clock is %v ahead, within %v", offset, best/2)
	return offset
}

// likenessScript prints what a program can see of how its machine is set up.
const likenessScript = `exec 2>&1
cat /proc/cmdline /proc/version
grep -e 'model name' -e ^flags /proc/cpuinfo | sort -u
nproc; grep MemTotal /proc/meminfo
sed 's/,size=[^ ,]*//; s/,nr_inodes=[^ ,]*//' /proc/mounts
cat /etc/hostname /etc/hosts /etc/passwd /etc/group /etc/gitconfig; sudo cat /etc/shadow /etc/sudoers.d/mayfly
readlink -f /etc/localtime; cat /etc/timezone; date +%Z
id; umask; pwd; env | sort; ulimit -a
stat -c '%n %U %G %a %F' / /etc /etc/* /home ~ ~/.* /run /run/* /dev/shm /dev/pts /tmp .
ls -l /dev | sed 's/ [A-Z][a-z][a-z] .*[0-9] / /'
ls /sys/class/net /sys/block /sys/bus/pci/devices /sys/bus/virtio/devices
cat /sys/class/net/lo/flags /sys/block/vd*/ro /sys/block/vd*/serial
# The disk that is written to is bounded by the host's free space. A template knows of no bound.
for d in /sys/block/vd*; do [ "$(cat $d/serial)" = slot0 ] || cat $d/size; done
cat /proc/modules | cut -d ' ' -f 1,3,4
ps -eo user,ppid,comm --no-headers | awk '$2 != 2 { print $1, $3 }' | sort -u
lsblk -dno NAME,RO
`

// A machine from a template is the same as one that booted, in all that a program
// can see of how it is set up.
func TestCloneIsLikeBooted(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	writeFile(t, filepath.Join(h.Dir, "file"), "")
	seen := make(map[string]string)
	for _, start := range []string{fromTemplate, byBooting} {
		flags := []string{"run", "--discard", "--no-detect", "--explain", "--name", "m"}
		if start == byBooting {
			flags = append(flags, "--cold")
		} else {
			explained(t, h, "")
		}
		r := h.Run(0, append(flags, "--", "sh", "-c", likenessScript)...)
		wantStart(t, r, start)
		seen[start] = r.Stdout
	}
	if d := cmp.Diff(seen[byBooting], seen[fromTemplate]); d != "" {
		t.Errorf("a machine from a template differs (-booted +restored):\n%s", d)
	}
	if n := len(seen[byBooting]); n < 5000 {
		t.Errorf("only %d bytes are compared:\n%s", n, seen[byBooting])
	}
}

// A machine that gets a copy of the template's memory, as older QEMUs and shared
// directories need it, works like one that has it mapped; and no machine changes
// the template.
func TestCloneByCopy(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	dir := h.OwnCache()
	explained(t, h, forIt)
	memory := filepath.Join(dir, templates(t, dir)[0], "memory")
	before := fileSum(t, memory)

	p := dryRun(t, h, "--name", "copied")
	p.Template.Copy = true
	owner, start := startPlan(t, h, p)
	defer owner.Close()
	if start == nil || start.Template == "" || start.Made {
		t.Errorf("started by %+v; want the template", start)
	}
	const script = "head -c 100M /dev/zero > /dev/shm/x; sync; head -c 20M /dev/urandom > y; cat /etc/machine-id"
	id := h.Run(0, "exec", "copied", "--", "sh", "-c", script).Stdout
	r := h.Run(0, "run", "--discard", "--no-detect", "--explain", "--", "sh", "-c", script)
	wantStart(t, r, fromTemplate)
	if len(id) != 33 || id == r.Stdout {
		t.Errorf("machine ids %q and %q; want two", id, r.Stdout)
	}
	if fi, err := os.Stat(h.File("copied", state.MemoryFile)); err != nil || fi.Size() != int64(p.Machine.MemoryMiB)<<20 {
		t.Errorf("the copy: %v, %v", fi, err)
	}
	if after := fileSum(t, memory); after != before {
		t.Error("the memory of the template has changed")
	}
}

// startPlan starts a machine of h by its plan, as run does.
func startPlan(t *testing.T, h *vm.Host, p plan.Plan) (*control.Owner, *control.Start) {
	t.Helper()
	store := state.Open(h.State)
	var img image.Image
	out := h.Run(0, "image", "build", "--no-detect", "--json").Stdout
	if err := json.Unmarshal([]byte(out), &img); err != nil {
		t.Fatal(err)
	}
	m, lock, err := store.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := state.WriteJSON(m.File(state.ImageFile), img); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(h.Program)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := control.Spawn(program, m, lock, nil, control.Given{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), vm.Timeout)
	defer cancel()
	var start *control.Start
	err = owner.Ready(ctx, func(e control.Event) {
		if e.Start != nil {
			start = e.Start
		}
		if e.Note != "" {
			t.Log(e.Note)
		}
	})
	if err != nil {
		owner.Close()
		t.Fatal(err)
	}
	return owner, start
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("sha256sum", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out[:64])
}
