// Package acp stands between an editor on the host and a coding agent in a machine that
// speak the Agent Client Protocol with each other.
//
// The protocol trusts the agent: it may have the editor read and write files, run programs and
// start log-ins, all of that on the host. A [Filter] takes messages from each side and returns
// those that may pass, written anew from what it understood. It is pure: [Sides] move the
// bytes. What the agent says is hostile. What the editor says is the user's, but what names a
// program, a file or a key of the host means something else in a machine, or should not get
// there.
package acp

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// version is that of the protocol of which the filter knows all methods.
const version = 1

const (
	mostCalls     = 256 // of the editor, that have no answer yet
	mostQuestions = 32  // of the agent: its user is to read them
	mostNotes     = 100 // in the life of a filter
)

// Filter decides what passes between an editor and an agent. Its methods may be called at
// the same time.
type Filter struct {
	workspace string
	note      func(string)

	mu     sync.Mutex        // guards what follows
	editor map[string]string // the methods of calls that have no answer yet, by their ids
	agent  map[string]string
	notes  int
}

// NewFilter returns a filter for an agent that works in workspace, a clean absolute path that is
// the same on both sides. note gets what did not pass, a line fit for a terminal.
func NewFilter(workspace string, note func(string)) *Filter {
	return &Filter{
		workspace: workspace, note: note,
		editor: make(map[string]string), agent: make(map[string]string),
	}
}

// Passed is what becomes of a message: lines with their ends, nil for nothing.
type Passed struct {
	Agent, Editor []byte
}

// say notes what did not pass. A guest cannot fill a log with that.
func (f *Filter) say(format string, args ...any) {
	if f.notes++; f.notes > mostNotes {
		return
	}
	text := fmt.Sprintf(format, args...)
	if f.notes == mostNotes {
		text += " (no more of these are shown)"
	}
	f.note(termsafe.Line(text))
}

// FromAgent takes a line of the agent.
func (f *Filter) FromAgent(line []byte) Passed {
	m, err := parse(line)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.say("a message of the agent was left out: %v", err)
		return Passed{}
	}
	if m.method == "" {
		return f.answerOfAgent(m)
	}
	return f.callOfAgent(m)
}

// passesToEditor are the methods that an agent may call: true for those that are answered.
// The protocol's others act on the host, and of methods that are not the protocol's nobody knows.
var passesToEditor = map[string]bool{
	"session/request_permission": true,
	"elicitation/create":         true, // a form; see below
	"session/update":             false,
	"elicitation/complete":       false,
	"$/cancel_request":           false,
}

func (f *Filter) callOfAgent(m message) Passed {
	answered, ok := passesToEditor[m.method]
	params, isObject := m.params.(object)
	var why string
	code := codeMethod
	switch {
	case !ok || answered != (m.id != nil):
		why = "it is not possible from a machine"
	case !isObject:
		why, code = "its params are no object", codeParams
	case m.method == "elicitation/create" && params["mode"] != "form":
		why, code = "only forms pass", codeParams // others open addresses in a browser
	}
	if why != "" {
		f.say("the agent called %s: %s", termsafe.Quote(termsafe.Clip(m.method, mostID)), why)
		return refuse(m, code, why)
	}
	if m.id != nil {
		if _, twice := f.agent[m.key()]; twice || len(f.agent) >= mostQuestions {
			f.say("the agent called %s with an id that is in use, or too often", m.method)
			return refuse(m, codeInvalid, "the id is in use, or too many calls wait")
		}
		f.agent[m.key()] = m.method
	}
	if m.method == "elicitation/create" {
		delete(params, "url")
	}
	m.params = f.fromAgent(params)
	return Passed{Editor: m.encode()}
}

// refuse answers a call of the agent, if it wants an answer.
func refuse(m message, code int, why string) Passed {
	if m.id == nil {
		return Passed{}
	}
	return Passed{Agent: failure(m.id, code, "%s", why)}
}

