package settings

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/nesting"
)

// toml reads TOML, with the keys of each table sorted and without lines.
func (b *builder) toml(data []byte) (node, error) {
	// The parser calls itself for each level.
	if !nesting.TOML(data, MostDepth) {
		return node{}, ErrBounds
	}
	var file map[string]any
	if err := toml.Unmarshal(data, &file); err != nil {
		return node{}, err
	}
	return b.tomlNode(file, 0)
}

func (b *builder) tomlNode(v any, depth int) (node, error) {
	if err := b.take(depth); err != nil {
		return node{}, err
	}
	switch v := v.(type) {
	case map[string]any:
		n := group(table, 0, make([]node, 0, len(v)))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			c, err := b.tomlNode(v[name], depth+1)
			if err != nil {
				return node{}, err
			}
			c.name = name
			n.children = append(n.children, c)
		}
		return n, nil
	case []any:
		n := group(list, 0, make([]node, 0, len(v)))
		for _, e := range v {
			c, err := b.tomlNode(e, depth+1)
			if err != nil {
				return node{}, err
			}
			n.children = append(n.children, c)
		}
		return n, nil
	case string:
		return node{kind: text, value: v}, nil
	}
	return node{kind: scalar, value: fmt.Sprint(v)}, nil
}
