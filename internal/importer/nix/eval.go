package nix

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Limits of the evaluation.
const (
	maxSteps = 2_000_000
	maxDepth = 3000     // evaluations within each other
	maxBytes = 16 << 20 // of strings that are put together
)

// errLimit ends the whole import: what exceeds a limit is no definition of machines.
var errLimit = errors.New("too much to evaluate")

// evaluator evaluates the files of one file system.
type evaluator struct {
	fsys  fs.FS
	files map[string]*thunk // by path
	read  int               // bytes of files
	steps int
	depth int
	bytes int

	picked  bool // modules set nothing but what machines are made of
	notes   []Note
	noted   map[noteKey]bool
	machine string // whose notes these are
}

func newEvaluator(fsys fs.FS) *evaluator {
	return &evaluator{fsys: fsys, files: make(map[string]*thunk), noted: make(map[noteKey]bool)}
}

func (ev *evaluator) step(n int) error {
	if ev.steps += n; ev.steps > maxSteps {
		return fmt.Errorf("%w: more than %d steps", errLimit, maxSteps)
	}
	return nil
}

func (ev *evaluator) spend(bytes int) error {
	if ev.bytes += bytes; ev.bytes > maxBytes {
		return fmt.Errorf("%w: more than %d MiB of text", errLimit, maxBytes>>20)
	}
	return nil
}

// force returns the value of t.
func (ev *evaluator) force(t *thunk) (value, error) {
	switch t.state {
	case done:
		return t.v, t.err
	case running:
		var at pos
		if t.node != nil {
			at = t.node.at()
		}
		return nil, at.errorf("a value that depends on itself")
	}
	t.state = running
	if t.run != nil {
		if ev.depth++; ev.depth > maxDepth {
			return nil, fmt.Errorf("%w: more than %d evaluations within each other", errLimit, maxDepth)
		}
		t.v, t.err = t.run()
		ev.depth--
	} else {
		t.v, t.err = ev.eval(t.node, t.env)
	}
	t.state = done
	t.env, t.run = nil, nil // the node stays, for its place
	return t.v, t.err
}

// eval evaluates n to what its outermost part is.
func (ev *evaluator) eval(n node, e *env) (value, error) {
	if err := ev.step(1); err != nil {
		return nil, err
	}
	if ev.depth++; ev.depth > maxDepth {
		return nil, fmt.Errorf("%w: more than %d evaluations within each other", errLimit, maxDepth)
	}
	defer func() { ev.depth-- }()
	switch n := n.(type) {
	case *intNode:
		return n.v, nil
	case *floatNode:
		return n.v, nil
	case *opaqueNode:
		return &opaque{pos: n.pos, label: label(n.label)}, nil
	case *strNode:
		return ev.str(n, e)
	case *pathNode:
		return ev.path(n)
	case *varNode:
		return ev.variable(n, e)
	case *selectNode:
		return ev.selection(n, e)
	case *hasNode:
		return ev.has(n, e)
	case *applyNode:
		f, err := ev.eval(n.f, e)
		if err != nil {
			return nil, err
		}
		return ev.apply(n.pos, f, &thunk{node: n.x, env: e})
	case *lambdaNode:
		return &lambda{n, e}, nil
	case *letNode:
		_, inner, err := ev.set(n.set, e)
		if err != nil {
			return nil, err
		}
		return ev.eval(n.body, inner)
	case *withNode:
		return ev.eval(n.body, &env{with: &thunk{node: n.set, env: e}, up: e})
	case *ifNode:
		cond, err := ev.eval(n.cond, e)
		if err != nil {
			return nil, err
		}
		switch cond := solid(n.pos, cond).(type) {
		case bool:
			if cond {
				return ev.eval(n.yes, e)
			}
			return ev.eval(n.no, e)
		case *opaque:
			return &opaque{pos: n.pos, label: label("if " + cond.label + " …")}, nil
		}
		return nil, n.errorf("if needs a boolean, not %s", typeName(cond))
	case *assertNode:
		cond, err := ev.eval(n.cond, e)
		if err != nil {
			return nil, err
		}
		if cond == false {
			return nil, n.errorf("an assertion is false")
		}
		return ev.eval(n.body, e)
	case *unaryNode:
		return ev.unary(n, e)
	case *binaryNode:
		return ev.binary(n, e)
	case *listNode:
		if err := ev.step(len(n.elements)); err != nil {
			return nil, err
		}
		l := &list{make([]*thunk, len(n.elements))}
		for i, x := range n.elements {
			l.elements[i] = &thunk{node: x, env: e}
		}
		return l, nil
	case *attrsNode:
		set, _, err := ev.set(n, e)
		return set, err
	}
	return nil, n.at().errorf("not an expression")
}

