package nix

// node is an expression. Each kind of it has a type below.
type node interface{ at() pos }

func (p pos) at() pos { return p }

type (
	intNode struct {
		pos
		v int64
	}
	floatNode struct {
		pos
		v float64
	}
	// strNode is a string in pieces: text, or an expression to put in.
	strNode struct {
		pos
		parts []strPart
	}
	pathNode struct {
		pos
		text string
	}
	// opaqueNode is what is read and not evaluated.
	opaqueNode struct {
		pos
		label string
	}
	varNode struct {
		pos
		name string
	}
	selectNode struct {
		pos
		x    node
		path []attrName
		or   node // nil: a missing attribute is an error
	}
	hasNode struct {
		pos
		x    node
		path []attrName
	}
	applyNode struct {
		pos
		f, x node
	}
	lambdaNode struct {
		pos
		arg      string // "": none
		pattern  bool
		formals  []formal
		ellipsis bool
		body     node
	}
	letNode struct {
		pos
		set  *attrsNode // recursive
		body node
	}
	withNode struct {
		pos
		set, body node
	}
	ifNode struct {
		pos
		cond, yes, no node
	}
	assertNode struct {
		pos
		cond, body node
	}
	unaryNode struct {
		pos
		op string
		x  node
	}
	binaryNode struct {
		pos
		op   string
		x, y node
	}
	listNode struct {
		pos
		elements []node
	}
	attrsNode struct {
		pos
		rec     bool
		fields  []field
		index   map[string]int // of fields
		dynamic []dynamicField
	}
)

type strPart struct {
	text    string
	expr    node // nil: text
	escaped bool // the text was written as an escape
}

// formal is one parameter of a pattern.
type formal struct {
	name string
	def  node // nil: required
}

// attrName is one part of an attribute's path.
type attrName struct {
	name string
	expr node // not nil: the name is its value
}

// field is an attribute with a name that is written out.
type field struct {
	pos   pos
	name  string
	value node
	outer bool // inherited: evaluated outside of the set
}

// dynamicField is an attribute whose name is an expression.
type dynamicField struct {
	pos   pos
	name  node
	value node
}
