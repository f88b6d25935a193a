package credential

import (
	"regexp"
	"sync"
)

// Named reports whether a name of a header, a parameter or a variable is such as those of
// credentials have.
func Named(name string) bool { return words().MatchString(name) }

// words are in names of what is a credential. Short ones stand alone.
var words = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)key|token|auth|secret|credential|passw|passphrase|cookie|signature|bearer|assertion|jwt|login` +
		`|(?:^|[^a-z])(?:sig|pwd|pass|pw|pin|otp|sid|sas|hmac|ticket)(?:[^a-z]|$)`)
})