// set returns a set, and the names that its attributes see.
func (ev *evaluator) set(n *attrsNode, e *env) (value, *env, error) {
	if err := ev.step(len(n.fields)); err != nil {
		return nil, nil, err
	}
	set := &attrs{make(map[string]*thunk, len(n.fields))}
	inner := e
	if n.rec {
		inner = &env{vars: set.fields, up: e}
	}
	for _, f := range n.fields {
		t := &thunk{node: f.value, env: inner}
		if f.outer {
			t.env = e
		}
		set.fields[f.name] = t
	}
	for _, d := range n.dynamic {
		name, err := ev.eval(d.name, inner)
		if err != nil {
			return nil, nil, err
		}
		switch v := name.(type) {
		case null:
			continue
		case *str:
			s, ok := v.known()
			if !ok {
				ev.note(d.pos, Unknown, "an attribute's name depends on %s", quote(v.hole().label))
				continue
			}
			if _, twice := set.fields[s]; twice {
				return nil, nil, d.pos.errorf("the attribute %s is there twice", quote(s))
			}
			set.fields[s] = &thunk{node: d.value, env: inner}
		case *opaque:
			ev.note(d.pos, Unknown, "an attribute's name is %s", quote(v.label))
		default:
			return nil, nil, d.pos.errorf("an attribute's name must be a string, not %s", typeName(name))
		}
	}
	return set, inner, nil
}

// str puts a string together.
func (ev *evaluator) str(n *strNode, e *env) (value, error) {
	s := &str{}
	for _, part := range n.parts {
		if part.expr == nil {
			s.parts = append(s.parts, piece{text: part.text})
			continue
		}
		v, err := ev.eval(part.expr, e)
		if err != nil {
			return nil, err
		}
		more, err := coerce(part.expr.at(), v)
		if err != nil {
			return nil, err
		}
		s.parts = append(s.parts, more.parts...)
	}
	return s, ev.spendStr(s)
}

func (ev *evaluator) spendStr(s *str) error {
	n := 16 * len(s.parts)
	for _, p := range s.parts {
		n += len(p.text)
	}
	return ev.spend(n)
}

// coerce makes a string of what Nix makes strings of. A path would be a copy in the
// store, whose name is not known.
func coerce(at pos, v value) (*str, error) {
	switch v := solid(at, v).(type) {
	case *str:
		return v, nil
	case *opaque:
		return &str{[]piece{{hole: v}}}, nil
	case int64:
		return text(fmt.Sprint(v)), nil
	case pathValue:
		return &str{[]piece{{hole: &opaque{pos: at, label: label("./" + string(v))}}}}, nil
	case *attrs, namespace:
		return &str{[]piece{{hole: &opaque{pos: at, label: "a set"}}}}, nil
	}
	return nil, at.errorf("%s is no string", typeName(v))
}

// path returns a file or directory that was given. Others are not known.
func (ev *evaluator) path(n *pathNode) (value, error) {
	if !strings.HasPrefix(n.text, "/") && !strings.HasPrefix(n.text, "~") {
		p := path.Join(path.Dir(n.src.name), n.text)
		if fs.ValidPath(p) {
			return pathValue(p), nil
		}
	}
	return &opaque{pos: n.pos, label: label(n.text)}, nil
}

// variable finds a name: first where it was bound, then in sets of with, the
// innermost first.
func (ev *evaluator) variable(n *varNode, e *env) (value, error) {
	for scope := e; scope != nil; scope = scope.up {
		if err := ev.step(1); err != nil {
			return nil, err
		}
		if t, ok := scope.vars[n.name]; ok {
			return ev.force(t)
		}
	}
	if v, ok := globalNamed(n.name); ok {
		return v, nil
	}
	for scope := e; scope != nil; scope = scope.up {
		if scope.with == nil {
			continue
		}
		set, err := ev.force(scope.with)
		if err != nil {
			return nil, err
		}
		v, found, err := ev.attribute(n.pos, set, n.name)
		if err != nil || found {
			return v, err
		}
	}
	return nil, n.errorf("%s is not defined", quote(n.name))
}

