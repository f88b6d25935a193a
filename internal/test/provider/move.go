package provider

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// item is a part of a conversation: something that was said, or what came out of a tool.
type item struct {
	text   string
	result bool
}

// tool is one that an agent offers a model.
type tool struct {
	name string
	free bool // takes a text and no object
}

// progress is how far a conversation is: which task it does, how many results of tools it has
// since, and how many tasks there were before. A task of -1 is none.
type progress struct{ task, results, earlier int }

// follow returns how far items bring a conversation that was at p.
func (s *Server) follow(p progress, items []item) progress {
	for _, it := range items {
		if it.result {
			p.results++
			continue
		}
		i := slices.IndexFunc(s.tasks, func(t Task) bool { return strings.Contains(it.text, t.Prompt) })
		if i < 0 || i == p.task {
			continue
		}
		if p.task >= 0 {
			p.earlier++
		}
		p.task, p.results = i, 0
	}
	return p
}

// move is what a model says: a call of a tool, or a text.
type move struct {
	step      string
	earlier   int // tasks of the conversation
	tool      tool
	arguments object // of the tool, unless it is free
	text      string // of an answer, or for a free tool
}

// next returns what a model says at p to an agent that offers tools.
func (s *Server) next(p progress, tools []tool) move {
	m := s.step(p, tools)
	m.earlier = p.earlier
	return m
}

func (s *Server) step(p progress, tools []tool) move {
	if p.task < 0 || len(tools) == 0 {
		return move{step: StepAside, text: "A small change"}
	}
	t := s.tasks[p.task]
	if t.File == "" {
		return move{step: StepAnswer, text: t.Answer}
	}
	switch p.results {
	case 0:
		for _, offered := range tools {
			if m, ok := t.write(offered); ok {
				return m
			}
		}
	case 1:
		for _, offered := range tools {
			if m, ok := t.run(offered); ok {
				return m
			}
		}
	default:
		return move{step: StepAnswer, text: t.Answer}
	}
	return move{step: StepAside, text: "There is no tool for that."}
}

// write returns the call of a tool that writes the file, if the tool can.
func (t Task) write(offered tool) (move, bool) {
	m := move{step: StepWrite, tool: offered}
	switch offered.name {
	case "Write", "write_file": // Claude Code, Gemini CLI
		m.arguments = object{"file_path": t.File, "content": t.Text}
	case "write": // opencode
		m.arguments = object{"filePath": t.File, "content": t.Text}
	case "create": // Copilot
		m.arguments = object{"path": t.File, "file_text": t.Text}
	case "apply_patch": // Codex, and opencode for models of OpenAI's
		m.text = t.patch()
		m.arguments = object{"input": m.text, "patchText": m.text}
	case "exec": // Codex: a program that calls tools
		m.text = "text(await tools.apply_patch(" + quote(t.patch()) + "))"
	default:
		return move{}, false
	}
	return m, true
}

// quote returns a value as JSON, and JavaScript, write it.
func quote(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of objects, strings and numbers: cannot be
	}
	return string(b)
}

// patch returns a patch that adds the file.
func (t Task) patch() string {
	text := "*** Begin Patch\n*** Add File: " + t.File + "\n"
	for line := range strings.Lines(t.Text) {
		text += "+" + line
	}
	return text + "*** End Patch\n"
}

// run returns the call of a tool that runs the command, if the tool can.
func (t Task) run(offered tool) (move, bool) {
	m := move{step: StepRun, tool: offered}
	switch offered.name {
	case "Bash", "bash", "run_shell_command": // Claude Code; opencode and Copilot; Gemini CLI
		m.arguments = object{"command": t.Command, "description": "test and commit"}
	case "exec_command": // Codex
		m.arguments = object{"cmd": t.Command, "workdir": path.Dir(t.File)}
	case "exec":
		m.text = "text((await tools.exec_command({cmd: " + quote(t.Command) + "})).output)"
	case "shell_command":
		m.arguments = object{"command": t.Command, "workdir": path.Dir(t.File)}
	default:
		return move{}, false
	}
	return m, true
}
