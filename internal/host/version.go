package host

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"sync"
)

// Version is a version of QEMU. As JSON it is a string, "10.0.2".
type Version struct {
	Major, Minor, Micro int
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// IsZero reports whether the version is unknown.
func (v Version) IsZero() bool { return v == Version{} }

// Compare returns -1, 0 or 1 as v is older than, equal to or newer than w.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Micro, w.Micro))
}

// AtLeast reports whether v is major.minor.micro or newer.
func (v Version) AtLeast(major, minor, micro int) bool {
	return v.Compare(Version{major, minor, micro}) >= 0
}

// TCGSafe reports whether QEMU's emulator, TCG, runs a Linux guest correctly.
//
// Before 8.0.0 cmpxchg8b and cmpxchg16b leave garbage in EFLAGS (fixed by QEMU
// commits 326ad06cf5 and 5f0dd8cd33), before 8.1.0 a CPU may go on with code that
// another one has patched (cb62bd15e1, deba78709a); 8.1.1 is the first release
// with the regressions of 8.1.0 repaired. A guest on an older one crashes,
// hangs or, worse, goes on with wrong data. KVM does not translate code and is
// not concerned.
func (v Version) TCGSafe() bool { return v.AtLeast(8, 1, 1) }

// TCGUnsafeReason says why a guest of this version is refused without KVM. It
// is empty when TCGSafe.
func (v Version) TCGUnsafeReason() string {
	if v.TCGSafe() {
		return ""
	}
	return fmt.Sprintf("QEMU %v corrupts guests when it emulates the CPU (wrong flags after cmpxchg16b, stale patched code); without KVM, QEMU 8.1.1 or newer is needed", v)
}

// MarshalText and UnmarshalText make a version a string in JSON; an unknown one
// is the empty string.
func (v Version) MarshalText() ([]byte, error) {
	if v.IsZero() {
		return nil, nil
	}
	return []byte(v.String()), nil
}

func (v *Version) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*v = Version{}
		return nil
	}
	parsed, err := ParseVersion(string(text))
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}

var versionPattern = regexp.MustCompile(`^(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?`)

// ParseVersion reads the number at the beginning of a version: "10.0.2",
// "9.2", "8.2.0-rc1" (which counts as 8.2.0), "10.0.2+ds-2".
func ParseVersion(s string) (Version, error) {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("parse version %q: not MAJOR.MINOR.MICRO", s)
	}
	var v Version
	for i, p := range []*int{&v.Major, &v.Minor, &v.Micro} {
		if m[i+1] != "" {
			n, err := strconv.Atoi(m[i+1])
			if err != nil {
				return Version{}, fmt.Errorf("parse version %q: %w", s, err)
			}
			*p = n
		}
	}
	return v, nil
}

var versionOutput = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^QEMU emulator version (\S+)`) })

// parseVersionOutput reads what `qemu-system-… --version` prints.
func parseVersionOutput(out string) (Version, error) {
	m := versionOutput().FindStringSubmatch(out)
	if m == nil {
		return Version{}, fmt.Errorf("parse the output of --version: no QEMU version in %.80q", out)
	}
	return ParseVersion(m[1])
}
