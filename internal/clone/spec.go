package clone

import (
	"errors"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Bounds of what a user gives.
const (
	maxURL = 2048
	maxRef = 255
)

// Spec says what to clone.
type Spec struct {
	URL string // "https://host/project.git", "git@host:project.git", "/srv/project"
	Ref string // branch, tag or commit; "" for the repository's default branch
}

// kind is how a repository is reached.
type kind int

const (
	byURL  kind = iota // https, http, ssh, git
	bySSH              // user@host:path
	byPath             // a directory of this computer, or file://
)

// ParseSpec parses URL[@REF]. The reference begins after the last "@" of the
// path, unless a slash is before it: the "@" of "git@host:project" and of
// "https://host/@scope/project" is the URL's own. A URL that has another "@" in
// its path is written with "@HEAD" behind it.
func ParseSpec(s string) (Spec, error) {
	spec := Spec{URL: s}
	if i := strings.LastIndexByte(s, '@'); i > pathStart(s) && s[i-1] != '/' {
		spec = Spec{URL: s[:i], Ref: s[i+1:]}
		if spec.Ref == "" {
			return Spec{}, fault.New(fault.ReferenceEmpty, fault.Args{"url": redact(s)}, "%s: there is nothing behind the last @", redact(s))
		}
	}
	return spec, spec.check()
}

// Public returns the URL as it may be shown and written down: without a password,
// and without a user, who may be a token, unless it is ssh's.
func (s Spec) Public() string {
	if s.kind() != byURL {
		return s.URL
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return redact(s.URL)
	}
	if u.Scheme == "ssh" && u.User.Username() != "" {
		u.User = url.User(u.User.Username()) // who logs in is no secret
	} else {
		u.User = nil
	}
	return u.String()
}

// Name returns the name that the clone's directory is to have, as git chooses it:
// the last part of the path, without ".git". It is "" when that is not fit to be
// one.
func (s Spec) Name() string {
	name := strings.TrimRight(s.URL[pathStart(s.URL):], "/")
	name = strings.TrimRight(strings.TrimSuffix(name, "/.git"), "/")
	if i := strings.LastIndexAny(name, "/:"); i >= 0 {
		name = name[i+1:]
	}
	name = strings.TrimSuffix(name, ".git")
	if name == "" || len(name) > maxRef || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") || !termsafe.Is(name) {
		return ""
	}
	return name
}

// pathStart returns where the path of a URL begins, and its length when it has
// none.
func pathStart(s string) int {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return len(s) - len(rest) + i
		}
		return len(s)
	}
	if host, _, ok := cutHost(s); ok {
		return len(host) + 1
	}
	return 0
}

// cutHost cuts user@host:path, as git does: the first colon is before any slash.
// An IPv6 address is in brackets.
func cutHost(s string) (host, path string, ok bool) {
	colon := strings.IndexByte(s, ':')
	if open := strings.IndexByte(s, '['); open >= 0 && open < colon {
		end := strings.Index(s, "]:")
		if end < 0 {
			return "", "", false
		}
		colon = end + 1
	}
	if colon < 0 || strings.Contains(s[:colon], "/") {
		return "", "", false
	}
	return s[:colon], s[colon+1:], true
}

// helper is how git names the program that is to fetch a URL: ext::sh -c ….
var helper = regexp.MustCompile(`^[A-Za-z0-9+.-]*::`)

// hostName is the name or address of a host, with its user, for ssh.
var hostName = regexp.MustCompile(`^(?:[A-Za-z0-9_.][A-Za-z0-9_.+~-]*@)?(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\])$`)

func (s Spec) kind() kind {
	if strings.HasPrefix(s.URL, "file://") {
		return byPath
	}
	if strings.Contains(s.URL, "://") {
		return byURL
	}
	if _, _, ok := cutHost(s.URL); ok {
		return bySSH
	}
	return byPath
}

