package review

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// lockRules are about files of the versions and hashes that installations take.
var lockRules = []rule{
	{id: "lock", class: Builds, reason: takesVersions, paths: lockNames, when: lockVersions},
	{
		id: "lock-deleted", class: Builds, reason: "next install takes the newest versions, unchecked", paths: lockNames, deleted: true,
		when: func(s *subject) []Finding { return is(s.change.New.Kind == None) },
	},
	{id: "lock-source", class: Suspicious, reason: "a package now comes from elsewhere, or with another hash", paths: lockNames, when: lockSources},
	{id: "lock-alone", class: Suspicious, reason: "the lock file changes, though no manifest does", paths: lockNames, when: lockAlone},
}

// lockFormat is how the files of one package manager are read.
type lockFormat struct {
	parse     func([]byte) ([]locked, error)
	manifests []string // beside the lock file, or above
	// resists says that an installation finds out other hashes and sources by itself, so that
	// a change without one of the manifest is a newer version and no more.
	resists bool
}

// lockFormats is by the names of files.
var lockFormats = map[string]lockFormat{
	"package-lock.json":   {parse: npmLock, manifests: []string{"package.json"}},
	"npm-shrinkwrap.json": {parse: npmLock, manifests: []string{"package.json"}},
	"yarn.lock":           {parse: yarnLock, manifests: []string{"package.json", ".yarnrc.yml"}},
	"pnpm-lock.yaml":      {parse: pnpmLock, manifests: []string{"package.json", "pnpm-workspace.yaml"}},
	"composer.lock":       {parse: composerLock, manifests: []string{"composer.json"}},
	"uv.lock":             {parse: pythonLock, manifests: []string{"pyproject.toml"}},
	"poetry.lock":         {parse: pythonLock, manifests: []string{"pyproject.toml"}},
	"pdm.lock":            {parse: pythonLock, manifests: []string{"pyproject.toml"}},
	"pylock.toml":         {parse: pythonLock, manifests: []string{"pyproject.toml", "requirements.txt", "requirements.in"}},
	"pipfile.lock":        {parse: pipfileLock, manifests: []string{"pipfile"}},
	"cargo.lock":          {parse: cargoLock, manifests: []string{"cargo.toml"}, resists: true},
	"go.sum":              {parse: goSum, manifests: []string{"go.mod"}, resists: true},
	"go.work.sum":         {parse: goSum, manifests: []string{"go.work"}, resists: true},
	"gemfile.lock":        {parse: linesLock, manifests: []string{"gemfile"}},
	"mix.lock":            {parse: linesLock, manifests: []string{"mix.exs"}},
	"bun.lock":            {parse: linesLock, manifests: []string{"package.json"}},
}

// locked is one package of a lock file.
type locked struct {
	name, version string
	source        string // address, or "" where it is the registry that all come from
	hash          string
	alias         bool // the package has another name where it comes from
}

func (l locked) key() string { return l.name + "@" + l.version }

// comparison is what differs between two lock files.
type comparison struct {
	format       lockFormat
	err          error
	fresh        bool // there was none
	before       []locked
	added        []locked // versions that are new
	newNames     []string
	gone         int
	bumped       int
	moved        []locked // for the same version another hash or source
	movedReasons []string
}

// lockfile compares the old and the new packages.
func (s *subject) lockfile() *comparison {
	if s.lock != nil {
		return s.lock
	}
	c := &comparison{fresh: s.change.Old.Kind != Regular}
	s.lock = c
	format, known := lockFormats[path.Base(s.folded)]
	if !known {
		format = lockFormat{parse: linesLock, resists: true}
	}
	c.format = format
	read := func(content func() ([]byte, error)) []locked {
		data, err := content()
		var all []locked
		if err == nil && len(data) > 0 {
			all, err = format.parse(data)
		}
		if err != nil && c.err == nil {
			c.err = err
		}
		return all
	}
	old := read(s.old)
	if c.err != nil && !c.fresh {
		// What the host had and cannot be read says nothing: all of the new is new.
		c.err, old = nil, nil
	}
	c.before = old
	c.compare(old, read(s.new))
	return c
}

func (c *comparison) compare(old, fresh []locked) {
	had := map[string]locked{}
	versions := map[string]int{}
	for _, p := range old {
		had[p.key()] = p
		versions[p.name]++
	}
	for _, p := range fresh {
		before, known := had[p.key()]
		switch {
		case !known:
			c.added = append(c.added, p)
			if versions[p.name] == 0 {
				c.newNames = append(c.newNames, p.name)
			}
		default:
			if reason := differs(before, p); reason != "" {
				c.moved, c.movedReasons = append(c.moved, p), append(c.movedReasons, reason)
			}
		}
	}
	names := map[string]bool{}
	for _, p := range fresh {
		names[p.name] = true
	}
	for name := range versions {
		if !names[name] {
			c.gone++
		}
	}
	slices.Sort(c.newNames)
	c.newNames = slices.Compact(c.newNames)
	bumped := map[string]bool{}
	for _, p := range c.added {
		if versions[p.name] > 0 {
			bumped[p.name] = true
		}
	}
	c.bumped = len(bumped)
}

