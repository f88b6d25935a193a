package acp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// fromEditor changes a call of the editor to what the agent may have of it. An error says
// why it may have nothing.
func (f *Filter) fromEditor(m *message) error {
	params, ok := m.params.(object)
	if !ok {
		if m.params != nil {
			return errors.New("its params are a list")
		}
		return nil
	}
	withoutMeta(params)
	if m.method == "initialize" {
		f.initialize(params)
		return nil
	}
	if err := f.places(params); err != nil {
		return err
	}
	f.servers(params)
	if blocks, ok := params["prompt"].([]any); ok {
		f.prompt(blocks)
	}
	return nil
}

// withoutMeta takes _meta out of v, at any depth. Nobody knows what is in there: editors and
// agents agree on programs, variables, keys and directories of the host in it.
func withoutMeta(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			withoutMeta(e)
		}
	case object:
		for name, e := range v {
			if strings.EqualFold(name, "_meta") {
				delete(v, name)
			} else {
				withoutMeta(e)
			}
		}
	}
}

// initialize tells the agent that the editor has neither files nor terminals for it, and
// nothing that is not known here.
func (f *Filter) initialize(params object) {
	params["protocolVersion"] = json.Number(fmt.Sprint(version))
	can, _ := params["clientCapabilities"].(object)
	kept := object{
		"fs":       object{"readTextFile": false, "writeTextFile": false},
		"terminal": false,
	}
	if session, ok := can["session"].(object); ok {
		kept["session"] = session
	}
	if ask, ok := can["elicitation"].(object); ok {
		if form, ok := ask["form"].(object); ok {
			kept["elicitation"] = object{"form": form}
		}
	}
	params["clientCapabilities"] = kept
}

// places refuses directories that are not in the workspace: the machine has them not, or its
// own of the same name.
func (f *Filter) places(params object) error {
	var dirs []any
	if dir, ok := params["cwd"]; ok && dir != nil {
		dirs = append(dirs, dir)
	}
	switch more := params["additionalDirectories"].(type) {
	case nil:
	case []any:
		dirs = append(dirs, more...)
	default:
		return errors.New("additionalDirectories is no list")
	}
	for _, dir := range dirs {
		if _, ok := f.within(dir); !ok {
			name, _ := dir.(string)
			return fmt.Errorf("%s is not in the machine, whose workspace is %s", termsafe.Quote(termsafe.Clip(name, mostName)), f.workspace)
		}
	}
	return nil
}

// mostName is how much of a path or a name is shown, in bytes.
const mostName = 1 << 10

// servers takes MCP servers out that are programs of the host, or are reached through the
// editor. Others are for the machine's network to allow. Their headers, and the queries of their
// addresses, stay on the host: they are keys more often than not.
func (f *Filter) servers(params object) {
	if _, ok := params["mcpServers"]; !ok {
		return
	}
	list, _ := params["mcpServers"].([]any) // the protocol knows nothing else
	kept := []any{}
	for _, v := range list {
		server, _ := v.(object)
		name := termsafe.Quote(termsafe.Clip(firstText(server["name"], "?"), mostName))
		if kind := server["type"]; kind != "http" && kind != "sse" {
			f.say("the MCP server %s runs on the host and was left out: set it up in the machine", name)
			continue
		}
		address, _ := server["url"].(string)
		u, err := url.Parse(address)
		if err != nil || u.User != nil || u.Host == "" {
			f.say("the MCP server %s was left out: its address cannot be read, or has a user in it", name)
			continue
		}
		if headers, _ := server["headers"].([]any); len(headers) > 0 || u.RawQuery != "" {
			f.say("the headers and the query of the MCP server %s stay on the host: lend the machine its key as a secret", name)
		}
		u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
		kept = append(kept, object{"type": server["type"], "name": firstText(server["name"]), "url": u.String(), "headers": []any{}})
	}
	params["mcpServers"] = kept
}

// prompt takes links to files out that are not in the workspace. What the editor sends of a
// file's text is what its user chose to send.
func (f *Filter) prompt(blocks []any) {
	for i, v := range blocks {
		block, _ := v.(object)
		uri, _ := block["uri"].(string)
		if block["type"] != "resource_link" || !strings.HasPrefix(strings.ToLower(uri), "file:") {
			continue
		}
		if _, ok := f.uri(uri); !ok {
			f.say("a link to a file that is not in the machine was left out")
			blocks[i] = leftOut("file", firstText(block["title"], block["name"]))
		}
	}
}
