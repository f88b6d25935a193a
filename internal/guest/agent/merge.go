package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// mergeJSON returns the JSON object file, which a program keeps its settings in,
// with must and defaults in it, which are objects or empty. Objects in objects
// are merged likewise. Of must everything holds, of defaults what file says
// nothing of. Then items are put into their lists. changed is false if all that
// was so before.
func mergeJSON(file, must, defaults []byte, items []listItem) (merged []byte, changed bool, err error) {
	object := make(map[string]any)
	if len(bytes.TrimSpace(file)) > 0 {
		if object, err = decodeObject(file); err != nil {
			return nil, false, err
		}
	}
	for _, seed := range []struct {
		json  []byte
		holds bool
	}{{must, true}, {defaults, false}} {
		if len(seed.json) == 0 {
			continue
		}
		from, err := decodeObject(seed.json)
		if err != nil {
			return nil, false, fmt.Errorf("settings: %w", err)
		}
		changed = mergeObject(object, from, seed.holds) || changed
	}
	for _, item := range items {
		changed = item.put(object) || changed
	}
	if !changed {
		return file, false, nil
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(object); err != nil {
		return nil, false, err
	}
	return out.Bytes(), true, nil
}

// mergeObject puts from into object and reports whether that changed it.
func mergeObject(object, from map[string]any, holds bool) (changed bool) {
	for key, value := range from {
		old, there := object[key]
		inner, isObject := value.(map[string]any)
		if oldInner, ok := old.(map[string]any); ok && isObject {
			changed = mergeObject(oldInner, inner, holds) || changed
			continue
		}
		if there && (!holds || equalJSON(old, value)) {
			continue
		}
		object[key] = value
		changed = true
	}
	return changed
}

// listItem is a value that is to be in the list to which keys lead.
type listItem struct {
	keys  []string
	value any
}

// put puts the item into its list and reports whether that changed object. What
// is no object on the way, or no list at its end, is replaced.
func (i listItem) put(object map[string]any) (changed bool) {
	for n, key := range i.keys {
		if n == len(i.keys)-1 {
			list, _ := object[key].([]any)
			if slices.ContainsFunc(list, func(old any) bool { return equalJSON(old, i.value) }) {
				return false
			}
			object[key] = append(list, i.value)
			return true
		}
		inner, ok := object[key].(map[string]any)
		if !ok {
			inner = make(map[string]any)
			object[key] = inner
		}
		object = inner
	}
	return false
}

// equalJSON compares values as they are written: numbers by their digits.
func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// decodeObject reads one JSON object and nothing after it. Numbers keep their
// digits.
func decodeObject(data []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, errors.New("null is no object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("there is more than one value")
	}
	return object, nil
}
