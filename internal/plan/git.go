package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/host"
)

// Variables that set git's settings over those of every file, git-config(1).
const (
	gitConfigCount = "GIT_CONFIG_COUNT"
	gitConfigKey   = "GIT_CONFIG_KEY_"
	gitConfigValue = "GIT_CONFIG_VALUE_"
)

// maxGitConfig bounds the settings in the user's own variables.
const maxGitConfig = 1000

// git gives the machine the identity of the host's git, and lets git commit there where it
// would sign on the host: keys stay on the host, and a repository's own settings win over
// those for all users.
func (b *builder) git(g host.Git) {
	guest := &b.plan.Guest
	if b.cfg.Git.Identity {
		guest.Git = maps.Clone(g.Identity)
	}
	count := 0
	if text, ok := guest.Env[gitConfigCount]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxGitConfig {
			return // git says what is wrong with it
		}
		count = n
	}
	said := make(map[string]bool) // by the user, in whose variables the last holds, too
	for i := range count {
		said[strings.ToLower(guest.Env[gitConfigKey+strconv.Itoa(i)])] = true
	}
	for _, key := range g.Signs {
		if said[key] {
			continue
		}
		if guest.Env == nil {
			guest.Env = make(map[string]string)
		}
		guest.Env[gitConfigKey+strconv.Itoa(count)] = key
		guest.Env[gitConfigValue+strconv.Itoa(count)] = "false"
		count++
		guest.Unsigned = append(guest.Unsigned, key)
	}
	if len(guest.Unsigned) > 0 {
		guest.Env[gitConfigCount] = strconv.Itoa(count)
	}
	slices.Sort(guest.Unsigned)
}
