package workspace

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Bounds of a path. The kernel's own are the same; maxDepth keeps a guest from
// having us make a thousand directories inside each other.
const (
	maxPath   = 4095
	maxName   = 255
	maxDepth  = 512
	maxTarget = 4095
)

var errUnsafePath = errors.New("unsafe path")

// checkPath accepts the paths that name something inside the workspace and
// have one spelling only.
func checkPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("%w: empty", errUnsafePath)
	case len(p) > maxPath:
		return fmt.Errorf("%w: %d bytes long", errUnsafePath, len(p))
	case strings.IndexByte(p, 0) >= 0:
		return fmt.Errorf("%w: NUL byte in %s", errUnsafePath, termsafe.Quote(p))
	}
	depth := 0
	for name := range strings.SplitSeq(p, "/") {
		depth++
		switch {
		case name == "", name == ".", name == "..":
			return fmt.Errorf("%w: %s", errUnsafePath, termsafe.Quote(p))
		case len(name) > maxName:
			return fmt.Errorf("%w: a name of %d bytes", errUnsafePath, len(name))
		case depth > maxDepth:
			return fmt.Errorf("%w: more than %d directories deep", errUnsafePath, maxDepth)
		}
	}
	return nil
}

// comparePaths orders paths as a walk meets them: a directory, all that is
// below it, then its next sibling. It differs from the order of the bytes in
// that a slash is lower than every other byte ("a/b" before "a-b").
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		case a[i] < b[i]:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// below reports whether p is inside the directory dir.
func below(p, dir string) bool {
	return len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// splitPath returns the parent of p, "." for the workspace itself, and p's
// last name.
func splitPath(p string) (parent, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return ".", p
}

func joinPath(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// leavesTree reports whether a symbolic link at the path link leads out of
// root, judged by its target alone. Where that cannot be told without
// following further links (a ".." behind a name), the answer is yes.
func leavesTree(root, link, target string) bool {
	if strings.HasPrefix(target, "/") {
		rest, ok := strings.CutPrefix(target, root)
		if !ok || root == "" || (rest != "" && rest[0] != '/') {
			return true
		}
		target = rest
		link = "" // a name directly in root
	}
	depth := strings.Count(link, "/")
	named := false
	for name := range strings.SplitSeq(target, "/") {
		switch name {
		case "", ".":
		case "..":
			if depth--; depth < 0 || named {
				return true
			}
		default:
			named = true
		}
	}
	return false
}
