package nix

import (
	"slices"
	"strconv"
)

func builtinToString(ev *evaluator, at pos, args []*thunk) (value, error) {
	v, err := ev.force(args[0])
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case bool:
		if v {
			return text("1"), nil
		}
		return text(""), nil
	case null:
		return text(""), nil
	case float64:
		return text(strconv.FormatFloat(v, 'f', 6, 64)), nil
	case *list:
		return builtinConcatStrings(ev, at, []*thunk{ready(text(" ")), args[0]})
	}
	return coerce(at, v)
}

func builtinMap(ev *evaluator, at pos, args []*thunk) (value, error) {
	elements, o, err := ev.listArg(at, args[1])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &list{}
	for _, x := range elements {
		out.elements = append(out.elements, ev.later(at, args[0], x))
	}
	return out, nil
}

// later applies a function when its result is needed.
func (ev *evaluator) later(at pos, f *thunk, args ...*thunk) *thunk {
	return &thunk{run: func() (value, error) {
		v, err := ev.force(f)
		for _, arg := range args {
			if err != nil {
				return nil, err
			}
			v, err = ev.apply(at, v, arg)
		}
		return v, err
	}}
}

func builtinConcatMap(ev *evaluator, at pos, args []*thunk) (value, error) {
	v, err := builtinMap(ev, at, args)
	if err != nil {
		return nil, err
	}
	return builtinConcatLists(ev, at, []*thunk{ready(v)})
}

func builtinConcatLists(ev *evaluator, at pos, args []*thunk) (value, error) {
	lists, o, err := ev.listArg(at, args[0])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	var out value = &list{}
	all := &list{}
	for _, l := range lists {
		v, err := ev.force(l)
		if err != nil {
			return nil, err
		}
		out, err = ev.concat(at, &list{}, v)
		if err != nil {
			return nil, err
		}
		all.elements = append(all.elements, out.(*list).elements...)
	}
	return all, nil
}

func builtinFilter(ev *evaluator, at pos, args []*thunk) (value, error) {
	elements, o, err := ev.listArg(at, args[1])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &list{}
	for _, x := range elements {
		v, err := ev.force(ev.later(at, args[0], x))
		if err != nil {
			return nil, err
		}
		switch v := solid(at, v).(type) {
		case bool:
			if v {
				out.elements = append(out.elements, x)
			}
		case *opaque:
			rest := *v
			rest.rest = true
			out.elements = append(out.elements, ready(&rest))
		default:
			return nil, at.errorf("filter needs a boolean, not %s", typeName(v))
		}
	}
	return out, nil
}

func builtinElem(ev *evaluator, at pos, args []*thunk) (value, error) {
	elements, o, err := ev.listArg(at, args[1])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	var unknown *opaque
	for _, x := range elements {
		equal, o, err := ev.equalThunks(args[0], x, 0)
		if err != nil || equal {
			return equal, err
		}
		if o != nil {
			unknown = o
		}
	}
	if unknown != nil {
		return unknown, nil
	}
	return false, nil
}

func builtinLength(ev *evaluator, at pos, args []*thunk) (value, error) {
	elements, o, err := ev.listArg(at, args[0])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	for _, x := range elements {
		if o, ok := x.v.(*opaque); ok && o.rest {
			return o, nil
		}
	}
	return int64(len(elements)), nil
}

func builtinAttrNames(ev *evaluator, at pos, args []*thunk) (value, error) {
	set, o, err := ev.attrsArg(at, args[0])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &list{}
	for _, name := range set.names() {
		out.elements = append(out.elements, ready(text(name)))
	}
	return out, nil
}

func builtinAttrValues(ev *evaluator, at pos, args []*thunk) (value, error) {
	set, o, err := ev.attrsArg(at, args[0])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &list{}
	for _, name := range set.names() {
		out.elements = append(out.elements, set.fields[name])
	}
	return out, nil
}

func builtinMapAttrs(ev *evaluator, at pos, args []*thunk) (value, error) {
	set, o, err := ev.attrsArg(at, args[1])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &attrs{make(map[string]*thunk)}
	for name, t := range set.fields {
		out.fields[name] = ev.later(at, args[0], ready(text(name)), t)
	}
	return out, nil
}

func builtinListToAttrs(ev *evaluator, at pos, args []*thunk) (value, error) {
	elements, o, err := ev.listArg(at, args[0])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &attrs{make(map[string]*thunk)}
	for _, x := range elements {
		pair, o, err := ev.attrsArg(at, x)
		if err != nil || o != nil {
			return o.orNil(), err
		}
		name, v := pair.fields["name"], pair.fields["value"]
		if name == nil || v == nil {
			return nil, at.errorf("listToAttrs needs sets of name and value")
		}
		s, o, err := ev.stringArg(at, name)
		if err != nil || o != nil {
			return o.orNil(), err
		}
		if _, twice := out.fields[s]; !twice {
			out.fields[s] = v
		}
	}
	return out, nil
}

func builtinRemoveAttrs(ev *evaluator, at pos, args []*thunk) (value, error) {
	set, o, err := ev.attrsArg(at, args[0])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	names, o, err := ev.listArg(at, args[1])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &attrs{make(map[string]*thunk)}
	for name, t := range set.fields {
		out.fields[name] = t
	}
	for _, t := range names {
		s, o, err := ev.stringArg(at, t)
		if err != nil || o != nil {
			return o.orNil(), err
		}
		delete(out.fields, s)
	}
	return out, nil
}

func builtinConcatStrings(ev *evaluator, at pos, args []*thunk) (value, error) {
	sep, err := ev.force(args[0])
	if err != nil {
		return nil, err
	}
	between, err := coerce(at, sep)
	if err != nil {
		return nil, err
	}
	elements, o, err := ev.listArg(at, args[1])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &str{}
	for i, x := range elements {
		v, err := ev.force(x)
		if err != nil {
			return nil, err
		}
		s, err := coerce(at, v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.parts = append(out.parts, between.parts...)
		}
		out.parts = append(out.parts, s.parts...)
		if err := ev.spendStr(&str{append(between.parts, s.parts...)}); err != nil {
			return nil, err
		}
	}
	if !slices.ContainsFunc(out.parts, func(p piece) bool { return p.hole != nil }) {
		s, _ := out.known()
		return text(s), nil
	}
	return out, nil
}