// attribute returns an attribute of x.
func (ev *evaluator) attribute(at pos, x value, name string) (v value, found bool, err error) {
	switch x := x.(type) {
	case *attrs:
		t, ok := x.fields[name]
		if !ok {
			return nil, false, nil
		}
		v, err := ev.force(t)
		return v, true, err
	case *opaque:
		if x.set && name == "lib" {
			return namespace{"lib"}, true, nil
		}
		return x.choose(at, name), true, nil
	case namespace:
		return x.choose(at, name), true, nil
	case *view:
		return ev.viewed(at, x, name)
	}
	return nil, false, nil
}

// name returns the name of one part of an attribute's path, or what it depends on.
func (ev *evaluator) name(a attrName, e *env) (string, *opaque, error) {
	if a.expr == nil {
		return a.name, nil, nil
	}
	v, err := ev.eval(a.expr, e)
	if err != nil {
		return "", nil, err
	}
	switch v := v.(type) {
	case *str:
		s, _ := v.known()
		return s, v.hole(), nil
	case *opaque:
		return "", v, nil
	}
	return "", nil, a.expr.at().errorf("an attribute's name must be a string, not %s", typeName(v))
}

func (ev *evaluator) selection(n *selectNode, e *env) (value, error) {
	x, err := ev.eval(n.x, e)
	if err != nil {
		return nil, err
	}
	for _, part := range n.path {
		name, unknown, err := ev.name(part, e)
		if err != nil {
			return nil, err
		}
		if unknown != nil {
			o := &opaque{pos: n.pos, label: "a set"}
			if of, ok := x.(*opaque); ok {
				o = of
			}
			x = o.choose(n.pos, "${"+unknown.label+"}")
			continue
		}
		v, found, err := ev.attribute(n.pos, x, name)
		switch {
		case err != nil:
			return nil, err
		case !found && n.or != nil:
			return ev.eval(n.or, e)
		case !found:
			return nil, n.errorf("%s has no attribute %s", typeName(x), quote(name))
		}
		x = v
	}
	return x, nil
}

func (ev *evaluator) has(n *hasNode, e *env) (value, error) {
	x, err := ev.eval(n.x, e)
	if err != nil {
		return nil, err
	}
	for _, part := range n.path {
		name, unknown, err := ev.name(part, e)
		if err != nil {
			return nil, err
		}
		if unknown != nil {
			return unknown, nil
		}
		switch x.(type) {
		case *opaque, namespace:
			return &opaque{pos: n.pos, label: "whether there is " + quote(name)}, nil
		}
		v, found, err := ev.attribute(n.pos, x, name)
		if err != nil || !found {
			return false, err
		}
		x = v
	}
	return true, nil
}

// apply calls f with one argument.
func (ev *evaluator) apply(at pos, f value, arg *thunk) (value, error) {
	if err := ev.step(1); err != nil {
		return nil, err
	}
	switch f := f.(type) {
	case *lambda:
		return ev.call(at, f, arg)
	case *builtin:
		args := append(f.args[:len(f.args):len(f.args)], arg)
		if len(args) < f.arity {
			return &builtin{f.name, f.arity, f.call, args}, nil
		}
		return f.call(ev, at, args)
	case *opaque:
		return f.apply(at), nil
	}
	return nil, at.errorf("%s is called as a function", typeName(f))
}

// call calls a function that is written out.
func (ev *evaluator) call(at pos, f *lambda, arg *thunk) (value, error) {
	e := &env{vars: make(map[string]*thunk, 1+len(f.fn.formals)), up: f.env}
	if f.fn.arg != "" {
		e.vars[f.fn.arg] = arg
	}
	if !f.fn.pattern {
		return ev.eval(f.fn.body, e)
	}
	if err := ev.step(len(f.fn.formals)); err != nil {
		return nil, err
	}
	v, err := ev.force(arg)
	if err != nil {
		return nil, err
	}
	var given *attrs
	switch v := v.(type) {
	case *attrs:
		given = v
	case *opaque:
		for _, one := range f.fn.formals {
			e.vars[one.name] = ready(v.choose(at, one.name))
		}
		return ev.eval(f.fn.body, e)
	default:
		return nil, at.errorf("the function takes a set, not %s", typeName(v))
	}
	used := 0
	for _, one := range f.fn.formals {
		switch t, ok := given.fields[one.name]; {
		case ok:
			e.vars[one.name] = t
			used++
		case one.def != nil:
			e.vars[one.name] = &thunk{node: one.def, env: e}
		default:
			return nil, at.errorf("the function's parameter %s is missing", quote(one.name))
		}
	}
	if used < len(given.fields) && !f.fn.ellipsis {
		return nil, at.errorf("the function has a parameter less than it is given")
	}
	return ev.eval(f.fn.body, e)
}
