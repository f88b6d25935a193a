package host

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
)

// cpuInfo is what matters of /proc/cpuinfo.
type cpuInfo struct {
	model          string
	fingerprint    string // of all that a guest can see of the CPU
	tscKHz         int
	virtualization string
}

// landlockABI asks the kernel for its version of Landlock,
// userspace-api/landlock.rst.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// parseCPUInfo reads the first CPU of /proc/cpuinfo.
//
// On x86 the kernel prints bogomips as twice the rate of the time stamp counter
// in MHz, because it takes loops_per_jiffy from the counter. That holds only for
// a counter that keeps its rate (constant_tsc) and never stops (nonstop_tsc).
func parseCPUInfo(text string) cpuInfo {
	var c cpuInfo
	var flags []string
	seen := sha256.New()
	var bogomips float64
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			if strings.TrimSpace(line) == "" && c.model != "" {
				break // end of the first CPU
			}
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch key {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "address sizes":
			fmt.Fprintf(seen, "%s: %s\n", key, value)
		}
		switch key {
		case "model name":
			c.model = value
		case "flags":
			flags = strings.Fields(value)
		case "bogomips":
			bogomips, _ = strconv.ParseFloat(value, 64) // 0 when it is no number
		}
	}
	c.fingerprint = hex.EncodeToString(seen.Sum(nil)[:8])
	const maxKHz = 100_000_000 // 100 GHz: beyond it the text is not to be believed
	khz := math.Round(bogomips * 500)
	if khz > 0 && khz < maxKHz && slices.Contains(flags, "constant_tsc") && slices.Contains(flags, "nonstop_tsc") {
		c.tscKHz = int(khz)
	}
	for _, flag := range []string{"vmx", "svm"} {
		if slices.Contains(flags, flag) {
			c.virtualization = flag
		}
	}
	return c
}

// parseMemInfo reads /proc/meminfo into bytes.
func parseMemInfo(text string) map[string]int64 {
	m := make(map[string]int64)
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) != 2 || fields[1] != "kB" {
			continue
		}
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil && n >= 0 && n < math.MaxInt64/1024 {
			m[key] = n * 1024
		}
	}
	return m
}

// parseOSRelease reads the fields of os-release(5) that mayfly uses.
func parseOSRelease(text string) OS {
	var o OS
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		value = strings.Trim(value, "'")
		switch key {
		case "ID":
			o.ID = value
		case "ID_LIKE":
			o.Like = strings.Fields(value)
		case "VERSION_CODENAME":
			o.Codename = value
		case "VERSION_ID":
			o.Version = value
		case "PRETTY_NAME":
			o.Name = value
		}
	}
	return o
}

// Is reports whether the distribution is id or derived from it.
func (o OS) Is(id string) bool { return o.ID == id || slices.Contains(o.Like, id) }

// timezone returns the name of the host's time zone: the target of
// /etc/localtime, which is what the C library follows, else /etc/timezone.
func timezone(o Options) string {
	if target, err := os.Readlink(o.path("/etc/localtime")); err == nil {
		if _, name, ok := strings.Cut(target, "/zoneinfo/"); ok && validZone(name) {
			return name
		}
	}
	if name := strings.TrimSpace(o.read("/etc/timezone")); validZone(name) {
		return name
	}
	return "UTC"
}

var zonePattern = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)

// validZone keeps paths that are no zone's name out of the guest.
func validZone(name string) bool { return len(name) < 100 && zonePattern.MatchString(name) }

