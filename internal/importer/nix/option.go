package nix

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// one returns the value of an option of which there can be one, and its place.
func (m *modules) one(path ...string) (value, pos, error) {
	defs, err := m.definitions(path...)
	if err != nil || len(defs) == 0 {
		return nil, pos{}, err
	}
	first := defs[0]
	for _, d := range defs[1:] {
		equal, _, err := m.ev.equal(first.value, d.value, 0)
		if errors.Is(err, errLimit) {
			return nil, pos{}, err
		}
		if err != nil || !equal {
			m.ev.note(d.at, Unknown, "%s is set more than once, to different values", strings.Join(path, "."))
			return nil, pos{}, nil
		}
	}
	if o, ok := first.value.(*opaque); ok {
		at := first.at
		if o.pos.src != nil {
			at = o.pos
		}
		if o.attr == "" {
			m.ev.note(at, Unknown, "%s is %s", strings.Join(path, "."), quote(o.label))
		}
	}
	return first.value, first.at, nil
}

// reader reads options, and remembers the first limit that was exceeded: callers look
// once, at the end.
type reader struct {
	*modules
	err error
}

func (r *reader) keep(err error) bool {
	if err != nil && r.err == nil {
		r.err = err
	}
	return err == nil
}

// get returns an option if it is set and of type T.
func get[T any](r *reader, path ...string) (T, pos, bool) {
	var zero T
	v, at, err := r.one(path...)
	if !r.keep(err) || v == nil {
		return zero, at, false
	}
	t, ok := v.(T)
	if _, unknown := v.(*opaque); !ok && !unknown {
		r.ev.note(at, Unknown, "%s is %s", strings.Join(path, "."), typeName(v))
	}
	return t, at, ok
}

func (r *reader) text(path ...string) (string, pos, bool) {
	s, at, ok := get[*str](r, path...)
	if !ok {
		return "", at, false
	}
	known, all := s.known()
	if !all {
		r.ev.note(at, Unknown, "%s depends on %s", strings.Join(path, "."), quote(s.hole().label))
	}
	return known, at, all
}

func (r *reader) number(path ...string) (int, pos, bool) {
	n, at, ok := get[int64](r, path...)
	if ok && (n < 0 || n > 1<<30) {
		r.ev.note(at, Warning, "%s is %d", strings.Join(path, "."), n)
		return 0, at, false
	}
	return int(n), at, ok
}

func (r *reader) enabled(path ...string) bool {
	on, _, ok := get[bool](r, path...)
	return ok && on
}

// list returns the elements of a list, of all definitions.
func (r *reader) list(path ...string) []*thunk {
	defs, err := r.definitions(path...)
	if !r.keep(err) {
		return nil
	}
	var all []*thunk
	for _, d := range defs {
		elements, o, err := r.ev.listArg(d.at, ready(d.value))
		switch {
		case errors.Is(err, errLimit):
			r.keep(err)
			return nil
		case err != nil:
			r.ev.failed(err)
		case o != nil:
			r.ev.note(d.at, Unknown, "%s is %s", strings.Join(path, "."), quote(o.label))
		}
		all = append(all, elements...)
	}
	return all
}

// names returns the names of an option's attributes, of all definitions.
func (r *reader) names(path ...string) []string {
	defs, err := r.definitions(path...)
	if !r.keep(err) {
		return nil
	}
	all := make(map[string]bool)
	for _, d := range defs {
		set, ok := d.value.(*attrs)
		if !ok {
			r.ev.note(d.at, Unknown, "%s is %s", strings.Join(path, "."), describe(d.value))
			continue
		}
		for name := range set.fields {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func describe(v value) string {
	if o, ok := v.(*opaque); ok {
		return quote(o.label)
	}
	return typeName(v)
}

// record reads a set that is an element of a list, as if it were modules of its own.
func (r *reader) record(t *thunk) *reader {
	return &reader{modules: &modules{ev: r.ev, state: done, configs: []*thunk{t}}}
}

// leaves returns the paths of all options that modules set by writing them out, in
// order, and where. What is in a value is not looked at.
func (m *modules) leaves() ([]string, map[string]pos, error) {
	if err := m.load(); err != nil {
		return nil, nil, err
	}
	places := make(map[string]pos)
	for _, t := range m.configs {
		if err := m.walk(t, nil, pos{}, places); err != nil {
			return nil, nil, err
		}
	}
	return slices.Sorted(maps.Keys(places)), places, nil
}

// maxLeaf bounds the parts of an option's name.
const maxLeaf = 6

func (m *modules) walk(t *thunk, path []string, at pos, places map[string]pos) error {
	if err := m.ev.step(1); err != nil {
		return err
	}
	at = t.place(at)
	_, written := t.node.(*attrsNode)
	if len(path) < maxLeaf && (written || t.node == nil) {
		v, err := m.ev.force(t)
		if errors.Is(err, errLimit) {
			return err
		}
		if set, ok := v.(*attrs); ok && len(set.fields) > 0 {
			for _, name := range set.names() {
				if err := m.walk(set.fields[name], append(slices.Clip(path), name), at, places); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if name := optionName(path); name != "" {
		if _, seen := places[name]; !seen {
			places[name] = at
		}
	}
	return nil
}

// optionName writes a path as Nix does.
func optionName(path []string) string {
	parts := slices.Clone(path)
	for i, p := range parts {
		if strings.ContainsAny(p, ". \"") {
			parts[i] = quote(p)
		}
	}
	return strings.Join(parts, ".")
}

// declares reports whether a module declares the option, or one above it.
func (m *modules) declares(name string) bool {
	for _, t := range m.options {
		for i, part := range strings.Split(name, ".") {
			v, err := m.ev.force(t)
			set, ok := v.(*attrs)
			if err != nil || !ok {
				break
			}
			if set.fields["type"] != nil && i > 0 {
				return true
			}
			if t, ok = set.fields[part]; !ok {
				break
			}
			if i == strings.Count(name, ".") {
				return true
			}
		}
	}
	return false
}