func (f *Filter) answerOfAgent(m message) Passed {
	method, ok := f.editor[m.key()]
	if !ok {
		f.say("the agent answered what nobody asked")
		return Passed{}
	}
	delete(f.editor, m.key())
	if m.err != nil {
		m.err = f.failureOfAgent(m.err.(object))
		return Passed{Editor: m.encode()}
	}
	m.result = f.fromAgent(m.result)
	if method == "initialize" {
		result, ok := m.result.(object)
		if !ok || result["protocolVersion"] != json.Number(fmt.Sprint(version)) {
			f.say("the agent does not speak version %d of the protocol", version)
			return Passed{Editor: failure(m.id, codeFailed, "the agent does not speak version %d of the protocol", version)}
		}
		f.welcome(result)
	}
	return Passed{Editor: m.encode()}
}

// failureOfAgent is an error of the agent's, with nothing but what an error has.
func (f *Filter) failureOfAgent(e object) object {
	clean := object{"code": codeFailed, "message": "the agent gives no reason"}
	if n, ok := e["code"].(json.Number); ok {
		if _, err := n.Int64(); err == nil {
			clean["code"] = n
		}
	}
	if s, ok := e["message"].(string); ok {
		clean["message"] = visible(s)
	}
	if data, ok := e["data"]; ok {
		clean["data"] = f.fromAgent(data)
	}
	return clean
}

// welcome takes from the agent's answer to initialize what the editor could not do, or should
// not: log-ins for which it starts programs, and MCP servers that it runs itself.
func (f *Filter) welcome(result object) {
	if _, ok := result["authMethods"]; ok {
		kept := []any{}
		methods, _ := result["authMethods"].([]any)
		for _, v := range methods {
			o, _ := v.(object)
			if kind, typed := o["type"]; o != nil && (!typed || kind == "agent") {
				login := object{"id": o["id"], "name": o["name"]}
				if text, ok := o["description"]; ok {
					login["description"] = text
				}
				kept = append(kept, login)
			}
		}
		result["authMethods"] = kept
	}
	if can, ok := result["agentCapabilities"].(object); ok {
		if servers, ok := can["mcpCapabilities"].(object); ok {
			for name := range servers {
				if strings.EqualFold(name, "acp") {
					delete(servers, name)
				}
			}
		}
	}
}

// FromEditor takes a line of the editor.
func (f *Filter) FromEditor(line []byte) Passed {
	m, err := parse(line)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.say("a message of the editor was left out: %v", err)
		return Passed{Editor: failure(nil, codeParse, "%v", err)}
	}
	if m.method == "" {
		if _, ok := f.agent[m.key()]; !ok {
			return Passed{} // to a call that never reached it
		}
		delete(f.agent, m.key())
		withoutMeta(m.result)
		withoutMeta(m.err)
		return Passed{Agent: m.encode()}
	}
	if err := f.fromEditor(&m); err != nil {
		f.say("%s of the editor was refused: %v", m.method, err)
		if m.id == nil {
			return Passed{}
		}
		return Passed{Editor: failure(m.id, codeParams, "%v", err)}
	}
	if m.id != nil {
		if _, twice := f.editor[m.key()]; twice || len(f.editor) >= mostCalls {
			return Passed{Editor: failure(m.id, codeInvalid, "the id is in use, or too many calls wait")}
		}
		f.editor[m.key()] = m.method
	}
	return Passed{Agent: m.encode()}
}

// within reports whether the path is in the workspace, and returns it clean.
func (f *Filter) within(name any) (string, bool) {
	s, ok := name.(string)
	return withinDir(s, f.workspace), ok && withinDir(s, f.workspace) != ""
}

// sameFold are names that decide about a message. A reader for which "Type" is "type", too,
// must find no other than the filter did.
var sameFold = []string{
	"type", "uri", "path", "locations", "resource", "mode", "url", "rawInput", "rawOutput",
	"update", "toolCall", "content", "protocolVersion", "authMethods", "agentCapabilities", "mcpCapabilities",
}

// otherFold reports whether name is one of these, written differently.
func otherFold(name string) bool {
	for _, n := range sameFold {
		if name != n && strings.EqualFold(name, n) {
			return true
		}
	}
	return false
}
