package nix

import "strings"

// bindings reads the attributes of a set, to the token that ends them.
func (p *parser) bindings(set *attrsNode, end string) error {
	if err := p.enter(p.peek()); err != nil {
		return err
	}
	defer p.leave()
	for !p.accept(end) {
		if p.accept("inherit") {
			if err := p.inherit(set); err != nil {
				return err
			}
			continue
		}
		at := p.place(p.peek())
		path, err := p.attrPath()
		if err != nil {
			return err
		}
		if err := p.expect("="); err != nil {
			return err
		}
		value, err := p.expr()
		if err != nil {
			return err
		}
		if err := p.expect(";"); err != nil {
			return err
		}
		if err := set.bind(at, path, value); err != nil {
			return err
		}
	}
	return nil
}

// inherit reads what follows that word: names, or a set in brackets and names.
func (p *parser) inherit(set *attrsNode) error {
	var from node
	if p.accept("(") {
		var err error
		if from, err = p.expr(); err != nil {
			return err
		}
		if err := p.expect(")"); err != nil {
			return err
		}
	}
	for !p.accept(";") {
		at := p.place(p.peek())
		one, err := p.attrName()
		if err != nil {
			return err
		}
		if one.expr != nil {
			return at.errorf("inherit takes names only")
		}
		f := field{at, one.name, &varNode{at, one.name}, true}
		if from != nil {
			f.value, f.outer = &selectNode{at, from, []attrName{one}, nil}, false
		}
		if err := set.add(f); err != nil {
			return err
		}
	}
	return nil
}

// attrPath reads a.b.${c}."d".
func (p *parser) attrPath() ([]attrName, error) {
	var path []attrName
	for {
		one, err := p.attrName()
		if err != nil {
			return nil, err
		}
		path = append(path, one)
		if len(path) > maxNesting {
			return nil, p.place(p.peek()).errorf("a path of more than %d attributes", maxNesting)
		}
		if !p.accept(".") {
			return path, nil
		}
	}
}

func (p *parser) attrName() (attrName, error) {
	t := p.next()
	switch {
	case t.kind == tokWord && (!isKeyword(t.text) || t.text == "or"):
		return attrName{name: t.text}, nil
	case t.is("\""):
		s, err := p.quoted(p.place(t))
		if err != nil {
			return attrName{}, err
		}
		if text, ok := s.constant(); ok {
			return attrName{name: text}, nil
		}
		return attrName{expr: s}, nil
	case t.is("${"):
		x, err := p.expr()
		if err != nil {
			return attrName{}, err
		}
		if s, ok := x.(*strNode); ok {
			if text, ok := s.constant(); ok {
				return attrName{name: text}, p.expect("}")
			}
		}
		return attrName{expr: x}, p.expect("}")
	}
	return attrName{}, p.unexpected(t, "an attribute's name")
}

// constant returns a string without expressions.
func (s *strNode) constant() (string, bool) {
	var b strings.Builder
	for _, part := range s.parts {
		if part.expr != nil {
			return "", false
		}
		b.WriteString(part.text)
	}
	return b.String(), true
}

// bind adds path = value; a.b = x and a.c = y make one set a.
func (set *attrsNode) bind(at pos, path []attrName, value node) error {
	first, rest := path[0], path[1:]
	if len(rest) > 0 {
		if i, ok := set.index[first.name]; ok && first.expr == nil {
			inner, ok := set.fields[i].value.(*attrsNode)
			if !ok || set.fields[i].outer {
				return at.errorf("the attribute %s is there twice", quote(first.name))
			}
			return inner.bind(at, rest, value)
		}
		inner := &attrsNode{pos: at}
		if err := inner.bind(at, rest, value); err != nil {
			return err
		}
		value = inner
	}
	if first.expr != nil {
		set.dynamic = append(set.dynamic, dynamicField{at, first.expr, value})
		return nil
	}
	return set.add(field{at, first.name, value, false})
}

// add adds one attribute. Two sets that are written out become one.
func (set *attrsNode) add(f field) error {
	if set.index == nil {
		set.index = make(map[string]int)
	}
	i, ok := set.index[f.name]
	if !ok {
		set.index[f.name] = len(set.fields)
		set.fields = append(set.fields, f)
		return nil
	}
	old, ok1 := set.fields[i].value.(*attrsNode)
	more, ok2 := f.value.(*attrsNode)
	if !ok1 || !ok2 || set.fields[i].outer || f.outer || old.rec || more.rec {
		return f.pos.errorf("the attribute %s is there twice", quote(f.name))
	}
	for _, inner := range more.fields {
		if err := old.add(inner); err != nil {
			return err
		}
	}
	old.dynamic = append(old.dynamic, more.dynamic...)
	return nil
}

