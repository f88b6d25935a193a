package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/suggest"
)

// Profile is a built-in profile: what it adds to an image, and what its programs
// have to reach.
type Profile struct {
	Name     string
	Packages []string
	Agents   []string
	Prewarm  []string
	Presets  []string // of the network
	Shell    string   // of the user; "" for none that it asks for
	Init     string   // of the image; "" for none that it asks for
}

// Profiles returns the built-in profiles, sorted by name.
func Profiles() []Profile {
	golang := []string{"golang-go", "gopls", "delve", "make", "gcc", "git", "ripgrep"}
	p := []Profile{
		{Name: "c", Packages: []string{"gcc", "g++", "make", "cmake", "meson", "ninja-build", "pkgconf", "gdb", "git", "ripgrep"}},
		{Name: "docker", Packages: []string{"docker.io", "docker-cli", "docker-buildx", "docker-compose", "git", "ripgrep"}, Init: "systemd"},
		{Name: "emacs", Packages: []string{"emacs-nox"}},
		{Name: "go", Packages: golang, Presets: []string{"go"}},
		{Name: "go-protobuf", Packages: append(slices.Clone(golang), "protobuf-compiler"), Presets: []string{"go"}},
		{Name: "node", Packages: []string{"nodejs", "npm", "git", "ripgrep"}, Presets: []string{"npm"}},
		{Name: "python", Packages: []string{"python3", "python3-venv", "python3-pip", "git", "ripgrep"}, Presets: []string{"pypi"}},
		{Name: "rust", Packages: []string{"cargo", "rustc", "rustfmt", "rust-clippy", "gcc", "git", "ripgrep"}, Presets: []string{"crates"}},
		{Name: "zsh", Packages: []string{"zsh"}, Shell: "zsh"},
	}
	for _, a := range codingagent.Agents() {
		profile := Profile{Name: a.Name, Agents: []string{a.Name}, Presets: []string{a.Name}}
		if a.Prewarm != "" {
			profile.Prewarm = []string{a.Prewarm}
		}
		p = append(p, profile)
	}
	slices.SortFunc(p, func(a, b Profile) int { return strings.Compare(a.Name, b.Name) })
	return p
}

// loadProfile returns the settings of a profile: the user's own of that name,
// else the built-in one. from is where it was asked for.
func loadProfile(dir, name string, from origin) ([]setting, []*Error) {
	at := setting{origin: from, key: "profiles"}
	if !naming.ValidProfile(name) { // also keeps the path below inside dir
		return nil, []*Error{at.errorf("%s is not a profile's name: lower-case letters, digits and hyphens only", shortQuote(name))}
	}
	if dir != "" {
		f, err := ReadFile(filepath.Join(dir, name+".toml"))
		if err == nil {
			return parseProfile(f)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, []*Error{at.errorf("profile %q: %v", name, err)}
		}
	}
	builtin := Profiles()
	i := slices.IndexFunc(builtin, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return nil, []*Error{unknownProfile(at, dir, name)}
	}
	here := origin{name: "built-in profile " + name}
	settings := []setting{
		{here, "image.packages", builtin[i].Packages},
		{here, "image.agents", builtin[i].Agents},
		{here, "image.prewarm", builtin[i].Prewarm},
		{here, "network.presets", builtin[i].Presets},
	}
	if shell := builtin[i].Shell; shell != "" {
		settings = append(settings, setting{here, "home.shell", shell})
	}
	if init := builtin[i].Init; init != "" {
		settings = append(settings, setting{here, "image.init", init})
	}
	return settings, nil
}

func parseProfile(f File) ([]setting, []*Error) {
	settings, errs := parse(f)
	for _, s := range settings {
		if s.key == "profiles" {
			errs = append(errs, s.errorf("a profile cannot name other profiles"))
		}
	}
	return settings, errs
}

// unknownProfile lists what there is, the user's own profiles included.
func unknownProfile(at setting, dir, name string) *Error {
	var names []string
	for _, p := range Profiles() {
		names = append(names, p.Name)
	}
	if entries, err := os.ReadDir(dir); dir != "" && err == nil {
		for _, e := range entries {
			if own, ok := strings.CutSuffix(e.Name(), ".toml"); ok && naming.ValidProfile(own) {
				names = append(names, own)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	e := at.errorf("no profile %q; there is %s", name, strings.Join(names, ", "))
	if dir != "" {
		e.Msg += fmt.Sprintf("; your own would be %s", filepath.Join(dir, name+".toml"))
	}
	e.Suggestion = suggest.Nearest(name, names)
	return e
}
