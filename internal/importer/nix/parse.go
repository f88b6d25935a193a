package nix

import (
	"slices"
	"strconv"
)

// maxNesting bounds expressions within each other.
const maxNesting = 600

// parser reads one file, by recursive descent. It looks one token ahead, and further
// only to tell a function's pattern from a set.
type parser struct {
	src   *source
	pos   int // behind the last token
	depth int

	ahead   token // the token behind pos aheadAt
	aheadAt int   // -1: none
}

// parse returns the expression that a file is.
func parse(src *source) (node, error) {
	p := &parser{src: src, aheadAt: -1}
	n, err := p.expr()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEnd {
		return nil, p.unexpected(t, "the end of the file")
	}
	return n, nil
}

func (p *parser) peek() token {
	if p.aheadAt != p.pos {
		p.ahead, p.aheadAt = p.src.lex(p.pos), p.pos
	}
	return p.ahead
}

func (p *parser) next() token {
	t := p.peek()
	p.pos = t.end
	return t
}

func (p *parser) place(t token) pos { return pos{p.src, t.start} }

func (p *parser) unexpected(t token, want string) error {
	switch t.kind {
	case tokEnd:
		return p.place(t).errorf("the file ends; expected %s", want)
	case tokInvalid:
		return p.place(t).errorf("%s", t.text)
	}
	return p.place(t).errorf("%s; expected %s", quote(t.text), want)
}

// accept takes the next token if it is text.
func (p *parser) accept(text string) bool {
	t := p.peek()
	if !t.is(text) {
		return false
	}
	p.pos = t.end
	return true
}

func (p *parser) expect(text string) error {
	if t := p.next(); !t.is(text) {
		return p.unexpected(t, strconv.Quote(text))
	}
	return nil
}

func isKeyword(word string) bool {
	return slices.Contains([]string{"if", "then", "else", "assert", "with", "let", "in", "rec", "inherit"}, word)
}

