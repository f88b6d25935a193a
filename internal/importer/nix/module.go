package nix

import (
	"errors"
	"slices"
	"strings"
)

// modules is a set of NixOS modules: what is set for an option is in one or more of
// them. Nothing is merged until an option is read.
type modules struct {
	ev    *evaluator
	roots []*thunk
	args  map[string]*thunk // what modules that are functions get, beside the usual

	// shallow leaves the modules' imports alone, and passes over roots that are
	// no modules.
	shallow bool

	state   thunkState
	configs []*thunk // of each module
	options []*thunk // the options that modules declare
	count   int
}

// maxModules bounds the modules of one set.
const maxModules = 1000

// view is the value of `config` in a module: the options below path.
type view struct {
	of   *modules
	path []string
}

// load finds all modules. None may depend on an option.
func (m *modules) load() error {
	switch m.state {
	case done:
		return nil
	case running:
		return errors.New("a module's imports depend on config")
	}
	m.state = running
	defer func() { m.state = done }()
	for _, root := range m.roots {
		err := m.collect(root, pos{})
		if errors.Is(err, errLimit) {
			return err
		}
		if err != nil {
			m.ev.failed(err)
		}
	}
	return nil
}

// collect adds one module and what it imports.
func (m *modules) collect(t *thunk, at pos) error {
	if m.count++; m.count > maxModules {
		return errLimit
	}
	if err := m.ev.step(1); err != nil {
		return err
	}
	at = t.place(at)
	v, err := m.ev.force(t)
	if err != nil {
		return err
	}
	if p, ok := v.(pathValue); ok {
		if v, err = m.ev.importFile(at, string(p)); err != nil {
			return err
		}
	}
	if f, ok := v.(*lambda); ok {
		if v, err = m.call(at, f); err != nil {
			return err
		}
	}
	set, ok := v.(*attrs)
	if !ok {
		if o, ok := v.(*opaque); ok && !m.shallow {
			if !strings.Contains(o.label, "microvm.nixosModules.") && !strings.Contains(o.label, "home-manager.nixosModules.") {
				m.ev.note(at, Unknown, "the module %s is not known here; what it sets is left out", quote(o.label))
			}
			return nil
		}
		if m.shallow {
			return nil
		}
		return at.errorf("a module must be a set or a function, not %s", typeName(v))
	}
	if imports := set.fields["imports"]; imports != nil && !m.shallow {
		if err := m.collectImports(imports, at); err != nil {
			return err
		}
	}
	config, options := set.fields["config"], set.fields["options"]
	if config == nil && options == nil {
		rest := &attrs{make(map[string]*thunk, len(set.fields))}
		for name, t := range set.fields {
			if !slices.Contains([]string{"imports", "disabledModules", "_file", "key", "meta", "freeformType"}, name) {
				rest.fields[name] = t
			}
		}
		config = ready(rest)
	}
	if config != nil {
		m.configs = append(m.configs, config)
	}
	if options != nil {
		m.options = append(m.options, options)
	}
	return nil
}

func (m *modules) collectImports(imports *thunk, at pos) error {
	at = imports.place(at)
	list, o, err := m.ev.listArg(at, imports)
	if o != nil {
		m.ev.note(at, Unknown, "imports are %s, which is not known here", quote(o.label))
	}
	if err != nil {
		return err
	}
	for _, t := range list {
		err := m.collect(t, at)
		if errors.Is(err, errLimit) {
			return err
		}
		if err != nil {
			m.ev.failed(err)
		}
	}
	return nil
}

// call calls a module that is a function.
func (m *modules) call(at pos, f *lambda) (value, error) {
	given := &attrs{map[string]*thunk{
		"config": ready(&view{of: m}),
		"lib":    ready(namespace{"lib"}),
		"pkgs":   ready(&opaque{label: "pkgs", set: true}),
	}}
	for name, t := range m.args {
		given.fields[name] = t
	}
	if f.fn.pattern {
		// No more than it asks for, lest it refuse; and all that it asks for.
		for _, one := range f.fn.formals {
			if given.fields[one.name] == nil {
				given.fields[one.name] = ready(&opaque{pos: f.fn.pos, label: one.name})
			}
		}
		if !f.fn.ellipsis {
			for name := range given.fields {
				if !slices.ContainsFunc(f.fn.formals, func(o formal) bool { return o.name == name }) {
					delete(given.fields, name)
				}
			}
		}
	}
	return m.ev.call(at, f, ready(given))
}

