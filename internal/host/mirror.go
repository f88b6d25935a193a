package host

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/apt"
)

// Mirror is a place from which this host gets packages, as its package managers
// are configured. A machine whose network has the preset gets them from there.
type Mirror struct {
	Preset string `json:"preset"` // "apt", "crates", "go", "npm" or "pypi"

	// URL is without a user and a password. It and the host are empty for a
	// preset that only has variables, such as GOPROXY=direct.
	URL  string `json:"url,omitempty"`
	Host string `json:"host,omitempty"` // a name in lower case, or an address
	Port int    `json:"port,omitempty"`

	// Addrs are the host's addresses, once ResolveMirrors has looked.
	Addrs []string `json:"addrs,omitempty"`

	// Env are the variables with which a machine's package manager uses what
	// this host's does. Among the mirrors of a preset one has them.
	Env map[string]string `json:"env,omitempty"`
}

// probeMirrors reads the configurations of this host's package managers. It
// starts none of them and looks up no name: that is for those who need the
// answer, in ResolveMirrors.
func probeMirrors(o Options) []Mirror {
	debian := apt.ReadMirrors(o.path(apt.HostDir)) // as for images
	return slices.Concat(
		mirrors("apt", nil, debian.Archive, debian.Security),
		cargoMirrors(o),
		goMirrors(o),
		npmMirrors(o),
		pipMirrors(o),
	)
}

// mirrors returns the places at these URLs, each host and port once, and gives
// env to the first. What is no URL of the web is left out.
func mirrors(preset string, env map[string]string, urls ...string) []Mirror {
	var list []Mirror
	for _, raw := range urls {
		m, ok := newMirror(preset, raw)
		same := func(n Mirror) bool { return n.Host == m.Host && n.Port == m.Port }
		if ok && !slices.ContainsFunc(list, same) {
			list = append(list, m)
		}
	}
	if len(env) > 0 {
		if len(list) == 0 {
			list = []Mirror{{Preset: preset}}
		}
		list[0].Env = env
	}
	return list
}

func newMirror(preset, raw string) (Mirror, bool) {
	u, ok := webURL(raw)
	if !ok {
		return Mirror{}, false
	}
	m := Mirror{Preset: preset, URL: u.String(), Host: strings.TrimSuffix(u.Hostname(), "."), Port: 443}
	if u.Scheme == "http" {
		m.Port = 80
	}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return Mirror{}, false
		}
		m.Port = int(port)
	}
	return m, true
}

// webURL parses a URL of HTTP or HTTPS, also behind the prefix of cargo's sparse
// indexes. A user, a password and a query, which may hold a token, are taken out.
func webURL(raw string) (*url.URL, bool) {
	u, err := url.Parse(strings.TrimPrefix(raw, "sparse+"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) {
		return nil, false
	}
	u.Host = strings.ToLower(u.Host)
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return u, true
}

func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	return host != "" && len(host) <= 253 &&
		strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// cleanURL returns a URL without what is secret in it, and "" for what is none of
// the web's.
func cleanURL(raw string) string {
	u, ok := webURL(raw)
	if !ok {
		return ""
	}
	return u.String()
}

// resolveTimeout bounds ResolveMirrors: it is on the way to a machine.
const resolveTimeout = 2 * time.Second

// ResolveMirrors returns the mirrors of f with what takes too long for a probe,
// for those presets alone: the addresses of their hosts, and for npm the
// registry that is built in where none is configured. What is not found out in
// two seconds is left out.
func ResolveMirrors(ctx context.Context, o Options, f Facts, presets []string) []Mirror {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	list := slices.Clone(f.Mirrors)
	isNpm := func(m Mirror) bool { return m.Preset == "npm" && m.Host != "" }
	if slices.Contains(presets, "npm") && !slices.ContainsFunc(list, isNpm) {
		list = append(list, o.askNpm(ctx, f.Npm.Path)...)
	}
	lookup := func(host string) ([]netip.Addr, error) { return net.DefaultResolver.LookupNetIP(ctx, "ip", host) }
	return resolve(list, presets, lookup)
}

// resolve sets the addresses of the mirrors of the presets, in place.
func resolve(list []Mirror, presets []string, lookup func(host string) ([]netip.Addr, error)) []Mirror {
	addrs := make(map[string]*[]string)
	var lookups sync.WaitGroup
	for _, m := range list {
		if m.Host == "" || !slices.Contains(presets, m.Preset) || addrs[m.Host] != nil {
			continue
		}
		found := new([]string)
		addrs[m.Host] = found
		lookups.Go(func() { *found = lookUp(m.Host, lookup) })
	}
	lookups.Wait()
	for i, m := range list {
		if found := addrs[m.Host]; found != nil && slices.Contains(presets, m.Preset) {
			list[i].Addrs = *found
		}
	}
	return list
}

func lookUp(host string, lookup func(host string) ([]netip.Addr, error)) []string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []string{addr.Unmap().String()}
	}
	found, err := lookup(host)
	if err != nil {
		return nil // whoever has no network now may have one when it matters
	}
	var texts []string
	for _, addr := range found {
		texts = append(texts, addr.Unmap().WithZone("").String())
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// knownNpmFile is where npm's answer is kept, in the cache directory.
const knownNpmFile = "npm.json"

// knownNpm is what an npm said, and which file that was.
type knownNpm struct {
	Registry string `json:"registry"`
	File     fileID `json:"file"`
}

// askNpm returns the registry that npm uses. It takes npm some hundred
// milliseconds to say, so the answer is kept for as long as npm is the same.
func (o Options) askNpm(ctx context.Context, path string) []Mirror {
	var st syscall.Stat_t
	if path == "" || syscall.Stat(path, &st) != nil {
		return nil
	}
	file := fileID{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
	name := ""
	if o.Dirs.Cache != "" {
		name = filepath.Join(o.Dirs.Cache, knownNpmFile)
	}
	var known knownNpm
	if data, err := os.ReadFile(name); err == nil && !o.Fresh && json.Unmarshal(data, &known) == nil && known.File == file {
		return npmRegistry(known.Registry)
	}
	cmd := exec.CommandContext(ctx, path, "config", "get", "registry")
	cmd.Dir = "/" // in a project, npm would read the project's own file
	cmd.WaitDelay = 100 * time.Millisecond
	out, err := cmd.Output()
	registry := cleanURL(strings.TrimSpace(string(out)))
	if err != nil || registry == "" {
		return nil
	}
	if data, err := json.Marshal(knownNpm{registry, file}); err == nil && name != "" {
		o.remember(name, data)
	}
	return npmRegistry(registry)
}

func npmRegistry(registry string) []Mirror {
	return mirrors("npm", map[string]string{"npm_config_registry": registry}, registry)
}

// withoutEmpty returns the variables that have a value, nil for none.
func withoutEmpty(env map[string]string) map[string]string {
	maps.DeleteFunc(env, func(_, value string) bool { return value == "" || !printable(value) })
	if len(env) == 0 {
		return nil
	}
	return env
}

// printable reports whether a value can be shown and put into an environment.
func printable(s string) bool {
	return len(s) <= 4096 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
