package review

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// The parsers of lock files. Each is first read as settings, which bounds depth and number
// and refuses what two programs would read differently.

// lockKeys are the keys that the parsers look for.
var lockKeys = []string{"packages", "packages-dev", "package", "dependencies", "version", "resolved", "integrity", "name", "link", "bundled", "inbundle", "source", "dist", "type", "url",
	"reference", "shasum", "sdist", "wheels", "files", "hash", "hashes", "file", "index", "checksum", "path"}

// exact refuses files with keys that differ from those only in case: package managers
// pass them over, where decoders of Go take them for the same.
func exact(f settings.Format, data []byte) error {
	file, err := settings.Parse(f, data)
	if err != nil {
		return err
	}
	for _, e := range file.Entries() {
		for _, key := range e.Path {
			if low := strings.ToLower(key); low != key && slices.Contains(lockKeys, low) && key != "inBundle" {
				return fmt.Errorf("line %d: the key %q is not written so", e.Line, key)
			}
		}
	}
	return nil
}

func npmLock(data []byte) ([]locked, error) {
	type dependency struct {
		Version, Resolved, Integrity, Name string
		Link, Bundled, InBundle            bool
		Dependencies                       map[string]json.RawMessage
	}
	var file struct {
		Packages     map[string]dependency
		Dependencies map[string]json.RawMessage
	}
	if err := exact(settings.JSON, data); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var all []locked
	add := func(name string, d dependency) {
		if d.Link || d.Bundled || d.InBundle {
			if d.Link {
				all = append(all, locked{name: name, version: "link", source: "file:" + d.Resolved})
			}
			return
		}
		l := locked{name: name, version: d.Version, source: d.Resolved, hash: d.Integrity, alias: d.Name != "" && d.Name != name}
		if strings.HasPrefix(d.Version, "npm:") {
			l.alias = true
		}
		if strings.Contains(d.Version, ":") && l.source == "" {
			l.source = d.Version
		}
		all = append(all, l)
	}
	for at, d := range file.Packages {
		i := strings.LastIndex(at, "node_modules/")
		if i < 0 {
			continue // the project itself, and those of its workspace
		}
		add(at[i+len("node_modules/"):], d)
	}
	if len(file.Packages) > 0 {
		return all, nil
	}
	var walk func(map[string]json.RawMessage) error
	walk = func(deps map[string]json.RawMessage) error {
		for name, raw := range deps {
			var d dependency
			if err := json.Unmarshal(raw, &d); err != nil {
				return err
			}
			add(name, d)
			if err := walk(d.Dependencies); err != nil {
				return err
			}
		}
		return nil
	}
	return all, walk(file.Dependencies)
}

// yarnLock reads the formats of yarn 1 and of later ones by lines: they begin entries alike.
func yarnLock(data []byte) ([]locked, error) {
	var all []locked
	var now locked
	open := false
	flush := func() {
		if open && now.name != "__metadata" {
			all = append(all, now)
		}
		open = false
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if line[0] != ' ' {
			if !strings.HasSuffix(trimmed, ":") {
				return nil, errors.New("an entry without its colon")
			}
			flush()
			spec, _, _ := strings.Cut(strings.TrimSuffix(trimmed, ":"), ", ")
			spec = strings.Trim(spec, `"`)
			at := strings.LastIndex(spec[min(len(spec), 1):], "@") + 1
			if i := strings.Index(spec[min(len(spec), 1):], "@npm:"); i >= 0 {
				at = i + 1
			} else if i := strings.Index(spec[min(len(spec), 1):], "@"); i >= 0 {
				at = i + 1
			}
			now, open = locked{name: spec}, true
			if at > 0 {
				now.name = spec[:at]
				// "@npm:" alone names the registry; with a name after it, another package.
				rest := strings.TrimPrefix(spec[at:], "@npm:")
				now.alias = rest != spec[at:] && strings.Contains(strings.TrimPrefix(rest, "@"), "@")
			}
			continue
		}
		key, value, _ := strings.Cut(trimmed, " ")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if indent := len(line) - len(strings.TrimLeft(line, " ")); !open || indent > 2 {
			continue
		}
		switch strings.TrimSuffix(key, ":") {
		case "version":
			now.version = value
		case "resolved":
			now.source, now.hash = cutHash(value, now.hash)
		case "integrity":
			now.hash = value
		case "checksum":
			now.hash = "sha512-" + value
		case "resolution":
			if _, from, is := strings.Cut(value[min(1, len(value)):], "@"); is && !strings.HasPrefix(from, "npm:") && !strings.HasPrefix(from, "workspace:") && !strings.HasPrefix(from, "patch:") {
				now.source = from
			}
			if strings.Contains(value, "@workspace:") {
				open = false
			}
		}
	}
	flush()
	return all, nil
}

