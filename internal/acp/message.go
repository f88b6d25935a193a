package acp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxMessage is how many bytes a message may have, without the end of its line.
const MaxMessage = 16 << 20

const (
	mostDepth  = 64      // objects and lists within each other
	mostValues = 1 << 18 // of one message: each costs many times its bytes
	mostNumber = 64      // bytes of a number
	mostID     = 256     // bytes of an id
)

// object is a JSON object whose names are all different.
type object = map[string]any

// message is one of JSON-RPC.
type message struct {
	id     any    // string, json.Number, or nil for none
	method string // "" for an answer
	params any    // object, list, or nil for none
	result any    // of an answer that is no error
	err    any    // object, or nil
}

// parse reads a message. It is strict where readers differ: a name that is there twice is an
// error, and so is what is no UTF-8.
func parse(line []byte) (message, error) {
	v, err := parseValue(line)
	if err != nil {
		return message{}, err
	}
	o, ok := v.(object)
	if !ok {
		return message{}, errors.New("it is no object")
	}
	return newMessage(o)
}

// newMessage takes from o what JSON-RPC knows, and nothing else.
func newMessage(o object) (message, error) {
	var m message
	if o["jsonrpc"] != "2.0" {
		return m, errors.New("it is not JSON-RPC 2.0")
	}
	switch id := o["id"].(type) {
	case nil:
	case string:
		if len(id) > mostID || strings.ContainsFunc(id, hidden) {
			return m, errors.New("its id is too long, or has what is not seen")
		}
		m.id = id
	case json.Number:
		if _, err := strconv.ParseInt(string(id), 10, 64); err != nil {
			return m, errors.New("its id is no whole number")
		}
		m.id = id
	default:
		return m, errors.New("its id is neither a number nor a text")
	}
	method, isCall := o["method"]
	result, hasResult := o["result"]
	failure, hasError := o["error"]
	switch {
	case isCall && !hasResult && !hasError:
		if m.method, _ = method.(string); m.method == "" {
			return m, errors.New("its method is no name")
		}
		switch p := o["params"].(type) {
		case nil:
		case object, []any:
			m.params = p
		default:
			return m, errors.New("its params are neither an object nor a list")
		}
	case !isCall && hasResult != hasError:
		if m.id == nil {
			return m, errors.New("it answers no call")
		}
		m.result = result
		if hasError {
			e, ok := failure.(object)
			if !ok {
				return m, errors.New("its error is no object")
			}
			m.err = e
		}
	default:
		return m, errors.New("it is neither a call nor an answer")
	}
	return m, nil
}

// encode returns the line of m.
func (m message) encode() []byte {
	o := object{"jsonrpc": "2.0"}
	if m.id != nil {
		o["id"] = m.id
	}
	switch {
	case m.method != "":
		o["method"] = m.method
		if m.params != nil {
			o["params"] = m.params
		}
	case m.err != nil:
		o["id"], o["error"] = m.id, m.err // null where the call could not be read
	default:
		o["result"] = m.result
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		panic(err) // of values that parseValue made: cannot be
	}
	return b.Bytes()
}

// key returns a name for the id of m, for the table of calls that have no answer yet.
func (m message) key() string {
	if n, ok := m.id.(json.Number); ok {
		i, _ := n.Int64() // -0 is 0
		return strconv.FormatInt(i, 10)
	}
	s, _ := m.id.(string)
	return strconv.Quote(s)
}

// The errors of JSON-RPC.
const (
	codeParse   = -32700
	codeInvalid = -32600
	codeMethod  = -32601
	codeParams  = -32602
	codeFailed  = -32603
)

// failure is an answer to the call id, nil for one that could not be read.
func failure(id any, code int, format string, args ...any) []byte {
	return message{id: id, err: object{"code": code, "message": "mayfly: " + fmt.Sprintf(format, args...)}}.encode()
}

// parseValue reads one JSON value: object, list, string, json.Number, bool or nil.
func parseValue(line []byte) (any, error) {
	switch {
	case len(line) > MaxMessage:
		return nil, fmt.Errorf("it has more than %d bytes", MaxMessage)
	case !utf8.Valid(line):
		return nil, errors.New("it is not UTF-8")
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(line))}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return nil, errors.New("more follows on its line")
	}
	return v, nil
}

// parser reads values within bounds.
type parser struct {
	dec    *json.Decoder
	values int
}

var errNotJSON = errors.New("it is not JSON")

func (p *parser) value(depth int) (any, error) {
	if p.values++; p.values > mostValues {
		return nil, fmt.Errorf("it has more than %d values", mostValues)
	}
	t, err := p.dec.Token()
	if err != nil {
		return nil, errNotJSON
	}
	switch t := t.(type) {
	case json.Delim:
		if depth++; depth > mostDepth {
			return nil, fmt.Errorf("it is nested more than %d deep", mostDepth)
		}
		if t == '[' {
			return p.list(depth)
		}
		return p.object(depth)
	case json.Number:
		if _, err := t.Float64(); err != nil || len(t) > mostNumber {
			return nil, errors.New("a number in it is too long")
		}
		return t, nil
	}
	return t, nil
}

func (p *parser) list(depth int) (any, error) {
	list := []any{}
	for p.dec.More() {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	if _, err := p.dec.Token(); err != nil {
		return nil, errNotJSON
	}
	return list, nil
}

func (p *parser) object(depth int) (any, error) {
	o := object{}
	for p.dec.More() {
		t, err := p.dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errNotJSON
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		if _, twice := o[name]; twice {
			return nil, errors.New("a name in it is there twice")
		}
		o[name] = v
	}
	if _, err := p.dec.Token(); err != nil {
		return nil, errNotJSON
	}
	return o, nil
}
