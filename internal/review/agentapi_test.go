package review

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// toolCall is what a model has a coding agent do.
type toolCall struct {
	Name  string
	Input map[string]any
}

// agentAPI answers Claude Code as the messages API does: one call of a tool after the other,
// and at last a few words. It is no model: what is recorded is what the agent does with them.
type agentAPI []toolCall

func (calls agentAPI) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil || !strings.HasSuffix(req.URL.Path, "/messages") {
		http.NotFound(w, req)
		return
	}
	var asked struct {
		Stream   bool
		Tools    []struct{ Name string }
		Messages []struct{ Content json.RawMessage }
	}
	json.Unmarshal(body, &asked)
	done := 0
	for _, m := range asked.Messages {
		var blocks []struct{ Type string }
		json.Unmarshal(m.Content, &blocks) // or it is a string
		for _, b := range blocks {
			if b.Type == "tool_result" {
				done++
			}
		}
	}
	block, delta := map[string]any{"type": "text", "text": ""}, map[string]any{"type": "text_delta", "text": "Done."}
	stop := "end_turn"
	if done < len(calls) && len(asked.Tools) > 0 {
		input, _ := json.Marshal(calls[done].Input)
		block = map[string]any{"type": "tool_use", "id": fmt.Sprintf("toolu_%d", done), "name": calls[done].Name, "input": map[string]any{}}
		delta = map[string]any{"type": "input_json_delta", "partial_json": string(input)}
		stop = "tool_use"
	}
	usage := map[string]any{"input_tokens": 1, "output_tokens": 1}
	message := map[string]any{"id": "msg_1", "type": "message", "role": "assistant", "model": "fake", "content": []any{}, "stop_reason": nil, "stop_sequence": nil, "usage": usage}
	if !asked.Stream {
		message["content"], message["stop_reason"] = []any{map[string]any{"type": "text", "text": "Done."}}, "end_turn"
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(message)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range []map[string]any{
		{"type": "message_start", "message": message},
		{"type": "content_block_start", "index": 0, "content_block": block},
		{"type": "content_block_delta", "index": 0, "delta": delta},
		{"type": "content_block_stop", "index": 0},
		{"type": "message_delta", "delta": map[string]any{"stop_reason": stop, "stop_sequence": nil}, "usage": usage},
		{"type": "message_stop"},
	} {
		data, _ := json.Marshal(event)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event["type"], data)
	}
}
