package nix

import (
	"io/fs"
	"maps"
	"path"
)

func (ev *evaluator) unary(n *unaryNode, e *env) (value, error) {
	x, err := ev.eval(n.x, e)
	if err != nil {
		return nil, err
	}
	switch v := solid(n.pos, x).(type) {
	case *opaque:
		return &opaque{pos: n.pos, label: label(n.op + v.label)}, nil
	case bool:
		if n.op == "!" {
			return !v, nil
		}
	case int64:
		if n.op == "-" {
			return -v, nil
		}
	case float64:
		if n.op == "-" {
			return -v, nil
		}
	}
	return nil, n.errorf("%s of %s", n.op, typeName(x))
}

func (ev *evaluator) binary(n *binaryNode, e *env) (value, error) {
	x, err := ev.eval(n.x, e)
	if err != nil {
		return nil, err
	}
	switch n.op {
	case "&&", "||", "->":
		x = solid(n.pos, x)
		b, ok := x.(bool)
		if o, unknown := x.(*opaque); unknown {
			return &opaque{pos: n.pos, label: o.label}, nil
		}
		if !ok {
			return nil, n.errorf("%s needs a boolean, not %s", n.op, typeName(x))
		}
		switch {
		case n.op == "||" && b, n.op == "->" && !b:
			return true, nil
		case n.op == "&&" && !b:
			return false, nil
		}
		return ev.eval(n.y, e)
	}
	y, err := ev.eval(n.y, e)
	if err != nil {
		return nil, err
	}
	x, y = solid(n.pos, x), solid(n.pos, y)
	if n.op == "++" {
		return ev.concat(n.pos, x, y)
	}
	for _, v := range []value{x, y} {
		o, unknown := v.(*opaque)
		_, isStr := x.(*str)
		if unknown && !(n.op == "+" && isStr) {
			return &opaque{pos: n.pos, label: o.label}, nil
		}
	}
	switch n.op {
	case "==", "!=":
		equal, unknown, err := ev.equal(x, y, 0)
		if err != nil {
			return nil, err
		}
		if unknown != nil {
			return unknown, nil
		}
		return equal == (n.op == "=="), nil
	case "//":
		return ev.update(n.pos, x, y)
	}
	return ev.arithmetic(n, x, y)
}

// concat joins lists. Of an unknown one, its place is kept.
func (ev *evaluator) concat(at pos, x, y value) (value, error) {
	out := &list{}
	for _, v := range []value{x, y} {
		switch v := v.(type) {
		case *list:
			out.elements = append(out.elements, v.elements...)
		case *opaque:
			rest := *v
			rest.rest = true
			out.elements = append(out.elements, ready(&rest))
		default:
			return nil, at.errorf("++ needs lists, not %s", typeName(v))
		}
	}
	return out, ev.step(len(out.elements))
}

// update returns x with the attributes of y in place of its own.
func (ev *evaluator) update(at pos, x, y value) (value, error) {
	a, ok1 := x.(*attrs)
	b, ok2 := y.(*attrs)
	if !ok1 || !ok2 {
		return nil, at.errorf("// needs sets, not %s and %s", typeName(x), typeName(y))
	}
	out := &attrs{make(map[string]*thunk, len(a.fields)+len(b.fields))}
	maps.Copy(out.fields, a.fields)
	maps.Copy(out.fields, b.fields)
	return out, ev.step(len(out.fields))
}

