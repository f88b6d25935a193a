package nix

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// value is what an expression evaluates to: null, bool, int64, float64, *str,
// pathValue, *list, *attrs, *lambda, *builtin, namespace, *wrapper, *view or
// *opaque.
type value any

type null struct{}

// solid returns v; a part of config that no module sets is not known.
func solid(at pos, v value) value {
	if w, ok := v.(*view); ok {
		return &opaque{pos: at, label: label("config." + strings.Join(w.path, "."))}
	}
	return v
}

// pathValue is a file or directory of the file system that was given.
type pathValue string

// str is a string in pieces. What is not known of it is in holes.
type str struct{ parts []piece }

type piece struct {
	text string
	hole *opaque // nil: text
}

func text(s string) *str { return &str{[]piece{{text: s}}} }

// known returns the string if all of it is known.
func (s *str) known() (string, bool) {
	if len(s.parts) == 1 && s.parts[0].hole == nil {
		return s.parts[0].text, true
	}
	var b strings.Builder
	for _, p := range s.parts {
		if p.hole != nil {
			return "", false
		}
		b.WriteString(p.text)
	}
	return b.String(), true
}

// hole returns the first that is not known.
func (s *str) hole() *opaque {
	for _, p := range s.parts {
		if p.hole != nil {
			return p.hole
		}
	}
	return nil
}

// lines splits a string into its lines. One with something unknown is not text.
func (s *str) lines() []*str {
	var out []*str
	line := &str{}
	for _, p := range s.parts {
		if p.hole != nil {
			line.parts = append(line.parts, p)
			continue
		}
		rest := p.text
		for {
			before, after, found := strings.Cut(rest, "\n")
			if before != "" {
				line.parts = append(line.parts, piece{text: before})
			}
			if !found {
				break
			}
			out, line, rest = append(out, line), &str{}, after
		}
	}
	if len(line.parts) > 0 {
		out = append(out, line)
	}
	return out
}

type list struct{ elements []*thunk }

type attrs struct{ fields map[string]*thunk }

// names returns the names of the attributes, sorted.
func (a *attrs) names() []string { return slices.Sorted(maps.Keys(a.fields)) }

type lambda struct {
	fn  *lambdaNode
	env *env
}

// namespace is builtins or lib: what is in it is found by name.
type namespace struct{ name string }

// builtin is a function of ours, with the arguments it has got so far.
type builtin struct {
	name  string
	arity int
	call  func(*evaluator, pos, []*thunk) (value, error)
	args  []*thunk
}

// wrapper is what mkIf, mkMerge and mkOverride make. It has a meaning where options
// are read.
type wrapper struct {
	cond     *thunk   // mkIf
	contents []*thunk // one, or those of mkMerge
	priority int      // of mkOverride; 0: none
}

// opaque is a value that is not known.
type opaque struct {
	pos   pos
	label string // how it was written, more or less
	set   bool   // it is a set of packages, such as pkgs
	sets  bool   // its attributes are sets of packages: legacyPackages
	imp   bool   // it is import of something unknown: applied, a set of packages
	attr  string // not "": the package of that name in a set of packages
	rest  bool   // in a list: any number of unknown elements
}

const maxLabel = 120

func label(s string) string {
	if len(s) > maxLabel {
		return strings.ToValidUTF8(s[:maxLabel], "") + "…"
	}
	return s
}

// choose returns an attribute of o.
func (o *opaque) choose(at pos, name string) *opaque {
	n := &opaque{pos: at, label: label(o.label + "." + name)}
	switch {
	case o.set:
		n.attr = name
	case o.sets:
		n.set = true
	case name == "legacyPackages":
		n.sets = true
	case o.attr != "":
		n.attr = label(o.attr + "." + name)
	}
	return n
}

// apply returns what the function o returns.
func (o *opaque) apply(at pos) *opaque {
	if strings.HasSuffix(o.label, "…") {
		return &opaque{pos: at, label: o.label, set: o.imp}
	}
	return &opaque{pos: at, label: label(o.label + " …"), set: o.imp}
}

// thunk is a value, or how to get it. It is evaluated at most once.
type thunk struct {
	node node
	env  *env
	run  func() (value, error) // in place of a node

	state thunkState
	v     value
	err   error
}

type thunkState int

const (
	waiting thunkState = iota
	running
	done
)

func ready(v value) *thunk { return &thunk{state: done, v: v} }

// place returns where the value was written, if anywhere.
func (t *thunk) place(otherwise pos) pos {
	if t.node != nil {
		return t.node.at()
	}
	if o, ok := t.v.(*opaque); ok && t.state == done {
		return o.pos
	}
	return otherwise
}

// env is the names that an expression sees.
type env struct {
	vars map[string]*thunk
	with *thunk // not nil: a set whose attributes are seen where vars have none
	up   *env
}

// typeName names a value's type for an error.
func typeName(v value) string {
	switch v := v.(type) {
	case null:
		return "null"
	case bool:
		return "a boolean"
	case int64:
		return "the number " + strconv.FormatInt(v, 10)
	case float64:
		return "a floating-point number"
	case *str:
		if s, ok := v.known(); ok {
			return "the string " + quote(s)
		}
		return "a string"
	case pathValue:
		return "a path"
	case *list:
		return "a list"
	case *attrs, *view, namespace:
		return "a set"
	case *lambda, *builtin:
		return "a function"
	case *wrapper:
		return "a definition with mkIf, mkMerge or mkOverride"
	}
	return "something unknown"
}