// userNamespaces tells from the kernel's settings whether u may make a user
// namespace, and whether AppArmor restricts that to programs with a profile; and why not.
func userNamespaces(o Options, u User, a AppArmor) (usable, appArmor bool, problem string) {
	const limitFile = "/proc/sys/user/max_user_namespaces"
	limit, err := strconv.Atoi(strings.TrimSpace(o.read(limitFile)))
	if err != nil {
		return false, false, "the kernel has none (CONFIG_USER_NS)"
	}
	if limit == 0 {
		return false, false, "user.max_user_namespaces is 0"
	}
	if u.UID == 0 {
		if !mayMakeNamespaces(o.read("/proc/self/status")) {
			return false, false, "this root has not the right to make namespaces (CAP_SYS_ADMIN), as in a container"
		}
		return true, false, ""
	}
	if strings.TrimSpace(o.read("/proc/sys/kernel/unprivileged_userns_clone")) == "0" {
		// Debian's own switch, gone from newer kernels
		return false, false, "kernel.unprivileged_userns_clone is 0"
	}
	if a.Restricts && !a.Profile {
		return false, true, "AppArmor gives them to programs with a profile only"
	}
	return true, false, ""
}

// mayMakeNamespaces reports whether a process of root's with this status may make
// namespaces without one of users. A status that does not say so is one that may.
func mayMakeNamespaces(status string) bool {
	for line := range strings.Lines(status) {
		if text, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			return err != nil || caps&(1<<unix.CAP_SYS_ADMIN) != 0
		}
	}
	return true
}

// machineUsers says what is wrong with the users of root's machines and builds.
func machineUsers(o Options) string {
	const first, last = confine.FirstUser, confine.LastUser
	for _, name := range []string{"uid_map", "gid_map"} {
		if text := o.read("/proc/self/" + name); text != "" && !(hasID(text, first) && hasID(text, last)) {
			return "this is the root of a container that has no such users: QEMU and supervisors run as root with few capabilities or none, and the scripts of packages with all"
		}
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		for line := range strings.Lines(o.read(file)) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			if len(fields) != 3 {
				continue
			}
			start, err1 := strconv.ParseUint(fields[1], 10, 32)
			count, err2 := strconv.ParseUint(fields[2], 10, 32)
			if err1 == nil && err2 == nil && start <= last && start+count > first {
				return fmt.Sprintf("%s gives some of them to %s, who could reach into machines of root's", file, fields[0])
			}
		}
	}
	for _, file := range []string{"/etc/passwd", "/etc/group"} {
		for line := range strings.Lines(o.read(file)) {
			if fields := strings.Split(line, ":"); len(fields) > 3 {
				if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil && id >= first && id <= last {
					return fmt.Sprintf("%s has one of them as %s, who could reach into machines of root's", file, fields[0])
				}
			}
		}
	}
	return ""
}

// hasID reports whether id exists by the text of a table of user_namespaces(7).
func hasID(text string, id int) bool {
	for line := range strings.Lines(text) {
		var inside, outside, count int
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && inside <= id && id-inside < count {
			return true
		}
	}
	return false
}

// subIDCount is how many subordinate ids a Debian root file system needs.
const subIDCount = 65536

// hasSubIDs reports whether subuid(5) or subgid(5) text gives the user a range
// that is large enough.
func hasSubIDs(text string, u User) bool {
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 || (fields[0] != u.Name && fields[0] != strconv.Itoa(u.UID)) {
			continue
		}
		if n, err := strconv.ParseInt(fields[2], 10, 64); err == nil && n >= subIDCount {
			return true
		}
	}
	return false
}

// nextSubID returns the first id behind all ranges of subuid(5) or subgid(5)
// text; useradd starts at 100000.
func nextSubID(text string) int {
	next := 100000
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		start, err1 := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err1 == nil && err2 == nil {
			next = max(next, int(start+count))
		}
	}
	return next
}

// freeBytes is the space free for this user where dir is, or will be once it is
// made; 0 if that is not known.
func freeBytes(dir string) int64 {
	free, err := diskspace.Free(dir)
	if err != nil {
		return 0
	}
	return free
}

var perlVersion = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^our \$VERSION\s*=\s*'([0-9][0-9A-Za-z.~+-]{0,30})'`)
})

// mmdebstrapVersion reads the version out of the script: starting perl for it
// would take longer than the rest of the probe.
func mmdebstrapVersion(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 0; n < 100 && lines.Scan(); n++ {
		if m := perlVersion().FindStringSubmatch(lines.Text()); m != nil {
			return m[1]
		}
	}
	return ""
}