// cutHash returns an address without the hash after its "#".
func cutHash(address, hash string) (string, string) {
	before, sum, is := strings.Cut(address, "#")
	if !is || isGit(address) {
		return address, hash
	}
	if hash == "" {
		hash = "sha1-" + sum
	}
	return before, hash
}

func pnpmLock(data []byte) ([]locked, error) {
	file, err := settings.Parse(settings.YAML, data)
	if err != nil {
		return nil, err
	}
	var all []locked
	index := map[string]int{}
	for _, e := range file.Entries() {
		if len(e.Path) < 4 || e.Path[0] != "packages" || e.Path[2] != "resolution" {
			continue
		}
		at, known := index[e.Path[1]]
		if !known {
			at = len(all)
			index[e.Path[1]] = at
			name, version := strings.TrimPrefix(e.Path[1], "/"), ""
			if i := strings.LastIndexByte(name, '@'); i > 0 {
				name, version = name[:i], name[i+1:]
			}
			all = append(all, locked{name: name, version: version})
		}
		switch e.Path[3] {
		case "integrity":
			all[at].hash = e.Value
		case "tarball", "repo", "directory":
			all[at].source = e.Value
			if e.Path[3] == "repo" {
				all[at].source = "git+" + e.Value
			} else if e.Path[3] == "directory" {
				all[at].source = "file:" + e.Value
			}
		}
	}
	return all, nil
}

func composerLock(data []byte) ([]locked, error) {
	type from struct{ Type, URL, Reference, Shasum string }
	type entry struct {
		Name, Version string
		Source, Dist  from
	}
	var file struct {
		Packages []entry
		Dev      []entry `json:"packages-dev"`
	}
	if err := exact(settings.JSON, data); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var all []locked
	for _, p := range append(file.Packages, file.Dev...) {
		// Both are addresses that an installation may take; the commit is in each.
		all = append(all, locked{name: p.Name, version: p.Version, source: p.Dist.URL, hash: joined("commit", p.Dist.Reference) + joined(" sha1", p.Dist.Shasum)},
			locked{name: p.Name + " (source)", version: p.Version, source: strings.TrimSuffix(p.Source.URL, ".git"), hash: joined("commit", p.Source.Reference)})
	}
	return all, nil
}

func joined(kind, value string) string {
	if value == "" {
		return ""
	}
	return kind + "-" + value
}

