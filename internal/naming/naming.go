// Package naming holds the rules for names that users give: of machines, profiles,
// volumes and sessions. They all consist of lower-case letters, digits and
// hyphens and begin with a letter or a digit, so that a name is never a flag and
// is the same as a file's name, in a shell, in systemd and in DNS.
package naming

import (
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// The longest names, in bytes.
const (
	MaxMachine = 63 // a label of DNS: it is the guest's host name
	MaxProfile = 63
	MaxVolume  = 32
	MaxSession = 32
)

// Valid reports whether s can be a machine's name. It is a host name in the guest
// and a directory's name on the host.
func Valid(s string) bool {
	return valid(s, MaxMachine) && s[len(s)-1] != '-' // RFC 952 wants a letter or digit at the end
}

// ValidProfile reports whether s can be a profile's name.
func ValidProfile(s string) bool { return valid(s, MaxProfile) }

// ValidVolume reports whether s can be a volume's name.
func ValidVolume(s string) bool { return valid(s, MaxVolume) }

// ValidSession reports whether s can be a session's name.
func ValidSession(s string) bool { return valid(s, MaxSession) }

func valid(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == '-' {
		return false
	}
	for _, b := range []byte(s) {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' {
			return false
		}
	}
	return true
}

// Check returns an error if s cannot be a machine's name, with a similar one that
// can be.
func Check(s string) error {
	if Valid(s) {
		return nil
	}
	const rule = "lower-case letters, digits and hyphens, at most 63, with no hyphen at the ends"
	args := fault.Args{"name": s}
	if better := similar(s); better != "" {
		args["better"] = better
	}
	return fault.New(fault.MachineNameInvalid, args, "machine name %.80q: must be %s", s, rule)
}

// similar returns a valid name that looks like s, or "".
func similar(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, s)
	s = strings.Trim(s[:min(len(s), MaxMachine)], "-")
	if !Valid(s) {
		return ""
	}
	return s
}