// strengths of hashes, by how they begin.
var strengths = map[string]int{"md5": 1, "sha1": 2, "sha224": 3, "sha256": 4, "sha384": 5, "sha512": 6, "h1": 4}

func strength(hash string) int {
	kind, _, found := strings.Cut(strings.NewReplacer(":", "-", "=", "-").Replace(hash), "-")
	if !found {
		return 0
	}
	return strengths[strings.ToLower(kind)]
}

// differs returns why a package of the same name and version is not the same.
func differs(before, now locked) string {
	switch {
	case before.hash != "" && now.hash == "":
		return "hash of the package is gone"
	case before.hash != "" && now.hash != before.hash && strength(now.hash) <= strength(before.hash):
		return "another hash for the same version of the package"
	case now.source != before.source && now.source != "" && before.source != "" && (place(now.source) != place(before.source) || isGit(now.source)):
		return "package comes from another place than before"
	case now.source != before.source && isGit(now.source) != isGit(before.source):
		return "package comes from another place than before"
	case before.source == "" && now.source != "":
		return namesSource
	case now.alias && !before.alias:
		return "another package is taken under this name"
	}
	return ""
}

// namesSource is only worth a question where no other package comes from there.
const namesSource = "package comes from another place than the registry"

// place returns the scheme and server of an address, as far as there are some.
func place(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return source
	}
	if u.Host == "" {
		return u.Scheme + ":" // a file, or a directory
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

func isGit(source string) bool {
	return strings.HasPrefix(source, "git") || strings.HasPrefix(source, "ssh:") || strings.HasPrefix(source, "hg+") || strings.Contains(source, ".git#") || strings.HasSuffix(source, ".git")
}

// lockVersions says what an installation takes from now on.
func lockVersions(s *subject) []Finding {
	c := s.lockfile()
	if s.change.New.Kind != Regular || !s.contentChanged() {
		return nil
	}
	detail := fmt.Sprintf("+%d −%d ~%d packages", len(c.newNames), c.gone, c.bumped)
	if len(c.newNames) > 0 && !c.fresh {
		detail += ": new " + strings.Join(c.newNames[:min(len(c.newNames), 8)], ", ")
	}
	return []Finding{{Detail: bounded(detail)}}
}

// lockSources looks for packages that come from elsewhere than the others.
func lockSources(s *subject) []Finding {
	c := s.lockfile()
	if c.err != nil {
		return []Finding{{Class: Suspicious, Reason: "a lock file that cannot be read", Detail: bounded(c.err.Error())}}
	}
	var found []Finding
	add := func(p locked, reason string) {
		if len(found) < mostFindings {
			found = append(found, Finding{Class: Suspicious, Reason: reason, Key: bounded(p.key()), Detail: bounded(p.source)})
		}
	}
	places, hashed := usual(c)
	for i, p := range c.moved {
		if c.movedReasons[i] != namesSource || !places[place(p.source)] {
			add(p, c.movedReasons[i])
		}
	}
	for _, p := range c.added {
		switch where := place(p.source); {
		case p.alias:
			add(p, "another package is taken under this name")
		case p.source == "":
			if hashed && p.hash == "" {
				add(p, "hash of the package is gone")
			}
		case strings.HasPrefix(where, "http:"):
			add(p, "package comes over a connection that is not checked")
		case isGit(p.source) && !places[where]:
			add(p, otherSource)
		case where == "file:" || where == ":":
			if _, inside := s.set.resolve(path.Dir(s.change.Path), strings.TrimPrefix(p.source, "file:"), mostLinks); !inside {
				add(p, leadsOut)
			}
		case !places[where]:
			add(p, "package comes from a server that no other came from")
		case hashed && p.hash == "":
			add(p, "hash of the package is gone")
		}
	}
	return found
}

// usual returns where packages came from before, and whether they have hashes. Of a file
// that is new it is where most come from.
func usual(c *comparison) (places map[string]bool, hashed bool) {
	places = map[string]bool{}
	counts, hashes := map[string]int{}, 0
	all := c.before
	if len(all) == 0 {
		all = c.added
	}
	for _, p := range all {
		if p.source != "" {
			counts[place(p.source)]++
		}
		if p.hash != "" {
			hashes++
		}
	}
	most := ""
	for where, n := range counts {
		if len(c.before) > 0 && !strings.HasPrefix(where, "http:") {
			places[where] = true
		}
		if n > counts[most] || n == counts[most] && where < most {
			most = where
		}
	}
	if most != "" && !isGit(most) {
		places[most] = true
	}
	return places, hashes > 0 && hashes*2 > len(all)
}

// lockAlone is about a lock file that changes by itself.
func lockAlone(s *subject) []Finding {
	c := s.lockfile()
	if c.fresh || c.format.resists || len(c.added)+len(c.moved)+c.gone == 0 {
		return nil
	}
	for i := range s.set.in.Changes {
		change := &s.set.in.Changes[i]
		if change.New.Kind != None && slices.Contains(c.format.manifests, fold(path.Base(change.Path))) {
			return nil
		}
	}
	return []Finding{{}}
}
