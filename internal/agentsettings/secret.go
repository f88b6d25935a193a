package agentsettings

import (
	"regexp"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/dotfiles"
)

// spoken are the ways in which a text says that a credential follows.
var spoken = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+[a-z0-9+/=._~-]{8,}|authorization:\s*\S` +
		`|(?:^|[^a-z])(?:password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key)["']?\s*[=:]\s*["']?[^\s"'*$<{]{6,}` +
		`|--?(?:password|token|secret|api-?key|access-?key)[ =]+["']?[^\s"'*$<{]{6,}`)
})

// runs are letters and digits without a break, and with such as tokens have.
var (
	dense = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[0-9A-Za-z]{20,}`) })
	loose = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[0-9A-Za-z_+=-]{32,}`) })
)

var uuid = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
})

// secret reports whether a text looks like a credential, or has one. It errs on the side of
// leaving a setting behind.
func secret(s string) bool {
	if _, found := dotfiles.ScanFile("settings", []byte(s)); found {
		return true
	}
	if spoken().MatchString(s) || uuid().MatchString(s) {
		return true
	}
	// Names of models have breaks, and are lower case.
	for _, run := range dense().FindAllString(s, -1) {
		if strings.ContainsAny(run, digits) && strings.Trim(run, digits) != "" {
			return true
		}
	}
	for _, run := range loose().FindAllString(s, -1) {
		if strings.ContainsAny(run, digits) && strings.ToLower(run) != run && strings.ToUpper(run) != run {
			return true
		}
	}
	return false
}

const digits = "0123456789"
