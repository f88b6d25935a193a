package settings

import (
	"bytes"
	"fmt"

	"github.com/tailscale/hujson"

	"github.com/mayfly-vm/mayfly/internal/nesting"
)

// json reads JSON, with what editors allow besides: comments, and a comma at the end.
func (b *builder) json(data []byte) (node, error) {
	// The parser calls itself for each level.
	if !nesting.JSON(data, MostDepth) {
		return node{}, ErrBounds
	}
	v, err := hujson.Parse(data)
	if err != nil {
		return node{}, err
	}
	j := jsonReader{builder: b, data: data, line: 1}
	return j.node(v, 0)
}

type jsonReader struct {
	*builder
	data   []byte
	line   int // at offset
	offset int
}

// node is called in the order of the file, so that lines are counted once.
func (j *jsonReader) node(v hujson.Value, depth int) (node, error) {
	if err := j.take(depth); err != nil {
		return node{}, err
	}
	j.line += bytes.Count(j.data[j.offset:v.StartOffset], []byte("\n"))
	j.offset = v.StartOffset
	line := j.line
	switch v := v.Value.(type) {
	case hujson.Literal:
		n := node{kind: scalar, value: string(v), line: line}
		if v.Kind() == '"' {
			n.kind, n.value = text, v.String()
		}
		return n, nil
	case *hujson.Object:
		children := make([]node, 0, len(v.Members))
		for _, m := range v.Members {
			name, ok := m.Name.Value.(hujson.Literal)
			if !ok {
				return node{}, fmt.Errorf("line %d: a key that is no string", line)
			}
			c, err := j.node(m.Value, depth+1)
			if err != nil {
				return node{}, err
			}
			c.name = name.String()
			children = append(children, c)
		}
		if err := unique(children); err != nil {
			return node{}, err
		}
		return group(table, line, children), nil
	case *hujson.Array:
		children := make([]node, 0, len(v.Elements))
		for _, e := range v.Elements {
			c, err := j.node(e, depth+1)
			if err != nil {
				return node{}, err
			}
			children = append(children, c)
		}
		return group(list, line, children), nil
	}
	return node{}, fmt.Errorf("line %d: no value", line)
}
