package config

import (
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/suggest"
)

// Share is a directory of the host that is live in the machine: an element of
// share.
type Share struct {
	Source   string // absolute, or begins with "~/"
	Path     string // in the machine; "": the same as on the host
	ReadOnly bool
	Hide     []string // patterns of what the machine does not see
	Protect  []string // patterns of what it cannot change
}

// ParseShare reads "SOURCE[:PATH][:ro]". A path with a colon in it can only be
// written in a file, as a table.
func ParseShare(text string) (Share, error) {
	s, err := parseShare(text)
	if err != nil {
		return Share{}, err // not the nil pointer of a type
	}
	return s, nil
}

func parseShare(text string) (Share, *Error) {
	const shape = `must be SOURCE[:PATH][:ro], as in "~/notes:/srv/notes:ro"`
	parts := strings.Split(text, ":")
	s := Share{Source: parts[0]}
	switch rest := parts[1:]; {
	case len(rest) == 0:
	case len(rest) == 1 && rest[0] == "ro":
		s.ReadOnly = true
	case len(rest) == 1:
		s.Path = rest[0]
	case len(rest) == 2 && rest[1] == "ro":
		s.Path, s.ReadOnly = rest[0], true
	default:
		return Share{}, wrong("is %s; %s", shortQuote(text), shape)
	}
	if len(parts) > 1 && s.Path == "" && !s.ReadOnly {
		return Share{}, wrong("is %s; %s", shortQuote(text), shape)
	}
	return s, s.check()
}

// String returns the share as a user writes it.
func (s Share) String() string {
	text := s.Source
	if s.Path != "" {
		text += ":" + s.Path
	}
	if s.ReadOnly {
		text += ":ro"
	}
	return text
}

func (s Share) check() *Error {
	if s.Source == "" {
		return wrong("has no source, the directory to share")
	}
	if err := checkSharePath("source", s.Source); err != nil || s.Path == "" {
		return err
	}
	return checkSharePath("path", s.Path)
}

func checkSharePath(what, path string) *Error {
	switch {
	case strings.ContainsRune(path, 0) || len(path) > 4096:
		return wrong("its %s is not a path", what)
	case path != "~" && !strings.HasPrefix(path, "~/") && !strings.HasPrefix(path, "/"):
		return wrong("its %s is %s; must be absolute or begin with ~/", what, shortQuote(path))
	}
	return nil
}

// addShare adds an element of share, a string or a table.
func addShare(c *Config, s setting) *Error {
	share, err := asShare(s)
	if err == nil {
		c.Shares = append(slices.Clip(c.Shares), share)
	}
	return err
}

func asShare(s setting) (Share, *Error) {
	switch v := s.value.(type) {
	case string:
		share, err := parseShare(v)
		return share, s.place(err)
	case map[string]any:
		return asShareTable(s, v)
	default:
		return Share{}, s.errorf("must be a table such as { source = \"~/notes\", readonly = true }, not %s", describe(s.value))
	}
}

func asShareTable(s setting, table map[string]any) (Share, *Error) {
	var share Share
	for _, key := range sortedKeys(table) {
		at := setting{s.origin, joinKey(s.key, key), table[key]}
		var err *Error
		switch key {
		case "source":
			err = asString(at, &share.Source)
		case "path":
			if err = asString(at, &share.Path); err == nil && share.Path == "" {
				err = at.errorf("is empty; leave it out for the same path as on the host")
			}
		case "readonly":
			err = asBool(at, &share.ReadOnly)
		case "hide":
			err = appendList(at, &share.Hide, checkPattern)
		case "protect":
			err = appendList(at, &share.Protect, checkPattern)
		default:
			err = at.errorf("unknown key")
			err.Suggestion = suggest.Nearest(key, partsOf("share"))
		}
		if err != nil {
			return share, err
		}
	}
	return share, s.place(share.check())
}
