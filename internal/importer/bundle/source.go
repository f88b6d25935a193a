package bundle

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// SourceKind is how a bundle is got.
type SourceKind string

// The kinds of sources.
const (
	SourceFile SourceKind = "file"
	SourceURL  SourceKind = "url" // HTTPS
	SourceGit  SourceKind = "git"
)

// Source is where a bundle is.
type Source struct {
	Kind     SourceKind
	Location string // a path, a URL, or what git clone takes
	Ref      string // git: a branch, a tag or a commit; "" for the repository's HEAD
	Path     string // git: of the file in the repository
	SHA256   string // what the bundle's Sum must be; "" for no pin
}

// DefaultPath is where a repository has its bundle.
const DefaultPath = "setup.toml"

var (
	hexSum = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}$`) })
	// What SSH takes as a user and a host; neither can be taken for an option.
	scpLike = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:\\]+$`)
	})
	gitRef = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}$`) })
)

const maxLocation = 4096

// ParseSource reads FILE, https://HOST/FILE, or a git repository: a URL that begins
// with git+https:// or ssh:// or ends in .git, or USER@HOST:PATH. Behind it may stand
// #sha256=SUM, and for a repository #ref=BRANCH and #file=PATH, joined with &.
func ParseSource(text string) (Source, error) {
	location, fragment, pinned := strings.Cut(text, "#")
	s := Source{Location: location}
	switch {
	case location == "" || len(text) > maxLocation || !termsafe.Is(text):
		return s, fmt.Errorf("%s is neither a file nor a URL", short(text))
	case strings.HasPrefix(location, "-"):
		return s, fault.New(fault.SourceIsAnOption, fault.Args{"location": location}, "%s looks like an option", short(location))
	case strings.Contains(location, "::"):
		// git would run a helper of that name.
		return s, fmt.Errorf("%s: only https:// and ssh:// repositories", short(location))
	}
	if pinned {
		if err := s.parseFragment(fragment); err != nil {
			return s, err
		}
	}
	if err := s.parseLocation(); err != nil {
		return s, err
	}
	if s.Kind != SourceGit && (s.Ref != "" || s.Path != "") {
		return s, fmt.Errorf("%s: ref and file are for a git repository; write git+https://…", short(text))
	}
	if s.Kind == SourceGit && s.Path == "" {
		s.Path = DefaultPath
	}
	return s, nil
}

func (s *Source) parseLocation() error {
	scheme, rest, isURL := strings.Cut(s.Location, "://")
	switch {
	case !isURL && scpLike().MatchString(s.Location):
		s.Kind = SourceGit
		return nil
	case !isURL:
		s.Kind = SourceFile
		return nil
	case scheme == "git+https" || scheme == "git+ssh":
		s.Kind, s.Location = SourceGit, strings.TrimPrefix(s.Location, "git+")
	case scheme == "ssh":
		s.Kind = SourceGit
	case scheme == "https" && strings.HasSuffix(rest, ".git"):
		s.Kind = SourceGit
	case scheme == "https":
		s.Kind = SourceURL
	case scheme == "http" || scheme == "git":
		args := fault.Args{"location": s.Location, "better": "https://" + rest}
		return fault.New(fault.SourceInsecure, args, "%s can be changed on its way", short(s.Location))
	default:
		return fmt.Errorf("%s: a set-up comes from a file, https:// or a git repository", short(s.Location))
	}
	u, err := url.Parse(s.Location)
	if err != nil || u.Host == "" || strings.HasPrefix(u.Hostname(), "-") || u.Opaque != "" {
		return fmt.Errorf("%s is no URL", short(s.Location))
	}
	if _, hasPassword := u.User.Password(); hasPassword || u.User != nil && u.Scheme != "ssh" {
		return fmt.Errorf("the URL of %s has a user's name or password in it", u.Hostname())
	}
	if u.User != nil && strings.HasPrefix(u.User.Username(), "-") {
		return fmt.Errorf("%s is no URL", short(s.Location))
	}
	return nil
}

// parseFragment reads what stands behind the #.
func (s *Source) parseFragment(fragment string) error {
	for part := range strings.SplitSeq(fragment, "&") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "sha256":
			if s.SHA256 = strings.ToLower(value); !hexSum().MatchString(s.SHA256) {
				return fmt.Errorf("sha256=%s: must be 64 hexadecimal digits", short(value))
			}
		case "ref":
			if s.Ref = value; !gitRef().MatchString(value) || strings.Contains(value, "..") {
				return fmt.Errorf("ref=%s is no branch, tag or commit", short(value))
			}
		case "file":
			if s.Path = value; value == "" || path.IsAbs(value) || path.Clean(value) != value || value == ".." || strings.HasPrefix(value, "../") || strings.HasPrefix(value, "-") {
				return fmt.Errorf("file=%s is no file in the repository", short(value))
			}
		default:
			return fmt.Errorf("%s: behind # may stand sha256, ref and file", short(part))
		}
	}
	return nil
}

// Check compares what was got with the pin.
func (s Source) Check(data []byte) error {
	if sum := Sum(data); s.SHA256 != "" && sum != s.SHA256 {
		return fmt.Errorf("%s is not what was pinned: its sha256 is %s, and %s was asked for", short(s.Location), sum, s.SHA256)
	}
	return nil
}
