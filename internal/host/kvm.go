package host

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/host/kvmguest"
)

// probeKVM looks at /dev/kvm without using it.
func probeKVM(o Options) KVM {
	f, err := os.OpenFile(o.path("/dev/kvm"), os.O_RDWR, 0)
	switch {
	case err == nil:
		f.Close()
		return KVM{Present: true, Openable: true, Reason: "not tried yet"}
	case errors.Is(err, fs.ErrNotExist):
		return KVM{Reason: "/dev/kvm does not exist"}
	case errors.Is(err, fs.ErrPermission):
		return KVM{Present: true, Reason: "/dev/kvm: permission denied", Group: groupOf(o, "/dev/kvm")}
	default:
		return KVM{Present: true, Reason: fmt.Sprintf("/dev/kvm: %v", errors.Unwrap(err))}
	}
}

// groupOf returns the group whose members may read and write a file, if it has one that
// a user can be made a member of.
func groupOf(o Options, name string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(o.path(name), &st); err != nil || st.Mode&0o060 != 0o060 || st.Gid == 0 {
		return ""
	}
	if e, ok := findEntry(o.read("/etc/group"), 2, int(st.Gid)); ok {
		return e[0]
	}
	return ""
}

// ProveOptions are the choices of ProveKVM.
type ProveOptions struct {
	// Refresh tries again even if the answer is cached.
	Refresh bool
	// Forget keeps no answer in the cache.
	Forget bool
	// Timeout bounds the guest's run; 0 means 10 seconds. It takes a fraction
	// of one on a KVM that works.
	Timeout time.Duration
}

// ProveKVM finds out whether KVM works: it boots a tiny guest with QEMU, or
// takes the answer from the cache, where it is kept for as long as the kernel,
// the CPU and QEMU stay the same (a refusal also only until the next start of
// the host, since it may be due to another hypervisor that holds the CPU).
//
// That KVM does not work is an answer and not an error.
func ProveKVM(ctx context.Context, f Facts, o ProveOptions) (KVM, error) {
	k := f.KVM
	switch {
	case !k.Openable:
		return k, nil
	case f.Arch != "amd64":
		k.Reason = "there is no guest to prove it with on " + f.Arch
		return k, nil
	case f.QEMU.Path == "":
		k.Reason = "not tried: " + f.QEMU.Problem
		return k, nil
	}
	if !o.Refresh {
		if k = cachedProof(f); k.Tested {
			return k, nil
		}
	}
	reason, err := runGuest(ctx, f.QEMU, "kvm", "host", cmp.Or(o.Timeout, 10*time.Second))
	if err != nil {
		return k, fmt.Errorf("prove that KVM works: %w", err)
	}
	k.Tested, k.Proven, k.Reason = true, reason == "", reason
	if o.Forget {
		return k, nil
	}
	if err := storeProof(f, k); err != nil {
		return k, fmt.Errorf("keep the proof that KVM works: %w", err)
	}
	return k, nil
}

// proof is the cached answer with all that it depends on.
type proof struct {
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	QEMU   string `json:"qemu"`
	Guest  string `json:"guest"` // hash of the guest: a better guest asks again
	Boot   string `json:"boot"`  // only compared for a refusal
	Proven bool   `json:"proven"`
	Reason string `json:"reason"`
}

func proofPath(f Facts) string { return filepath.Join(f.Dirs.Cache, "kvm-proof.json") }

// proofKey returns a proof without an answer.
func proofKey(f Facts) proof {
	guest := sha256.Sum256(kvmguest.Image())
	return proof{
		Kernel: f.Kernel,
		CPU:    f.CPUModel,
		QEMU:   f.QEMU.Path + ": " + f.QEMU.Build,
		Guest:  hex.EncodeToString(guest[:8]),
		Boot:   f.BootID,
	}
}

// cachedProof returns f.KVM with the cached answer if there is one.
func cachedProof(f Facts) KVM {
	k := f.KVM
	if f.Dirs.Cache == "" || f.QEMU.Path == "" {
		return k
	}
	b, err := os.ReadFile(proofPath(f))
	if err != nil {
		return k
	}
	var p proof
	if err := json.Unmarshal(b, &p); err != nil {
		return k // a damaged cache is no cache
	}
	want := proofKey(f)
	want.Proven, want.Reason = p.Proven, p.Reason
	if p.Proven {
		want.Boot = p.Boot
	}
	if p != want || p.Proven != (p.Reason == "") {
		return k
	}
	k.Tested, k.Proven, k.Reason = true, p.Proven, p.Reason
	return k
}

// storeProof replaces the cached answer as a whole, as two processes may do it
// at once.
func storeProof(f Facts, k KVM) error {
	if f.Dirs.Cache == "" {
		return nil
	}
	p := proofKey(f)
	p.Proven, p.Reason = k.Proven, k.Reason
	b, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.Dirs.Cache, 0o700); err != nil {
		return err
	}
	return atomicfile.WriteUnsynced(proofPath(f), append(b, '\n'), 0o600) // a cache
}

// explain turns what QEMU said into the reason of a refusal.
func explain(serial, stderr []byte, status string, timedOut bool) string {
	_, step := kvmguest.Result(serial)
	if step == "" {
		step = "its end"
	}
	said := firstLine(stderr)
	switch {
	case len(bytes.TrimSpace(serial)) == 0 && said != "" && !timedOut:
		return "QEMU did not start a guest: " + said
	case said != "":
		return fmt.Sprintf("a test guest stopped before %s: %s", step, said)
	case timedOut:
		return fmt.Sprintf("a test guest hung before %s", step)
	default:
		return fmt.Sprintf("a test guest stopped before %s (%s)", step, status)
	}
}

// firstLine returns the first line of QEMU's complaints without its name,
// shortened.
func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	line = strings.TrimPrefix(line, qemuBinary()+": ")
	if len(line) > 200 {
		line = line[:200] + "…"
	}
	return strings.ToValidUTF8(line, "?")
}
