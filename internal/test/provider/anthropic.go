package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// serveAnthropic serves the messages API, docs.anthropic.com/en/api/messages.
func serveAnthropic(s *Server, w http.ResponseWriter, r *http.Request, c *Call) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v1/messages":
		s.answerMessages(w, r, c)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/messages/count_tokens":
		writeJSON(w, object{"input_tokens": 100})
	case r.Method == http.MethodGet && r.URL.Path == "/v1/models":
		writeJSON(w, object{"has_more": false, "data": []object{
			{"type": "model", "id": "claude-sonnet-4-5", "display_name": "Claude Sonnet 4.5", "created_at": "2025-09-29T00:00:00Z"},
		}})
	default:
		s.failed(w, c, http.StatusNotFound, "no such thing")
	}
}

func anthropicError(status int, message string) any {
	kind := map[int]string{
		http.StatusBadRequest: "invalid_request_error", http.StatusUnauthorized: "authentication_error",
		http.StatusNotFound: "not_found_error", http.StatusTooManyRequests: "rate_limit_error", 529: "overloaded_error",
	}[status]
	return object{"type": "error", "error": object{"type": kind, "message": message}}
}

// block is a part of a message.
type block struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// blocks are parts of a message, or a text that is the only one.
type blocks []block

func (b *blocks) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		*b = blocks{{Type: "text", Text: text}}
		return nil
	}
	var parts []block
	err := json.Unmarshal(data, &parts)
	*b = parts
	return err
}

// text returns the texts of all parts.
func (b blocks) text() string {
	var text strings.Builder
	for _, part := range b {
		text.WriteString(part.Text)
	}
	return text.String()
}

func (s *Server) answerMessages(w http.ResponseWriter, r *http.Request, c *Call) {
	var q struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Role    string `json:"role"`
			Content blocks `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if !s.asked(w, r, c, &q) {
		return
	}
	var items []item
	for _, m := range q.Messages {
		for _, b := range m.Content {
			if m.Role != "assistant" {
				items = append(items, item{b.Text, b.Type == "tool_result"})
			}
		}
	}
	var tools []tool
	for _, t := range q.Tools {
		tools = append(tools, tool{name: t.Name})
	}
	m := s.next(s.follow(progress{task: -1}, items), tools)
	c.says(q.Model, m)

	n := s.number()
	message := object{
		"id": fmt.Sprintf("msg_%d", n), "type": "message", "role": "assistant", "model": q.Model,
		"content": []object{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": object{"input_tokens": 100, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
	}
	content, stop := object{"type": "text", "text": m.text}, "end_turn"
	if m.tool.name != "" {
		content = object{"type": "tool_use", "id": fmt.Sprintf("toolu_%d", n), "name": m.tool.name, "input": m.arguments}
		stop = "tool_use"
	}
	usage := object{"input_tokens": 100, "output_tokens": 20}
	if !q.Stream {
		message["content"], message["stop_reason"], message["usage"] = []object{content}, stop, usage
		writeJSON(w, message)
		return
	}
	e := newEvents(w)
	send := func(o object) { e.send(o["type"].(string), o) }
	send(object{"type": "message_start", "message": message})
	begin, kind, key, text := object{"type": "text", "text": ""}, "text_delta", "text", m.text
	if m.tool.name != "" {
		begin = object{"type": "tool_use", "id": content["id"], "name": m.tool.name, "input": object{}}
		kind, key, text = "input_json_delta", "partial_json", quote(m.arguments)
	}
	send(object{"type": "content_block_start", "index": 0, "content_block": begin})
	send(object{"type": "ping"})
	half := len(text) / 2 // of ASCII
	for _, piece := range []string{text[:half], text[half:]} {
		send(object{"type": "content_block_delta", "index": 0, "delta": object{"type": kind, key: piece}})
	}
	send(object{"type": "content_block_stop", "index": 0})
	send(object{"type": "message_delta", "delta": object{"stop_reason": stop, "stop_sequence": nil}, "usage": usage})
	send(object{"type": "message_stop"})
}
