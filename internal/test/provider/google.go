package provider

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"
)

// serveGoogle serves the Gemini API, ai.google.dev/api.
func serveGoogle(s *Server, w http.ResponseWriter, r *http.Request, c *Call) {
	last := path.Base(r.URL.Path)
	model, method, _ := strings.Cut(last, ":")
	switch {
	case r.Method == http.MethodGet && last == "models":
		writeJSON(w, object{"models": []object{{"name": "models/gemini-2.5-pro", "supportedGenerationMethods": []string{"generateContent"}}}})
	case r.Method == http.MethodPost && method == "countTokens":
		writeJSON(w, object{"totalTokens": 100})
	case r.Method == http.MethodPost && (method == "generateContent" || method == "streamGenerateContent"):
		c.Model = model
		s.answerContent(w, r, c, method == "streamGenerateContent")
	default:
		s.failed(w, c, http.StatusNotFound, "no such thing")
	}
}

func googleError(status int, message string) any {
	word := map[int]string{
		http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusUnauthorized: "UNAUTHENTICATED", http.StatusNotFound: "NOT_FOUND",
		http.StatusTooManyRequests: "RESOURCE_EXHAUSTED", 529: "UNAVAILABLE",
	}[status]
	return object{"error": object{"code": status, "message": message, "status": word}}
}

func (s *Server) answerContent(w http.ResponseWriter, r *http.Request, c *Call, stream bool) {
	var q struct {
		Contents []struct {
			Role  string `json:"role"`
			Parts []struct {
				Text     string          `json:"text"`
				Response json.RawMessage `json:"functionResponse"`
			} `json:"parts"`
		} `json:"contents"`
		Tools []struct {
			Functions []struct {
				Name string `json:"name"`
			} `json:"functionDeclarations"`
		} `json:"tools"`
		Config struct {
			Type string `json:"responseMimeType"`
		} `json:"generationConfig"`
	}
	if !s.asked(w, r, c, &q) {
		return
	}
	var items []item
	for _, content := range q.Contents {
		for _, p := range content.Parts {
			if content.Role != "model" {
				items = append(items, item{p.Text, p.Response != nil})
			}
		}
	}
	var tools []tool
	for _, t := range q.Tools {
		for _, f := range t.Functions {
			tools = append(tools, tool{name: f.Name})
		}
	}
	m := s.next(s.follow(progress{task: -1}, items), tools)
	if m.step == StepAside && q.Config.Type == "application/json" {
		// Of the questions that Gemini CLI asks its models in between: how hard the
		// task is, and whose turn it is.
		m.text = `{"reasoning": "none", "model_choice": "pro", "complexity_reasoning": "none", "complexity_score": 50, "next_speaker": "user"}`
	}
	c.says(c.Model, m)
	part := object{"text": m.text}
	if m.tool.name != "" {
		part = object{"functionCall": object{"name": m.tool.name, "args": m.arguments}}
	}
	answer := object{
		"candidates":    []object{{"index": 0, "content": object{"role": "model", "parts": []object{part}}, "finishReason": "STOP"}},
		"usageMetadata": object{"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120},
		"modelVersion":  c.Model,
	}
	if stream {
		newEvents(w).send("", answer)
		return
	}
	writeJSON(w, answer)
}
