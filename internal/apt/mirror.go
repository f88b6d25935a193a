package apt

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mirrors are the places of the Debian archive that someone's apt sources name.
// A field is empty when they name none, as Ubuntu's.
type Mirrors struct {
	Archive  string // …/debian
	Security string // …/debian-security
}

// HostDir is where the host's apt has its sources.
const HostDir = "/etc/apt"

// ReadMirrors reads the mirrors out of the apt sources in a directory, such as
// HostDir.
func ReadMirrors(dir string) Mirrors {
	var sources []source
	if b, err := os.ReadFile(filepath.Join(dir, "sources.list")); err == nil {
		sources = append(sources, parseList(string(b))...)
	}
	// The order is that of apt: by name. A file that cannot be read is one that
	// this user's apt would not read either.
	files, err := filepath.Glob(filepath.Join(dir, "sources.list.d", "*"))
	if err != nil {
		files = nil
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		switch filepath.Ext(path) {
		case ".list":
			sources = append(sources, parseList(string(b))...)
		case ".sources":
			sources = append(sources, parseSources(string(b))...)
		}
	}
	return findMirrors(sources)
}

// ParseMirrors reads the mirrors out of the text of apt sources in either
// format. What is written in one format means nothing in the other.
func ParseMirrors(text string) Mirrors {
	return findMirrors(append(parseList(text), parseSources(text)...))
}

// source is what matters of an entry in apt's sources.
type source struct {
	types      []string
	uris       []string
	suites     []string
	components []string
	signedBy   string
}

// debianSuites are the names of Debian's own suites. Another distribution's
// archive has none of them.
var debianSuites = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke", "sid",
	"oldoldstable", "oldstable", "stable", "testing", "unstable",
}

// findMirrors chooses among the entries. Someone else's archive may have suites
// that are named after Debian's, so an entry must have the component main, not
// be signed by other keys, and a path that ends in /debian wins. A wrong choice
// cannot do harm: only Debian's signature is accepted.
func findMirrors(sources []source) Mirrors {
	var archive, security []string
	for _, s := range sources {
		ours := s.signedBy == "" || strings.Contains(s.signedBy, "debian-archive") || strings.Contains(s.signedBy, "BEGIN PGP")
		if !ours || !slices.Contains(s.types, "deb") || !slices.Contains(s.components, "main") {
			continue
		}
		for _, suite := range s.suites {
			base, kind, _ := strings.Cut(suite, "-")
			base, slash, _ := strings.Cut(base, "/") // buster/updates, before -security
			if !slices.Contains(debianSuites, base) {
				continue
			}
			switch {
			case kind == "security" || slash != "":
				security = append(security, s.uris...)
			case kind == "" || kind == "updates" || kind == "backports":
				archive = append(archive, s.uris...)
			}
		}
	}
	return Mirrors{Archive: best(archive, "debian"), Security: best(security, "debian-security")}
}

// best returns the first URI whose path ends in name, else the first.
func best(uris []string, name string) string {
	uris = slices.DeleteFunc(uris, func(s string) bool {
		u, err := url.Parse(s)
		return err != nil || !slices.Contains([]string{"http", "https", "file", "mirror", "mirror+http", "mirror+https", "mirror+file", "tor+http", "tor+https"}, u.Scheme)
	})
	for i, u := range uris {
		uris[i] = strings.TrimRight(u, "/")
	}
	if i := slices.IndexFunc(uris, func(u string) bool { return strings.HasSuffix(u, "/"+name) }); i >= 0 {
		return uris[i]
	}
	if len(uris) == 0 {
		return ""
	}
	return uris[0]
}

// parseList reads the one-line format of sources.list(5):
//
//	deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] URI SUITE COMPONENT…
func parseList(text string) []source {
	var sources []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		s := source{types: fields[:1]}
		fields = fields[1:]
		if len(fields) > 0 && strings.HasPrefix(fields[0], "[") {
			end := slices.IndexFunc(fields, func(f string) bool { return strings.HasSuffix(f, "]") })
			if end < 0 {
				continue
			}
			for _, option := range fields[:end+1] {
				key, value, _ := strings.Cut(strings.Trim(option, "[]"), "=")
				if strings.EqualFold(key, "signed-by") {
					s.signedBy = value
				}
			}
			fields = fields[end+1:]
		}
		if len(fields) < 2 {
			continue
		}
		s.uris, s.suites, s.components = fields[:1], fields[1:2], fields[2:]
		sources = append(sources, s)
	}
	return sources
}

// parseSources reads the deb822 format of sources.list(5): stanzas of fields,
// separated by empty lines.
func parseSources(text string) []source {
	var sources []source
	fields := make(map[string]string)
	last := ""
	end := func() {
		if len(fields) > 0 && !strings.EqualFold(strings.TrimSpace(fields["enabled"]), "no") {
			sources = append(sources, source{
				types:      strings.Fields(fields["types"]),
				uris:       strings.Fields(fields["uris"]),
				suites:     strings.Fields(fields["suites"]),
				components: strings.Fields(fields["components"]),
				signedBy:   strings.TrimSpace(fields["signed-by"]),
			})
		}
		fields, last = make(map[string]string), ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
			// A comment does not end a stanza.
		case line == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += "\n" + line
			}
		default:
			key, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(key))
			fields[last] = value
		}
	}
	end()
	return sources
}
