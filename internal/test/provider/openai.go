package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/test/websocket"
)

// serveOpenAI serves the responses API, platform.openai.com/docs/api-reference/responses, by
// HTTP and by WebSocket, and the older one of chat completions.
func serveOpenAI(s *Server, w http.ResponseWriter, r *http.Request, c *Call) {
	switch last := path.Base(r.URL.Path); {
	case r.Method == http.MethodGet && last == "models":
		if !s.knows(c) {
			s.failed(w, c, http.StatusUnauthorized, "invalid key")
			return
		}
		writeJSON(w, models())
	case r.Method == http.MethodGet && last == "responses":
		s.answerSocket(w, r, c)
	case r.Method == http.MethodPost && last == "responses":
		s.answerResponses(w, r, c)
	case r.Method == http.MethodPost && last == "completions":
		s.answerChat(w, r, c)
	case r.Method == http.MethodPost && last == "messages":
		s.answerMessages(w, r, c)
	default:
		s.failed(w, c, http.StatusNotFound, "no such thing")
	}
}

// models returns lists of models in the forms that OpenAI's clients, Codex and Copilot read.
func models() object {
	var list []object
	for _, id := range []string{"gpt-5.4", "gpt-5-mini"} {
		list = append(list, object{
			"id": id, "object": "model", "created": 1754000000, "owned_by": "openai",
			"name": id, "vendor": "openai", "version": id, "model_picker_enabled": true, "policy": object{"state": "enabled"},
			"supported_endpoints": []string{"/chat/completions", "/responses"},
			"capabilities": object{
				"type": "chat", "family": id, "object": "model_capabilities", "tokenizer": "o200k_base",
				"limits":   object{"max_context_window_tokens": 200000, "max_output_tokens": 32000, "max_prompt_tokens": 160000},
				"supports": object{"streaming": true, "tool_calls": true, "parallel_tool_calls": true},
			},
		})
	}
	return object{"object": "list", "data": list}
}

func openAIError(status int, message string) any {
	code := map[int]string{
		http.StatusUnauthorized: "invalid_api_key", http.StatusTooManyRequests: "rate_limit_exceeded", 529: "server_is_overloaded",
	}[status]
	return object{"error": object{"message": message, "type": "invalid_request_error", "param": nil, "code": code}}
}

// response is a question by the responses API.
type response struct {
	Type     string          `json:"type"` // by WebSocket
	Model    string          `json:"model"`
	Stream   bool            `json:"stream"`
	Generate *bool           `json:"generate"` // false to prepare only
	Previous string          `json:"previous_response_id"`
	Input    json.RawMessage `json:"input"` // a text, or parts
	Tools    []offer         `json:"tools"`
}

// offer is a tool, or a list of tools under a name.
type offer struct {
	Type  string  `json:"type"`
	Name  string  `json:"name"`
	Tools []offer `json:"tools"`
}

// offered returns the tools of a list.
func offered(list []offer) []tool {
	var tools []tool
	for _, o := range list {
		if o.Type == "namespace" {
			tools = append(tools, offered(o.Tools)...)
			continue
		}
		tools = append(tools, tool{name: o.Name, free: o.Type == "custom"})
	}
	return tools
}

// state is where a conversation was at a response.
type state struct {
	progress progress
	tools    []tool
}

// state returns where a conversation was at the response id.
func (s *Server) state(id string) state {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, ok := s.states[id]; ok {
		return st
	}
	return state{progress: progress{task: -1}}
}

// keep returns the id of a new response, at which a conversation is where st says.
func (s *Server) keep(st state) string {
	id := fmt.Sprintf("resp_%d", s.number())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[id] = st
	return id
}

// answer returns the events that answer q, and what the model says.
func (s *Server) answer(q response) ([]object, move) {
	// What was said before a response is not said again behind it.
	before := s.state(q.Previous)
	tools := append(slices.Clone(before.tools), offered(q.Tools)...)
	var items []item
	var parts []json.RawMessage
	if json.Unmarshal(q.Input, &parts) != nil {
		parts = []json.RawMessage{q.Input}
	}
	for _, part := range parts {
		var p struct {
			Type    string  `json:"type"`
			Role    string  `json:"role"`
			Content blocks  `json:"content"`
			Tools   []offer `json:"tools"`
		}
		if json.Unmarshal(part, &p) != nil {
			json.Unmarshal(part, &p.Content) // a text alone
		}
		if p.Type == "additional_tools" {
			tools = append(tools, offered(p.Tools)...)
		}
		if p.Role != "assistant" {
			items = append(items, item{p.Content.text(), strings.HasSuffix(p.Type, "_call_output")})
		}
	}
	p := s.follow(before.progress, items)
	id := s.keep(state{p, tools})
	usage := object{
		"input_tokens": 100, "input_tokens_details": object{"cached_tokens": 0},
		"output_tokens": 20, "output_tokens_details": object{"reasoning_tokens": 0}, "total_tokens": 120,
	}
	created := object{"id": id, "object": "response", "created_at": 1754000000, "status": "in_progress", "model": q.Model, "output": []object{}}
	done := object{"id": id, "object": "response", "created_at": 1754000000, "status": "completed", "model": q.Model, "output": []object{}, "usage": usage}
	all := []object{{"type": "response.created", "response": created}}
	if q.Generate != nil && !*q.Generate {
		return append(all, object{"type": "response.completed", "response": done}), move{step: StepAside}
	}
	m := s.next(p, tools)
	var out object
	var deltas []object
	switch {
	case m.tool.free:
		out = object{"type": "custom_tool_call", "id": "ctc_" + id, "call_id": "call_" + id, "name": m.tool.name, "input": m.text, "status": "completed"}
	case m.tool.name != "":
		out = object{"type": "function_call", "id": "fc_" + id, "call_id": "call_" + id, "name": m.tool.name, "arguments": quote(m.arguments), "status": "completed"}
		deltas = []object{{"type": "response.function_call_arguments.delta", "item_id": "fc_" + id, "output_index": 0, "delta": quote(m.arguments)}}
	default:
		out = object{
			"type": "message", "id": "msg_" + id, "role": "assistant", "status": "completed",
			"content": []object{{"type": "output_text", "text": m.text, "annotations": []object{}}},
		}
		deltas = []object{{"type": "response.output_text.delta", "item_id": "msg_" + id, "output_index": 0, "content_index": 0, "delta": m.text}}
	}
	begun := make(object)
	for k, v := range out {
		begun[k] = v
	}
	for k, v := range map[string]any{"status": "in_progress", "content": []object{}, "arguments": "", "input": ""} {
		if _, ok := begun[k]; ok {
			begun[k] = v
		}
	}
	done["output"] = []object{out}
	all = append(all, object{"type": "response.output_item.added", "output_index": 0, "item": begun})
	all = append(all, deltas...)
	all = append(all, object{"type": "response.output_item.done", "output_index": 0, "item": out})
	return append(all, object{"type": "response.completed", "response": done}), m
}

