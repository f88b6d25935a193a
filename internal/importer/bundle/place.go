package bundle

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/tomlquote"
)

// Placement says where on this computer the paths of a bundle are.
type Placement struct {
	Base string // what relative paths are relative to: "~/machines"; "": they are refused
	Maps []Map
}

// Map replaces a path, and what is below it. What its user maps they have chosen; with
// "~" for To only that it is below their home directory.
type Map struct{ From, To string }

// ParseMap reads FROM=TO. TO may be "~".
func ParseMap(text string) (Map, error) {
	from, to, ok := strings.Cut(text, "=")
	if !ok || !isHostPath(from) {
		return Map{}, fmt.Errorf("%s: must be FROM=TO, as in /home/alice/src=~/src", short(text))
	}
	if to != "~" {
		if err := CheckBase(to); err != nil {
			return Map{}, err
		}
	}
	return Map{from, to}, nil
}

// CheckBase judges a directory that a user chose.
func CheckBase(p string) error {
	if !isHostPath(p) {
		return fmt.Errorf("%s: must be a directory, absolute or beginning with ~/, in its shortest form", short(p))
	}
	return nil
}

// isHostPath reports whether p is absolute or begins with "~/", in its shortest form.
func isHostPath(p string) bool {
	rest := strings.TrimPrefix(p, "~")
	return strings.HasPrefix(rest, "/") && rest != "/" && path.Clean(rest) == rest && len(p) <= maxLocation && termsafe.Is(p)
}

// pathError is why a path is refused, and what its user can do.
type pathError struct {
	msg, path string
	code      fault.Code // "" when there is nothing
}

func (e *pathError) Error() string { return e.msg }

// find returns where a path of a bundle is on this computer.
func (p Placement) find(text string) (string, *pathError) {
	if text == "" || len(text) > maxLocation || !termsafe.Is(text) {
		return "", &pathError{msg: short(text) + " is no path"}
	}
	for part := range strings.SplitSeq(text, "/") {
		if part == ".." {
			return "", &pathError{msg: short(text) + " leads upwards"}
		}
	}
	clean := path.Clean(text)
	if strings.HasPrefix(text, "~") && clean != "~" && !strings.HasPrefix(clean, "~/") {
		return "", &pathError{msg: short(text) + " is another user's"}
	}
	if to, m := p.mapped(clean); m.To != "" && m.To != "~" {
		return to, nil // whatever it is, it was named
	} else if m.To == "~" {
		// Whose home directory it is was said, and not what of it is given away.
		clean = to
		if to, m := p.mapped(clean); m.To != "" && m.To != "~" {
			return to, nil
		}
	}
	switch {
	case clean == "~" || clean == "/" || clean == ".":
		return "", &pathError{msg: short(text) + " is all of it"}
	case path.IsAbs(clean):
		return "", &pathError{short(text) + " is a path of another computer", clean, fault.BundlePathForeign}
	case strings.HasPrefix(clean, "~/."):
		return "", &pathError{short(text) + " is hidden, where programs keep configuration and keys", clean, fault.BundlePathHidden}
	case strings.HasPrefix(clean, "~/"):
		return clean, nil
	case p.Base == "":
		return "", &pathError{short(text) + " is relative, and to what is for you to say", clean, fault.BundlePathRelative}
	}
	return p.Base + "/" + clean, nil
}

// mapped returns what the closest map makes of a path, and that map. Its To is empty
// if there is none.
func (p Placement) mapped(clean string) (string, Map) {
	var best Map
	for _, m := range p.Maps {
		if (clean == m.From || strings.HasPrefix(clean, m.From+"/")) && len(m.From) > len(best.From) {
			best = m
		}
	}
	return best.To + strings.TrimPrefix(clean, best.From), best
}

// isPathKey reports whether the values of key are paths on the host. A secret's from
// is one behind "file:".
func isPathKey(key string) bool {
	switch key {
	case "workspace.path", "share.source", "home.dotfiles":
		return true
	}
	return strings.HasPrefix(key, "secrets.") && strings.HasSuffix(key, ".from")
}

// replace replaces strings of the keys that are paths, and leaves the rest of the
// text as its author wrote it.
func replace(doc []byte, with map[string]string) ([]byte, error) {
	if len(with) == 0 {
		return doc, nil
	}
	type edit struct {
		start, end int
		text       string
	}
	var edits []edit
	var p unstable.Parser
	p.Reset(doc)
	var visit func(key string, n *unstable.Node)
	visit = func(key string, n *unstable.Node) {
		switch n.Kind {
		case unstable.String:
			to, ok := with[string(n.Data)]
			if !ok || !isPathKey(key) {
				return
			}
			start := int(n.Raw.Offset)
			edits = append(edits, edit{start, start + int(n.Raw.Length), tomlquote.String(to)})
		case unstable.Array:
			for it := n.Children(); it.Next(); {
				visit(key, it.Node())
			}
		case unstable.InlineTable:
			for it := n.Children(); it.Next(); {
				if kv := it.Node(); kv.Kind == unstable.KeyValue {
					visit(joinKey(key, kv), kv.Value())
				}
			}
		}
	}
	section := ""
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			section = joinKey("", n)
		case unstable.KeyValue:
			visit(joinKey(section, n), n.Value())
		}
	}
	if err := p.Error(); err != nil {
		return nil, errors.New(termsafe.Line(err.Error()))
	}
	var out []byte
	last := 0
	for _, e := range edits {
		if e.start < last || e.end < e.start || e.end > len(doc) {
			return nil, errors.New("a path could not be replaced")
		}
		out = append(append(out, doc[last:e.start]...), e.text...)
		last = e.end
	}
	return append(out, doc[last:]...), nil
}

// joinKey appends the key of n to a dotted key.
func joinKey(key string, n *unstable.Node) string {
	for it := n.Key(); it.Next(); {
		if key != "" {
			key += "."
		}
		key += string(it.Node().Data)
	}
	return key
}