func (ev *evaluator) arithmetic(n *binaryNode, x, y value) (value, error) {
	switch a := x.(type) {
	case int64:
		if b, ok := y.(int64); ok {
			return integers(n, a, b)
		}
		if b, ok := y.(float64); ok {
			return floats(n, float64(a), b)
		}
	case float64:
		if b, ok := y.(int64); ok {
			return floats(n, a, float64(b))
		}
		if b, ok := y.(float64); ok {
			return floats(n, a, b)
		}
	case *str:
		if n.op == "+" {
			b, err := coerce(n.pos, y)
			if err != nil {
				return nil, err
			}
			s := &str{append(a.parts[:len(a.parts):len(a.parts)], b.parts...)}
			return s, ev.spendStr(s)
		}
		b, ok := y.(*str)
		if !ok {
			break
		}
		s, ok1 := a.known()
		t, ok2 := b.known()
		if !ok1 || !ok2 {
			return &opaque{pos: n.pos, label: n.op}, nil
		}
		switch n.op {
		case "<":
			return s < t, nil
		case ">":
			return s > t, nil
		case "<=":
			return s <= t, nil
		case ">=":
			return s >= t, nil
		}
	case pathValue:
		b, ok := y.(*str)
		if !ok || n.op != "+" {
			break
		}
		s, known := b.known()
		joined := path.Join(string(a), s)
		if len(s) > 0 && s[0] != '/' {
			joined = path.Clean(string(a) + s)
		}
		if !known || !fs.ValidPath(joined) {
			return &opaque{pos: n.pos, label: label("./" + string(a) + "…")}, nil
		}
		return pathValue(joined), ev.spend(len(joined))
	}
	return nil, n.errorf("%s of %s and %s", n.op, typeName(x), typeName(y))
}

func integers(n *binaryNode, a, b int64) (value, error) {
	switch n.op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "/":
		if b == 0 || b == -1 && a == -1<<63 {
			return nil, n.errorf("a division by zero")
		}
		return a / b, nil
	case "<":
		return a < b, nil
	case ">":
		return a > b, nil
	case "<=":
		return a <= b, nil
	case ">=":
		return a >= b, nil
	}
	return nil, n.errorf("%s of numbers", n.op)
}

func floats(n *binaryNode, a, b float64) (value, error) {
	switch n.op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "/":
		if b == 0 {
			return nil, n.errorf("a division by zero")
		}
		return a / b, nil
	case "<":
		return a < b, nil
	case ">":
		return a > b, nil
	case "<=":
		return a <= b, nil
	case ">=":
		return a >= b, nil
	}
	return nil, n.errorf("%s of numbers", n.op)
}

// maxEqual bounds how deep values are compared.
const maxEqual = 64

// equal compares two values. Where it depends on something unknown it returns that.
func (ev *evaluator) equal(x, y value, depth int) (bool, *opaque, error) {
	if err := ev.step(1); err != nil || depth > maxEqual {
		return false, &opaque{label: "a comparison"}, err
	}
	for _, v := range []value{x, y} {
		if o, ok := v.(*opaque); ok {
			return false, o, nil
		}
	}
	switch a := x.(type) {
	case *str:
		b, ok := y.(*str)
		if !ok {
			return false, nil, nil
		}
		s, ok1 := a.known()
		t, ok2 := b.known()
		if !ok1 || !ok2 {
			return false, &opaque{label: "a comparison"}, nil
		}
		return s == t, nil, nil
	case *list:
		b, ok := y.(*list)
		if !ok || len(a.elements) != len(b.elements) {
			return false, nil, nil
		}
		for i := range a.elements {
			if equal, unknown, err := ev.equalThunks(a.elements[i], b.elements[i], depth); !equal {
				return false, unknown, err
			}
		}
		return true, nil, nil
	case *attrs:
		b, ok := y.(*attrs)
		if !ok || len(a.fields) != len(b.fields) {
			return false, nil, nil
		}
		for _, name := range a.names() {
			other, ok := b.fields[name]
			if !ok {
				return false, nil, nil
			}
			if equal, unknown, err := ev.equalThunks(a.fields[name], other, depth); !equal {
				return false, unknown, err
			}
		}
		return true, nil, nil
	case int64, float64, bool, null, pathValue:
		if i, ok := x.(int64); ok {
			if f, ok := y.(float64); ok {
				return float64(i) == f, nil, nil
			}
		}
		switch y.(type) {
		case int64, float64, bool, null, pathValue:
			return x == y, nil, nil
		}
		return false, nil, nil
	}
	return false, &opaque{label: "a comparison of " + typeName(x)}, nil
}

func (ev *evaluator) equalThunks(x, y *thunk, depth int) (bool, *opaque, error) {
	a, err := ev.force(x)
	if err != nil {
		return false, nil, err
	}
	b, err := ev.force(y)
	if err != nil {
		return false, nil, err
	}
	return ev.equal(a, b, depth+1)
}