// check says what is wrong with s. Nothing that passes is an option or a command
// to git, to ssh or to a shell.
func (s Spec) check() error {
	bad := func(why string) error {
		return fault.New(fault.RepositoryInvalid, fault.Args{"url": redact(s.URL)},
			"%s is not a repository to clone: %s", redact(s.URL), why)
	}
	switch {
	case s.URL == "":
		return bad("it is empty")
	case len(s.URL) > maxURL:
		return bad("it is too long")
	case !termsafe.Is(s.URL):
		return bad("it has characters that cannot be printed")
	case strings.HasPrefix(s.URL, "-"):
		return bad("it begins with -")
	case helper.MatchString(s.URL):
		return bad("it names a program to run")
	}
	if s.Ref != "" {
		if err := checkRef(s.Ref); err != nil {
			return err
		}
	}
	switch s.kind() {
	case bySSH:
		host, path, _ := cutHost(s.URL)
		switch {
		case !hostName.MatchString(host):
			return bad("its host is not a name")
		case path == "" || path[0] == '-':
			return bad("its path is empty, or begins with -")
		}
	case byURL:
		u, err := url.Parse(s.URL)
		if err != nil {
			return bad("it is not a URL") // err would repeat the password
		}
		switch {
		case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh" && u.Scheme != "git":
			return bad("its scheme is none of https, ssh, git, http and file")
		case !hostName.MatchString(bracketed(u)):
			return bad("its host is not a name")
		case strings.HasPrefix(u.User.Username(), "-"):
			return bad("its user begins with -")
		case u.RawQuery != "" || u.Fragment != "":
			return bad("it has a query or a fragment")
		case strings.Trim(u.Path, "/") == "" || strings.HasPrefix(strings.TrimLeft(u.Path, "/"), "-"):
			return bad("its path is empty, or begins with -")
		case u.User != nil && !termsafe.Is(u.User.Username()):
			return bad("its user has characters that cannot be printed")
		}
		if password, _ := u.User.Password(); !termsafe.Is(password) {
			return bad("its password has characters that cannot be printed")
		}
	case byPath:
		if rest, ok := strings.CutPrefix(s.URL, "file://"); ok && !strings.HasPrefix(rest, "/") {
			return bad("a file: URL has three slashes: it is of this computer")
		}
	}
	return nil
}

// bracketed returns the host of u without its port, an IPv6 address in brackets.
func bracketed(u *url.URL) string {
	if h := u.Hostname(); strings.Contains(h, ":") {
		return "[" + h + "]"
	} else {
		return h
	}
}

// checkRef says what is wrong with the name of a branch or a tag, by the rules
// of git-check-ref-format(1). A name that begins with - is an option to git.
func checkRef(ref string) error {
	ok := len(ref) <= maxRef && termsafe.Is(ref) && ref != "@" &&
		!strings.HasPrefix(ref, "-") && !strings.HasSuffix(ref, ".") &&
		!strings.ContainsAny(ref, " ~^:?*[\\") && !strings.Contains(ref, "..") && !strings.Contains(ref, "@{")
	for part := range strings.SplitSeq(ref, "/") {
		ok = ok && part != "" && part[0] != '.' && !strings.HasSuffix(part, ".lock")
	}
	if !ok {
		return fault.New(fault.ReferenceInvalid, fault.Args{"ref": ref}, "%q is not the name of a branch, a tag or a commit", clip(ref))
	}
	return nil
}

// commitID is the full name of a commit, by SHA-1 or SHA-256.
var commitID = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

// resolved is where a Spec leads.
type resolved struct {
	fetch  string // what git is given: without user and password, absolute if it is a path
	stored string // what the clone remembers as its origin
	host   string // "https://host:port", for which user and password are
	user   string
	pass   string
	secret bool     // the URL had a password, or for http a user, which may be a token
	allow  []string // protocols, also for redirects and the user's insteadOf
	plain  bool     // nothing protects it on its way
}

func (s Spec) resolve() (resolved, error) {
	if err := s.check(); err != nil {
		return resolved{}, err
	}
	switch s.kind() {
	case byPath:
		if strings.HasPrefix(s.URL, "file://") {
			return resolved{fetch: s.URL, stored: s.URL, allow: []string{"file"}}, nil
		}
		path, err := filepath.Abs(s.URL)
		return resolved{fetch: path, stored: path, allow: []string{"file"}}, err
	case bySSH:
		return resolved{fetch: s.URL, stored: s.URL, allow: []string{"ssh", "https"}}, nil
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return resolved{}, errors.New("not a URL")
	}
	r := resolved{host: u.Scheme + "://" + u.Host, user: u.User.Username()}
	r.pass, r.secret = u.User.Password()
	switch u.Scheme {
	case "https":
		r.allow = []string{"https", "ssh"}
	case "ssh":
		r.allow = []string{"ssh", "https"}
	default:
		r.allow, r.plain = []string{u.Scheme, "https", "ssh"}, true
	}
	r.secret = r.secret || r.user != "" && u.Scheme != "ssh"
	r.fetch, r.stored = s.Public(), s.Public()
	return r, nil
}

// redact makes a URL printable: without a password, and without a user, who may
// be a token, unless it is ssh's.
func redact(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		authority, path, _ := strings.Cut(rest, "/")
		if i := strings.LastIndexByte(authority, '@'); i >= 0 {
			user, _, _ := strings.Cut(authority[:i], ":")
			if scheme != "ssh" {
				user = "…"
			}
			authority = user + authority[i:]
		}
		s = scheme + "://" + authority
		if path != "" {
			s += "/" + path
		}
	}
	return clip(s)
}

// clip makes text of others fit for an error: short, and printable.
func clip(s string) string { return termsafe.Line(termsafe.Clip(s, 200)) }