// definition is what one module sets for an option.
type definition struct {
	value    value
	priority int
	at       pos
}

const defaultPriority = 100

// definitions returns what modules set for the option at path, those of the
// strongest priority.
func (m *modules) definitions(path ...string) ([]definition, error) {
	if err := m.load(); err != nil {
		return nil, err
	}
	var all []definition
	for _, t := range m.configs {
		if err := m.find(t, path, defaultPriority, pos{}, &all, 0); err != nil {
			return nil, err
		}
	}
	strongest := 1 << 30
	for _, d := range all {
		strongest = min(strongest, d.priority)
	}
	return slices.DeleteFunc(all, func(d definition) bool { return d.priority > strongest }), nil
}

// find adds the definitions at path that are in t.
func (m *modules) find(t *thunk, path []string, priority int, at pos, all *[]definition, depth int) error {
	if err := m.ev.step(1); err != nil {
		return err
	}
	if depth > maxNesting {
		return errLimit
	}
	at = t.place(at)
	v, err := m.ev.force(t)
	if errors.Is(err, errLimit) {
		return err
	}
	if err != nil {
		m.ev.failed(err)
		return nil
	}
	switch x := v.(type) {
	case *wrapper:
		return m.unwrap(x, path, priority, at, all, depth)
	case *attrs:
		if len(path) == 0 {
			break
		}
		inner, ok := x.fields[path[0]]
		if !ok {
			return nil
		}
		return m.find(inner, path[1:], priority, at, all, depth+1)
	case *opaque:
		for _, name := range path {
			v = v.(*opaque).choose(at, name)
		}
		path = nil
	}
	if len(path) > 0 {
		m.ev.note(at, Unknown, "%s is not read in %s", quote(strings.Join(path, ".")), typeName(v))
		return nil
	}
	*all = append(*all, definition{v, priority, at})
	return nil
}

func (m *modules) unwrap(w *wrapper, path []string, priority int, at pos, all *[]definition, depth int) error {
	if w.priority != 0 {
		priority = w.priority
	}
	if w.cond != nil {
		cond, err := m.ev.force(w.cond)
		if errors.Is(err, errLimit) {
			return err
		}
		cond = solid(at, cond)
		o, unknown := cond.(*opaque)
		switch {
		case err != nil:
			m.ev.failed(err)
			return nil
		case unknown:
			m.ev.note(at, Unknown, "what is set here depends on %s", quote(o.label))
			return nil
		case cond != true:
			return nil
		}
	}
	for _, t := range w.contents {
		if err := m.find(t, path, priority, at, all, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// viewed returns the option name below v: what modules set for it, or else the
// default of its declaration.
func (ev *evaluator) viewed(at pos, v *view, name string) (value, bool, error) {
	p := append(slices.Clip(v.path), name)
	if len(p) > maxNesting {
		return nil, false, errLimit
	}
	defs, err := v.of.definitions(p...)
	if err != nil {
		return nil, false, err
	}
	if len(defs) == 0 {
		if d, ok, err := v.of.declared(p); ok || err != nil {
			return d, true, err
		}
		return &view{v.of, p}, true, nil
	}
	if len(defs) == 1 {
		if _, isSet := defs[0].value.(*attrs); !isSet {
			return defs[0].value, true, nil
		}
		return &view{v.of, p}, true, nil
	}
	switch defs[0].value.(type) {
	case *attrs:
		return &view{v.of, p}, true, nil
	case *list:
		var all value = &list{}
		for _, d := range defs {
			if all, err = ev.concat(at, all, d.value); err != nil {
				return nil, false, err
			}
		}
		return all, true, nil
	case *str:
		all := &str{}
		for _, d := range defs {
			s, err := coerce(at, d.value)
			if err != nil {
				return nil, false, err
			}
			all.parts = append(append(all.parts, s.parts...), piece{text: "\n"})
		}
		return all, true, ev.spendStr(all)
	}
	return &opaque{pos: at, label: label("config." + strings.Join(p, "."))}, true, nil
}

// declared returns the default of an option that a module declares.
func (m *modules) declared(path []string) (value, bool, error) {
	for _, t := range m.options {
		for _, name := range append(slices.Clip(path), "default") {
			v, err := m.ev.force(t)
			if err != nil {
				return nil, false, err
			}
			set, ok := v.(*attrs)
			if !ok || set.fields[name] == nil {
				t = nil
				break
			}
			t = set.fields[name]
		}
		if t != nil {
			v, err := m.ev.force(t)
			return v, err == nil, err
		}
	}
	return nil, false, nil
}