// quoted reads a string in double quotes, of which the first is taken.
func (p *parser) quoted(at pos) (*strNode, error) {
	s := &strNode{pos: at}
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			s.parts = append(s.parts, strPart{text: b.String()})
			b.Reset()
		}
	}
	text := p.src.text
	for p.pos < len(text) {
		switch c := text[p.pos]; {
		case c == '"':
			p.pos++
			flush()
			return s, nil
		case c == '\\' && p.pos+1 < len(text):
			b.WriteByte(unescape(text[p.pos+1]))
			p.pos += 2
		case strings.HasPrefix(text[p.pos:], "$$"):
			b.WriteString("$$")
			p.pos += 2
		case strings.HasPrefix(text[p.pos:], "${"):
			flush()
			x, err := p.interpolation()
			if err != nil {
				return nil, err
			}
			s.parts = append(s.parts, strPart{expr: x})
		default:
			b.WriteByte(c)
			p.pos++
		}
	}
	return nil, at.errorf("a string without an end")
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	}
	return c
}

func (p *parser) interpolation() (node, error) {
	p.pos += len("${")
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	return x, p.expect("}")
}

// indented reads a string in pairs of single quotes, of which the first is taken.
func (p *parser) indented(at pos) (*strNode, error) {
	var parts []strPart
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			parts = append(parts, strPart{text: b.String()})
			b.Reset()
		}
	}
	escaped := func(s string, n int) {
		flush()
		parts = append(parts, strPart{text: s, escaped: true})
		p.pos += n
	}
	text := p.src.text
	// The rest of the first line is no content if it is blank.
	if end := span(text, p.pos, func(c byte) bool { return c == ' ' }); end < len(text) && text[end] == '\n' {
		p.pos = end + 1
	}
	for p.pos < len(text) {
		switch rest := text[p.pos:]; {
		case strings.HasPrefix(rest, "''$"):
			escaped("$", 3)
		case strings.HasPrefix(rest, "'''"):
			escaped("''", 3)
		case strings.HasPrefix(rest, `''\`) && len(rest) > 3:
			escaped(string(unescape(rest[3])), 4)
		case strings.HasPrefix(rest, "''"):
			p.pos += 2
			flush()
			return &strNode{at, unindent(parts)}, nil
		case strings.HasPrefix(rest, "$$"):
			b.WriteString("$$")
			p.pos += 2
		case strings.HasPrefix(rest, "${"):
			flush()
			x, err := p.interpolation()
			if err != nil {
				return nil, err
			}
			parts = append(parts, strPart{expr: x})
		default:
			b.WriteByte(rest[0])
			p.pos++
		}
	}
	return nil, at.errorf("a string without an end")
}

// unindent removes from each line the blanks that all lines begin with, as Nix
// does: lines of nothing but blanks do not count.
func unindent(parts []strPart) []strPart {
	least, current, lineStart := 1<<30, 0, true
	for _, part := range parts {
		if part.expr != nil || part.escaped {
			if lineStart {
				least, lineStart = min(least, current), false
			}
			continue
		}
		for i := range len(part.text) {
			switch c := part.text[i]; {
			case c == '\n':
				current, lineStart = 0, true
			case lineStart && c == ' ':
				current++
			case lineStart:
				least, lineStart = min(least, current), false
			}
		}
	}
	dropped, lineStart := 0, true
	out := make([]strPart, 0, len(parts))
	for i, part := range parts {
		if part.expr != nil || part.escaped {
			dropped, lineStart = 0, false
			out = append(out, part)
			continue
		}
		var b strings.Builder
		for i := range len(part.text) {
			c := part.text[i]
			switch {
			case c == '\n':
				dropped, lineStart = 0, true
			case lineStart && c == ' ' && dropped < least:
				dropped++
				continue
			case lineStart && c == ' ':
			default:
				lineStart = false
			}
			b.WriteByte(c)
		}
		text := b.String()
		if i == len(parts)-1 {
			// The last line is only the indentation of the quotes.
			if n := strings.LastIndexByte(text, '\n'); n >= 0 && strings.Trim(text[n+1:], " ") == "" {
				text = text[:n+1]
			}
		}
		out = append(out, strPart{text: text})
	}
	return out
}