// enter counts the nesting. Every way down passes through it.
func (p *parser) enter(t token) error {
	if p.depth++; p.depth > maxNesting {
		return p.place(t).errorf("more than %d expressions within each other", maxNesting)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// expr reads a whole expression.
func (p *parser) expr() (node, error) {
	t := p.peek()
	if err := p.enter(t); err != nil {
		return nil, err
	}
	defer p.leave()
	at := p.place(t)
	switch {
	case t.is("let"):
		p.next()
		return p.let(at)
	case t.is("with"):
		p.next()
		set, body, err := p.pair(";")
		return &withNode{at, set, body}, err
	case t.is("assert"):
		p.next()
		cond, body, err := p.pair(";")
		return &assertNode{at, cond, body}, err
	case t.is("if"):
		p.next()
		cond, yes, err := p.pair("then")
		if err != nil {
			return nil, err
		}
		if err := p.expect("else"); err != nil {
			return nil, err
		}
		no, err := p.expr()
		return &ifNode{at, cond, yes, no}, err
	case p.isLambda(t):
		return p.lambda(at)
	}
	return p.binary(0)
}

// pair reads two expressions with a token between them.
func (p *parser) pair(between string) (x, y node, err error) {
	if x, err = p.expr(); err != nil {
		return nil, nil, err
	}
	if err = p.expect(between); err != nil {
		return nil, nil, err
	}
	y, err = p.expr()
	return x, y, err
}

func (p *parser) let(at pos) (node, error) {
	set := &attrsNode{pos: at, rec: true}
	if err := p.bindings(set, "in"); err != nil {
		return nil, err
	}
	body, err := p.expr()
	return &letNode{at, set, body}, err
}

// isLambda reports whether a function begins with t.
func (p *parser) isLambda(t token) bool {
	second := p.src.lex(t.end)
	switch {
	case t.kind == tokWord && !isKeyword(t.text):
		return second.is(":") || second.is("@")
	case !t.is("{"):
		return false
	case second.is("..."):
		return true
	}
	third := p.src.lex(second.end)
	if second.is("}") {
		return third.is(":") || third.is("@")
	}
	if second.kind != tokWord {
		return false
	}
	return third.is(",") || third.is("?") || third.is("}")
}

func (p *parser) lambda(at pos) (node, error) {
	f := &lambdaNode{pos: at}
	if t := p.peek(); t.kind == tokWord {
		f.arg = p.next().text
		if p.accept("@") {
			if err := p.pattern(f); err != nil {
				return nil, err
			}
		}
	} else {
		if err := p.pattern(f); err != nil {
			return nil, err
		}
		if p.accept("@") {
			t := p.next()
			if t.kind != tokWord || isKeyword(t.text) {
				return nil, p.unexpected(t, "a name")
			}
			f.arg = t.text
		}
	}
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	body, err := p.expr()
	f.body = body
	return f, err
}

// pattern reads { a, b ? x, ... }.
func (p *parser) pattern(f *lambdaNode) error {
	f.pattern = true
	if err := p.expect("{"); err != nil {
		return err
	}
	for !p.accept("}") {
		t := p.next()
		switch {
		case t.is("..."):
			f.ellipsis = true
		case t.kind == tokWord && !isKeyword(t.text):
			one := formal{name: t.text}
			if slices.ContainsFunc(f.formals, func(o formal) bool { return o.name == one.name }) {
				return p.place(t).errorf("the parameter %s is there twice", quote(t.text))
			}
			if p.accept("?") {
				def, err := p.expr()
				if err != nil {
					return err
				}
				one.def = def
			}
			f.formals = append(f.formals, one)
		default:
			return p.unexpected(t, "a parameter")
		}
		if !p.accept(",") && !p.peek().is("}") {
			return p.unexpected(p.peek(), `"," or "}"`)
		}
	}
	return nil
}

// operator is a binary operator, or "?".
type operator struct {
	level int // higher binds tighter
	right bool
}

var operators = map[string]operator{
	"->": {1, true}, "||": {2, false}, "&&": {3, false},
	"==": {4, false}, "!=": {4, false},
	"<": {5, false}, ">": {5, false}, "<=": {5, false}, ">=": {5, false},
	"//": {6, true}, // 7 is "!"
	"+":  {8, false}, "-": {8, false}, "*": {9, false}, "/": {9, false},
	"++": {10, true}, "?": {11, false}, // 12 is the negative sign
}

// binary reads operators of a level and above.
func (p *parser) binary(level int) (node, error) {
	t := p.peek()
	if err := p.enter(t); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.unary()
	if err != nil {
		return nil, err
	}
	for {
		t := p.peek()
		op, ok := operators[t.text]
		if t.kind != tokPunct || !ok || op.level < level {
			return x, nil
		}
		p.next()
		at := p.place(t)
		if t.text == "?" {
			path, err := p.attrPath()
			if err != nil {
				return nil, err
			}
			x = &hasNode{at, x, path}
			continue
		}
		below := op.level + 1
		if op.right {
			below = op.level
		}
		y, err := p.binary(below)
		if err != nil {
			return nil, err
		}
		x = &binaryNode{at, t.text, x, y}
	}
}

func (p *parser) unary() (node, error) {
	t := p.peek()
	level := 0
	switch {
	case t.is("!"):
		level = 8 // binds looser than arithmetic
	case t.is("-"):
		level = 12
	default:
		return p.apply()
	}
	p.next()
	x, err := p.binary(level)
	return &unaryNode{p.place(t), t.text, x}, err
}

// apply reads a function and its arguments.
func (p *parser) apply() (node, error) {
	f, err := p.selection()
	if err != nil {
		return nil, err
	}
	for p.beginsOperand(p.peek()) {
		at := p.place(p.peek())
		x, err := p.selection()
		if err != nil {
			return nil, err
		}
		f = &applyNode{at, f, x}
	}
	return f, nil
}

func (p *parser) beginsOperand(t token) bool {
	switch t.kind {
	case tokInt, tokFloat, tokPath, tokSearch, tokURI:
		return true
	case tokWord:
		return !isKeyword(t.text) && t.text != "or" || t.text == "rec"
	case tokPunct:
		return slices.Contains([]string{"{", "(", "[", "\"", "''"}, t.text)
	}
	return false
}

// selection reads an operand and the attributes taken from it.
func (p *parser) selection() (node, error) {
	if err := p.enter(p.peek()); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.operand()
	if err != nil {
		return nil, err
	}
	for p.peek().is(".") {
		at := p.place(p.next())
		path, err := p.attrPath()
		if err != nil {
			return nil, err
		}
		sel := &selectNode{at, x, path, nil}
		if p.accept("or") {
			if sel.or, err = p.selection(); err != nil {
				return nil, err
			}
		}
		x = sel
	}
	return x, nil
}

// operand reads what has no operator outside of brackets.
func (p *parser) operand() (node, error) {
	t := p.next()
	at := p.place(t)
	switch {
	case t.kind == tokInt:
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, at.errorf("%s is too large a number", quote(t.text))
		}
		return &intNode{at, n}, nil
	case t.kind == tokFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			return nil, at.errorf("%s is no number", quote(t.text))
		}
		return &floatNode{at, f}, nil
	case t.kind == tokURI:
		return &strNode{at, []strPart{{text: t.text}}}, nil
	case t.kind == tokSearch:
		return &opaqueNode{at, t.text}, nil
	case t.kind == tokPath:
		return p.path(t)
	case t.is("rec"):
		if err := p.expect("{"); err != nil {
			return nil, err
		}
		set := &attrsNode{pos: at, rec: true}
		return set, p.bindings(set, "}")
	case t.is("{"):
		set := &attrsNode{pos: at}
		return set, p.bindings(set, "}")
	case t.is("["):
		return p.list(at)
	case t.is("("):
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		return x, p.expect(")")
	case t.is("\""):
		return p.quoted(at)
	case t.is("''"):
		return p.indented(at)
	case t.kind == tokWord && !isKeyword(t.text):
		return &varNode{at, t.text}, nil
	}
	return nil, p.unexpected(t, "an expression")
}

// path reads a path. One with expressions in it is read and not evaluated.
func (p *parser) path(t token) (node, error) {
	at := p.place(t)
	text := p.src.text
	if len(text) < p.pos+2 || text[p.pos:p.pos+2] != "${" {
		return &pathNode{at, t.text}, nil
	}
	for p.pos < len(text) {
		switch {
		case len(text) >= p.pos+2 && text[p.pos:p.pos+2] == "${":
			p.pos += 2
			if _, err := p.expr(); err != nil {
				return nil, err
			}
			if err := p.expect("}"); err != nil {
				return nil, err
			}
		case isPathChar(text[p.pos]) || text[p.pos] == '/':
			p.pos++
		default:
			return &opaqueNode{at, t.text + "…"}, nil
		}
	}
	return &opaqueNode{at, t.text + "…"}, nil
}

func (p *parser) list(at pos) (node, error) {
	list := &listNode{pos: at}
	for !p.accept("]") {
		if t := p.peek(); !p.beginsOperand(t) {
			return nil, p.unexpected(t, `a list's element or "]"`)
		}
		x, err := p.selection()
		if err != nil {
			return nil, err
		}
		list.elements = append(list.elements, x)
	}
	return list, nil
}
