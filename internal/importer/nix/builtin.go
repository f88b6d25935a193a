package nix

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
)

// choose returns what a namespace has under a name. What is not in the subset is
// opaque.
func (n namespace) choose(at pos, name string) value {
	if n.name == "lib" && slices.Contains([]string{"attrsets", "lists", "strings", "trivial", "modules", "options"}, name) {
		return n
	}
	if n.name == "builtins" {
		switch name {
		case "builtins":
			return n
		case "true":
			return true
		case "false":
			return false
		case "null":
			return null{}
		}
	}
	if b := builtinNamed(name, n.name == "lib"); b != nil {
		return b
	}
	return &opaque{pos: at, label: label(n.name + "." + name)}
}

// globalNamed returns what a name means where nothing has bound it.
func globalNamed(name string) (value, bool) {
	switch name {
	case "true":
		return true, true
	case "false":
		return false, true
	case "null":
		return null{}, true
	case "builtins":
		return namespace{"builtins"}, true
	case "import", "map", "toString", "removeAttrs", "throw", "abort", "baseNameOf", "dirOf", "isNull":
		return builtinNamed(name, false), true
	case "derivation", "fetchTarball", "fetchGit", "fetchTree", "fetchMercurial", "placeholder", "scopedImport":
		return &opaque{label: name}, true
	}
	return nil, false
}

// builtinNamed returns a function of builtins or of nixpkgs' lib, or nil.
func builtinNamed(name string, lib bool) *builtin {
	b := &builtin{name: name, arity: 1}
	set := func(arity int, call func(*evaluator, pos, []*thunk) (value, error)) *builtin {
		b.arity, b.call = arity, call
		return b
	}
	if !lib {
		switch name {
		case "import":
			return set(1, builtinImport)
		case "throw", "abort":
			return set(1, builtinThrow)
		case "isNull":
			return set(1, func(ev *evaluator, _ pos, args []*thunk) (value, error) {
				v, err := ev.force(args[0])
				return v == null{}, err
			})
		}
	}
	switch name {
	case "map":
		return set(2, builtinMap)
	case "concatMap":
		return set(2, builtinConcatMap)
	case "concatLists":
		return set(1, builtinConcatLists)
	case "filter":
		return set(2, builtinFilter)
	case "elem":
		return set(2, builtinElem)
	case "length":
		return set(1, builtinLength)
	case "toString":
		return set(1, builtinToString)
	case "readFile":
		return set(1, builtinReadFile)
	case "attrNames":
		return set(1, builtinAttrNames)
	case "attrValues":
		return set(1, builtinAttrValues)
	case "mapAttrs":
		return set(2, builtinMapAttrs)
	case "listToAttrs":
		return set(1, builtinListToAttrs)
	case "removeAttrs":
		return set(2, builtinRemoveAttrs)
	case "concatStringsSep":
		return set(2, builtinConcatStrings)
	case "baseNameOf", "dirOf":
		return set(1, func(ev *evaluator, at pos, args []*thunk) (value, error) {
			s, o, err := ev.stringArg(at, args[0])
			if err != nil || o != nil {
				return o.orNil(), err
			}
			if name == "dirOf" {
				return text(path.Dir(s)), nil
			}
			return text(path.Base(s)), nil
		})
	}
	if lib {
		return libNamed(name, set)
	}
	return nil
}

// orNil returns o as a value, so that no typed nil becomes one.
func (o *opaque) orNil() value {
	if o == nil {
		return nil
	}
	return o
}

// listArg returns a list, or what it depends on.
func (ev *evaluator) listArg(at pos, t *thunk) ([]*thunk, *opaque, error) {
	v, err := ev.force(t)
	if err != nil {
		return nil, nil, err
	}
	switch v := solid(at, v).(type) {
	case *list:
		return v.elements, nil, ev.step(len(v.elements))
	case *opaque:
		return nil, v, nil
	}
	return nil, nil, at.errorf("needs a list, not %s", typeName(v))
}

// attrsArg returns a set, or what it depends on.
func (ev *evaluator) attrsArg(at pos, t *thunk) (*attrs, *opaque, error) {
	v, err := ev.force(t)
	if err != nil {
		return nil, nil, err
	}
	switch v := solid(at, v).(type) {
	case *attrs:
		return v, nil, ev.step(len(v.fields))
	case *opaque:
		return nil, v, nil
	case namespace:
		return nil, &opaque{pos: at, label: v.name}, nil
	}
	return nil, nil, at.errorf("needs a set, not %s", typeName(v))
}

// stringArg returns a string, or what it depends on.
func (ev *evaluator) stringArg(at pos, t *thunk) (string, *opaque, error) {
	v, err := ev.force(t)
	if err != nil {
		return "", nil, err
	}
	s, err := coerce(at, v)
	if err != nil {
		return "", nil, err
	}
	text, _ := s.known()
	return text, s.hole(), nil
}

func builtinThrow(ev *evaluator, at pos, args []*thunk) (value, error) {
	s, _, err := ev.stringArg(at, args[0])
	if err != nil {
		return nil, err
	}
	return nil, at.errorf("the file says: %s", quote(s))
}

// builtinImport returns what a file evaluates to, once for all.
func builtinImport(ev *evaluator, at pos, args []*thunk) (value, error) {
	v, err := ev.force(args[0])
	if err != nil {
		return nil, err
	}
	p, ok := v.(pathValue)
	if !ok {
		o := &opaque{pos: at, label: "import " + typeName(v), imp: true}
		if from, ok := v.(*opaque); ok {
			o.label = label("import " + from.label)
		}
		return o, nil
	}
	return ev.importFile(at, string(p))
}

func (ev *evaluator) importFile(at pos, name string) (value, error) {
	if info, err := fs.Stat(ev.fsys, name); err == nil && info.IsDir() {
		name = path.Join(name, "default.nix")
	}
	if t, ok := ev.files[name]; ok {
		return ev.force(t)
	}
	data, err := ev.readFile(name)
	if err != nil {
		return nil, at.errorf("import %s: %v", quote(name), err)
	}
	n, err := parse(&source{name: name, text: data})
	t := &thunk{node: n}
	if err != nil {
		t = &thunk{state: done, err: err}
	}
	ev.files[name] = t
	return ev.force(t)
}

// readFile reads a file that was given.
func (ev *evaluator) readFile(name string) (string, error) {
	info, err := fs.Stat(ev.fsys, name)
	switch {
	case err != nil:
		return "", errors.New("there is no such file")
	case !info.Mode().IsRegular():
		return "", errors.New("is not a regular file")
	}
	f, err := ev.fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxFileSize {
		return "", fmt.Errorf("is larger than %d KiB", maxFileSize>>10)
	}
	if ev.read += len(data); ev.read > maxTotalSize {
		return "", fmt.Errorf("%w: more than %d MiB of files", errLimit, maxTotalSize>>20)
	}
	return string(data), ev.spend(len(data))
}

func builtinReadFile(ev *evaluator, at pos, args []*thunk) (value, error) {
	v, err := ev.force(args[0])
	if err != nil {
		return nil, err
	}
	p, ok := v.(pathValue)
	if !ok {
		what := typeName(v)
		switch v := v.(type) {
		case *opaque:
			what = v.label
		case *str:
			if h := v.hole(); h != nil {
				what = "of " + h.label
			}
		}
		return &opaque{pos: at, label: label("the file " + what)}, nil
	}
	data, err := ev.readFile(string(p))
	if errors.Is(err, errLimit) {
		return nil, err
	}
	if err != nil {
		return &opaque{pos: at, label: label(string(p) + " " + err.Error())}, nil
	}
	return text(data), nil
}
