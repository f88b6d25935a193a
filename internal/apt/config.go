package apt

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

const (
	configFile  = "apt.conf"
	sourcesFile = "debian.sources"
	stampFile   = "updated" // its time is that of the last update
)

// configure makes the root's directories and writes its configuration.
func (r Root) configure(ctx context.Context) error {
	if !filepath.IsAbs(r.Dir) {
		return fmt.Errorf("the directory %q is not an absolute path", r.Dir)
	}
	if !suitePattern.MatchString(r.Suite) {
		return fmt.Errorf("%q is not the name of a suite", r.Suite)
	}
	if u, err := url.Parse(r.Mirror); err != nil || u.Scheme == "" || strings.ContainsAny(r.Mirror, " \t\n") {
		return fmt.Errorf("the mirror %q is not a URI", r.Mirror)
	}
	keyring := r.Keyring
	if keyring == "" {
		var err error
		if keyring, err = Keyring(); err != nil {
			return err
		}
	}
	for _, text := range []string{r.Dir, keyring} {
		if strings.ContainsAny(text, "\"\n;{}") {
			return fmt.Errorf("apt cannot use the path %q", text)
		}
	}
	for _, dir := range []string{"sources", "lists/partial", "archives/partial", "empty"} {
		if err := os.MkdirAll(filepath.Join(r.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	for _, f := range []struct{ name, text string }{
		{"status", ""}, // dpkg's list of installed packages: none
		{filepath.Join("sources", sourcesFile), r.sources(keyring)},
		{configFile, r.config(HostSettings(ctx))},
	} {
		// As a whole: another mayfly may be reading it.
		if err := atomicfile.WriteUnsynced(filepath.Join(r.Dir, f.name), []byte(f.text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r Root) arch() string { return cmp.Or(r.Arch, "amd64") }

func (r Root) sources(keyring string) string {
	return fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: %s\nSigned-By: %s\n",
		r.Mirror, r.Suite, r.arch(), keyring)
}

// config returns the root's apt.conf. Everything that apt would read of the
// host's configuration is redirected; what it needs to reach the mirror was
// copied into settings.
func (r Root) config(settings string) string {
	in := func(name string) string { return filepath.Join(r.Dir, name) }
	var b strings.Builder
	for _, s := range [][2]string{
		{"Dir::State", r.Dir},
		{"Dir::State::lists", in("lists")},
		{"Dir::State::status", in("status")},
		{"Dir::State::extended_states", in("extended_states")},
		{"Dir::Cache", r.Dir},
		{"Dir::Cache::archives", in("archives")},
		{"Dir::Etc::sourcelist", "/dev/null"},
		{"Dir::Etc::sourceparts", in("sources")},
		{"Dir::Etc::main", "/dev/null"},
		{"Dir::Etc::parts", in("empty")},
		{"Dir::Etc::preferences", "/dev/null"},
		{"Dir::Etc::preferencesparts", in("empty")},
		{"Dir::Etc::trusted", "/dev/null"},
		{"Dir::Etc::trustedparts", in("empty")},
		{"APT::Architecture", r.arch()},
		{"APT::Architectures", r.arch()},
		{"APT::Sandbox::User", "root"}, // the user _apt cannot reach our directory
		{"APT::Get::AllowUnauthenticated", "false"},
		{"Acquire::AllowInsecureRepositories", "false"},
		{"Acquire::AllowWeakRepositories", "false"},
		{"Acquire::AllowDowngradeToInsecureRepositories", "false"},
		// A list that could not be fetched is an error, not a warning.
		{"APT::Update::Error-Mode", "any"},
		{"Acquire::Languages", "none"},
		{"Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled", "false"},
		{"Acquire::Retries", "3"},
	} {
		fmt.Fprintf(&b, "%s %q;\n", s[0], s[1])
	}
	return b.String() + settings
}

// hostSetting matches the settings that say how to reach a mirror: proxies,
// time-outs, certificates. None of them weakens the check of signatures; a host
// that does not check dates does so because its mirror is a snapshot.
var hostSetting = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^Acquire::(?:(?i:https?|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date))(?:::[A-Za-z0-9:._/-]+)? "[^"\\]*";$`)
})

// HostSettings returns the host's own settings of that kind, in apt's syntax.
func HostSettings(ctx context.Context) string {
	out, err := output(exec.CommandContext(ctx, "apt-config", "dump"))
	if err != nil {
		return "" // then there is no apt either; update will say so
	}
	return filterSettings(string(out))
}

func filterSettings(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if line = strings.TrimSpace(line); hostSetting().MatchString(line) {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