func (s *Server) answerResponses(w http.ResponseWriter, r *http.Request, c *Call) {
	var q response
	if !s.asked(w, r, c, &q) {
		return
	}
	all, m := s.answer(q)
	c.says(q.Model, m)
	if !q.Stream {
		writeJSON(w, all[len(all)-1]["response"])
		return
	}
	e := newEvents(w)
	for i, o := range all {
		o["sequence_number"] = i
		e.send(o["type"].(string), o)
	}
}

// answerSocket answers the questions of a WebSocket, each with a call of its own.
func (s *Server) answerSocket(w http.ResponseWriter, r *http.Request, c *Call) {
	if !s.knows(c) {
		s.failed(w, c, http.StatusUnauthorized, "invalid key")
		return
	}
	conn, from := websocket.Accept(w, r)
	if conn == nil {
		c.Status = http.StatusUpgradeRequired
		return
	}
	c.Status = http.StatusSwitchingProtocols
	defer conn.Close()
	send := func(v any) {
		conn.Write(websocket.Frame{Fin: true, Opcode: websocket.Text, Payload: []byte(quote(v))}.Append(nil))
	}
	for {
		data, err := websocket.ReadMessage(from, conn)
		if err != nil {
			return
		}
		asked := *c
		var q response
		if err := json.Unmarshal(data, &q); err != nil || q.Type != "response.create" {
			asked.Status = http.StatusBadRequest
			s.record(asked)
			return
		}
		status, why := s.refused(&asked)
		if status != 0 {
			asked.Model, asked.Status = q.Model, status
			s.record(asked)
			send(object{"type": "error", "status": status, "error": openAIError(status, why).(object)["error"]})
			continue
		}
		all, m := s.answer(q)
		asked.says(q.Model, m)
		asked.Status = http.StatusOK
		s.record(asked)
		for i, o := range all {
			o["sequence_number"] = i
			send(o)
		}
	}
}

// answerChat answers by chat completions, platform.openai.com/docs/api-reference/chat.
func (s *Server) answerChat(w http.ResponseWriter, r *http.Request, c *Call) {
	var q struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Role    string `json:"role"`
			Content blocks `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		} `json:"tools"`
	}
	if !s.asked(w, r, c, &q) {
		return
	}
	var items []item
	for _, m := range q.Messages {
		if m.Role != "assistant" {
			items = append(items, item{m.Content.text(), m.Role == "tool"})
		}
	}
	var tools []tool
	for _, t := range q.Tools {
		tools = append(tools, tool{name: t.Function.Name})
	}
	m := s.next(s.follow(progress{task: -1}, items), tools)
	c.says(q.Model, m)

	n := s.number()
	said, reason := object{"role": "assistant", "content": m.text}, "stop"
	if m.tool.name != "" {
		said = object{"role": "assistant", "content": nil, "tool_calls": []object{{
			"index": 0, "id": fmt.Sprintf("call_%d", n), "type": "function",
			"function": object{"name": m.tool.name, "arguments": quote(m.arguments)},
		}}}
		reason = "tool_calls"
	}
	usage := object{"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
	whole := func(kind, field string, said object, reason any, usage any) object {
		return object{
			"id": fmt.Sprintf("chatcmpl-%d", n), "object": kind, "created": 1754000000, "model": q.Model,
			"choices": []object{{"index": 0, field: said, "finish_reason": reason}}, "usage": usage,
		}
	}
	if !q.Stream {
		writeJSON(w, whole("chat.completion", "message", said, reason, usage))
		return
	}
	e := newEvents(w)
	e.send("", whole("chat.completion.chunk", "delta", said, nil, nil))
	e.send("", whole("chat.completion.chunk", "delta", object{}, reason, usage))
	fmt.Fprint(w, "data: [DONE]\n\n")
}