func pythonLock(data []byte) ([]locked, error) {
	type file struct {
		URL, Path, Hash, File string
		Hashes                map[string]string
	}
	var lock struct {
		Package []struct {
			Name, Version string
			Source        map[string]any
			Sdist         file
			Wheels, Files []file
			Index         string
		}
		Packages []struct {
			Name, Version, Index string
			Sdist                file
			Wheels               []file
		}
	}
	if err := exact(settings.TOML, data); err != nil {
		return nil, err
	}
	if err := toml.Unmarshal(data, &lock); err != nil {
		return nil, err
	}
	var all []locked
	files := func(name, version string, list []file) {
		for _, f := range list {
			hash := f.Hash
			for kind, sum := range f.Hashes {
				hash = kind + ":" + sum
			}
			if f.File != "" && f.URL == "" {
				all = append(all, locked{name: name, version: version + " " + f.File, hash: hash})
			} else if f.URL != "" {
				all = append(all, locked{name: name, version: version + " " + f.URL[strings.LastIndexByte(f.URL, '/')+1:], source: f.URL, hash: hash})
			}
		}
	}
	for _, p := range lock.Package {
		for _, kind := range []string{"git", "url", "registry", "path", "directory", "index"} {
			if where, is := p.Source[kind].(string); is {
				if kind == "git" {
					where = "git+" + where
				} else if kind == "path" || kind == "directory" {
					where = "file:" + where
				}
				if t, _ := p.Source["type"].(string); t == "git" {
					where = "git+" + where
				} else if t == "directory" || t == "file" {
					where = "file:" + where
				}
				all = append(all, locked{name: p.Name + " (" + kind + ")", version: p.Version, source: where, hash: "none"})
			}
		}
		files(p.Name, p.Version, append(append(p.Wheels, p.Files...), p.Sdist))
	}
	for _, p := range lock.Packages {
		if p.Index != "" {
			all = append(all, locked{name: p.Name + " (index)", version: p.Version, source: p.Index, hash: "none"})
		}
		files(p.Name, p.Version, append(p.Wheels, p.Sdist))
	}
	return all, nil
}

func pipfileLock(data []byte) ([]locked, error) {
	file, err := settings.Parse(settings.JSON, data)
	if err != nil {
		return nil, err
	}
	var all []locked
	for _, e := range file.Entries() {
		if len(e.Path) == 0 {
			return nil, errors.New("it is one value")
		}
		last := e.Path[len(e.Path)-1]
		switch {
		case e.Path[0] == "_meta":
			if last == "url" {
				all = append(all, locked{name: "(source)", version: e.Value, source: e.Value, hash: "none"})
			}
		case len(e.Path) > 2 && (last == "git" || last == "file" || last == "path"):
			all = append(all, locked{name: e.Path[1], version: e.Value, source: "git+" + e.Value, hash: "none"})
		case len(e.Path) > 2 && last == "version":
			all = append(all, locked{name: e.Path[1], version: e.Value, hash: "none"})
		}
	}
	return all, nil
}

func cargoLock(data []byte) ([]locked, error) {
	var file struct {
		Package []struct{ Name, Version, Source, Checksum string }
	}
	if err := exact(settings.TOML, data); err != nil {
		return nil, err
	}
	if err := toml.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var all []locked
	for _, p := range file.Package {
		if p.Source == "" {
			continue // of the workspace
		}
		source := strings.TrimPrefix(strings.TrimPrefix(p.Source, "registry+"), "sparse+")
		l := locked{name: p.Name, version: p.Version, source: source, hash: joined("sha256", p.Checksum)}
		if isGit(source) {
			l.hash = "none"
		}
		all = append(all, l)
	}
	return all, nil
}

func goSum(data []byte) ([]locked, error) {
	var all []locked
	n := 0
	for line := range bytes.Lines(data) {
		n++
		words := strings.Fields(string(line))
		switch {
		case len(words) == 0:
		case len(words) != 3:
			return nil, fmt.Errorf("line %d is not a module, a version and a hash", n)
		default:
			all = append(all, locked{name: words[0], version: words[1], hash: words[2]})
		}
	}
	return all, nil
}

var anyAddress = expression(`(?:git\+|git@)?[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>,)\]}#]+`)

// linesLock reads what is known of no format: the addresses, and the lines that name versions.
func linesLock(data []byte) ([]locked, error) {
	var all []locked
	for line := range bytes.Lines(data) {
		for _, address := range anyAddress().FindAll(line, -1) {
			l := locked{name: place(string(address)), source: string(address), hash: "none"}
			if isGit(l.source) {
				l.version = l.source
			}
			all = append(all, l)
		}
		if words := strings.Fields(string(line)); len(words) > 1 && !bytes.Contains(line, []byte("://")) {
			all = append(all, locked{name: strings.Trim(words[0], `":,{[`), version: strings.Trim(words[1], `":,()`), hash: "none"})
		}
	}
	return all, nil
}
