package nix

// libNamed returns a function that only nixpkgs' lib has, or nil.
func libNamed(name string, set func(int, func(*evaluator, pos, []*thunk) (value, error)) *builtin) *builtin {
	wrap := func(priority int) *builtin {
		return set(1, func(_ *evaluator, _ pos, args []*thunk) (value, error) {
			return &wrapper{contents: args, priority: priority}, nil
		})
	}
	switch name {
	case "mkDefault":
		return wrap(1000)
	case "mkOptionDefault":
		return wrap(1500)
	case "mkForce":
		return wrap(50)
	case "mkVMOverride":
		return wrap(10)
	case "mkBefore", "mkAfter":
		// The order of definitions is not kept.
		return wrap(0)
	case "mkOrder":
		return set(2, func(_ *evaluator, _ pos, args []*thunk) (value, error) {
			return &wrapper{contents: args[1:]}, nil
		})
	case "mkOverride":
		return set(2, func(ev *evaluator, at pos, args []*thunk) (value, error) {
			v, err := ev.force(args[0])
			if err != nil {
				return nil, err
			}
			n, ok := v.(int64)
			if !ok || n < 1 || n > 1<<20 {
				return nil, at.errorf("a priority must be a number, not %s", typeName(v))
			}
			return &wrapper{contents: args[1:], priority: int(n)}, nil
		})
	case "mkIf":
		return set(2, func(_ *evaluator, _ pos, args []*thunk) (value, error) {
			return &wrapper{cond: args[0], contents: args[1:]}, nil
		})
	case "mkMerge":
		return set(1, func(ev *evaluator, at pos, args []*thunk) (value, error) {
			elements, o, err := ev.listArg(at, args[0])
			if err != nil || o != nil {
				return o.orNil(), err
			}
			return &wrapper{contents: elements}, nil
		})
	case "mkOption":
		return set(1, func(ev *evaluator, _ pos, args []*thunk) (value, error) { return ev.force(args[0]) })
	case "mkEnableOption":
		return set(1, func(*evaluator, pos, []*thunk) (value, error) {
			return &attrs{map[string]*thunk{"default": ready(false)}}, nil
		})
	case "optional":
		return set(2, optional(func(args []*thunk) value { return &list{args[1:]} }, &list{}))
	case "optionals":
		return set(2, optional(nil, &list{}))
	case "optionalString":
		return set(2, optional(nil, text("")))
	case "optionalAttrs":
		return set(2, optional(nil, &attrs{}))
	case "genAttrs":
		return set(2, libGenAttrs)
	case "nameValuePair":
		return set(2, func(_ *evaluator, _ pos, args []*thunk) (value, error) {
			return &attrs{map[string]*thunk{"name": args[0], "value": args[1]}}, nil
		})
	case "concatStrings":
		return set(1, func(ev *evaluator, at pos, args []*thunk) (value, error) {
			return builtinConcatStrings(ev, at, []*thunk{ready(text("")), args[0]})
		})
	case "flatten":
		return set(1, func(ev *evaluator, at pos, args []*thunk) (value, error) {
			out := &list{}
			return out, ev.flatten(at, args[0], out, 0)
		})
	case "id":
		return set(1, func(ev *evaluator, _ pos, args []*thunk) (value, error) { return ev.force(args[0]) })
	}
	return nil
}

// optional is a function of a condition and a value: that, or none.
func optional(some func([]*thunk) value, none value) func(*evaluator, pos, []*thunk) (value, error) {
	return func(ev *evaluator, at pos, args []*thunk) (value, error) {
		cond, err := ev.force(args[0])
		if err != nil {
			return nil, err
		}
		switch cond := solid(at, cond).(type) {
		case bool:
			switch {
			case !cond:
				return none, nil
			case some != nil:
				return some(args), nil
			}
			return ev.force(args[1])
		case *opaque:
			return &opaque{pos: at, label: label("what depends on " + cond.label)}, nil
		}
		return nil, at.errorf("needs a boolean, not %s", typeName(cond))
	}
}

func libGenAttrs(ev *evaluator, at pos, args []*thunk) (value, error) {
	names, o, err := ev.listArg(at, args[0])
	if err != nil || o != nil {
		return o.orNil(), err
	}
	out := &attrs{make(map[string]*thunk)}
	for _, t := range names {
		s, o, err := ev.stringArg(at, t)
		if err != nil || o != nil {
			return o.orNil(), err
		}
		out.fields[s] = ev.later(at, args[1], t)
	}
	return out, nil
}

func (ev *evaluator) flatten(at pos, t *thunk, out *list, depth int) error {
	if err := ev.step(1); err != nil {
		return err
	}
	v, err := ev.force(t)
	if err != nil {
		return err
	}
	l, ok := v.(*list)
	if !ok || depth > maxNesting {
		out.elements = append(out.elements, t)
		return nil
	}
	for _, x := range l.elements {
		if err := ev.flatten(at, x, out, depth+1); err != nil {
			return err
		}
	}
	return nil
}
