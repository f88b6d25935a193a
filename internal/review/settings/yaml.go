package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yaml reads all documents of a file.
func (b *builder) yaml(data []byte) (node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs []node
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return node{}, err
		}
		n, err := b.yamlNode(&doc, 0)
		if err != nil {
			return node{}, err
		}
		docs = append(docs, n)
	}
	switch len(docs) {
	case 0:
		return node{kind: table}, nil
	case 1:
		return docs[0], nil
	}
	return group(list, 1, docs), nil
}

// yamlNode converts a node. An alias is converted each time that it is used, which
// the bounds count: what grows out of few bytes, or contains itself, ends in an error.
func (b *builder) yamlNode(y *yaml.Node, depth int) (node, error) {
	if err := b.take(depth); err != nil {
		return node{}, err
	}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) != 1 {
			return node{}, errors.New("a document that is not one value")
		}
		return b.yamlNode(y.Content[0], depth)
	case yaml.AliasNode:
		return b.yamlNode(y.Alias, depth+1)
	case yaml.SequenceNode:
		n := group(list, y.Line, make([]node, 0, len(y.Content)))
		for _, e := range y.Content {
			c, err := b.yamlNode(e, depth+1)
			if err != nil {
				return node{}, err
			}
			n.children = append(n.children, c)
		}
		return tagged(n, y), nil
	case yaml.MappingNode:
		n := group(table, y.Line, make([]node, 0, len(y.Content)/2))
		var merged []node
		for i := 0; i+1 < len(y.Content); i += 2 {
			m, err := b.yamlPair(&n, y.Content[i], y.Content[i+1], depth+1)
			if err != nil {
				return node{}, err
			}
			merged = append(merged, m...)
		}
		if err := unique(n.children); err != nil {
			return node{}, err
		}
		n.children = append(n.children, merged...)
		return tagged(n, y), nil
	case yaml.ScalarNode:
		n := node{kind: scalar, value: y.Value, line: y.Line}
		if y.ShortTag() == "!!str" {
			n.kind = text
		}
		return tagged(n, y), nil
	}
	return node{}, fmt.Errorf("line %d: no value", y.Line)
}

// yamlPair adds a key with its value, or returns what "<<" merges: it counts as if it were
// written there.
func (b *builder) yamlPair(to *node, key, value *yaml.Node, depth int) ([]node, error) {
	c, err := b.yamlNode(value, depth)
	if err != nil {
		return nil, err
	}
	if key.Kind == yaml.AliasNode {
		key = key.Alias
	}
	if key.Kind != yaml.ScalarNode {
		return nil, fmt.Errorf("line %d: a key that is no text", key.Line)
	}
	if key.Value != "<<" {
		c.name = key.Value
		to.children = append(to.children, c)
		return nil, nil
	}
	tables := []node{c}
	if c.kind == list {
		tables = c.children
	}
	var merged []node
	for _, m := range tables {
		if m.kind != table {
			return nil, fmt.Errorf("line %d: what is merged is no mapping", key.Line)
		}
		merged = append(merged, m.children...)
	}
	return merged, nil
}

// tagged keeps a tag of the file's own, which may have the program that reads it do
// something else with the value.
func tagged(n node, y *yaml.Node) node {
	tag := y.ShortTag()
	if y.Style&yaml.TaggedStyle == 0 || strings.HasPrefix(tag, "!!") && len(tag) < 12 && !strings.ContainsAny(tag, "/:.") {
		return n
	}
	if len(n.children) == 0 {
		n.value = tag + " " + n.value
		return n
	}
	n.name = ""
	return group(table, n.line, []node{{kind: n.kind, name: tag, line: n.line, children: n.children}})
}
