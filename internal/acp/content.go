package acp

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// fromAgent returns a value of the agent's as the editor may have it.
func (f *Filter) fromAgent(v any) any {
	// First, so that nothing is something else afterwards than what was looked at.
	v, _ = f.clean(plain(v))
	return v
}

// clean returns v without what asks an editor to do something on the host. It reports false for
// what is to go from a list.
func (f *Filter) clean(v any) (any, bool) {
	switch v := v.(type) {
	case []any:
		kept := v[:0]
		for _, e := range v {
			if e, ok := f.clean(e); ok {
				kept = append(kept, e)
			}
		}
		return kept, true
	case object:
		return f.cleanObject(v)
	}
	return v, true
}

func (f *Filter) cleanObject(o object) (any, bool) {
	switch o["type"] {
	case "terminal": // of the editor, or a log-in that starts a program
		return nil, false
	case "resource_link":
		if uri, ok := f.uri(o["uri"]); ok {
			o["uri"] = uri
		} else {
			f.say("a link of the agent to what is not in the workspace was left out")
			return leftOut("link", firstText(o["title"], o["name"])), true
		}
	case "resource":
		r, _ := o["resource"].(object)
		uri, ok := f.uri(r["uri"])
		if !ok {
			f.say("the address of what the agent shows is not in the workspace and was left out")
			if text, ok := r["text"].(string); ok {
				return textBlock(text), true
			}
			return leftOut("file", ""), true
		}
		r["uri"] = uri
	case "diff":
		name, ok := f.within(o["path"])
		if !ok {
			name, _ := o["path"].(string)
			text, _ := o["newText"].(string)
			return object{"type": "content", "content": textBlock(fmt.Sprintf("In the machine, %s:\n\n%s", name, text))}, true
		}
		o["path"] = name
	}
	if places, ok := o["locations"].([]any); ok {
		kept := []any{}
		for _, v := range places { // editors open what they name
			place, _ := v.(object)
			if name, ok := f.within(place["path"]); ok {
				place["path"] = name
				kept = append(kept, place)
			}
		}
		o["locations"] = kept
	} else {
		delete(o, "locations")
	}
	for name, v := range o {
		list, isList := v.([]any)
		switch {
		case otherFold(name) || isList && neverList[name]:
			delete(o, name)
		case isList && name == "content":
			o[name], _ = f.clean(slices.DeleteFunc(list, func(e any) bool { _, ok := e.(object); return !ok }))
		case name == "uri":
			if uri, ok := f.uri(v); ok {
				o[name] = uri
			} else {
				delete(o, name)
			}
		case name != "rawInput" && name != "rawOutput": // which are only shown
			o[name], _ = f.clean(v)
		}
	}
	return o, true
}

// neverList are names of objects. There are readers for which a list of an object's values is
// that object: of those nothing was looked at.
var neverList = map[string]bool{
	"update": true, "toolCall": true, "resource": true, "agentCapabilities": true, "mcpCapabilities": true,
}

// plain returns v with texts in which all is seen, and without what means something to one
// editor only: _meta, which can be anything.
func plain(v any) any {
	switch v := v.(type) {
	case string:
		return visible(v)
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case object:
		for name, e := range v {
			if strings.EqualFold(name, "_meta") || visible(name) != name {
				delete(v, name)
			} else {
				v[name] = plain(e)
			}
		}
	}
	return v
}

func textBlock(text string) object { return object{"type": "text", "text": text} }

// leftOut stands for a block that did not pass.
func leftOut(what, name string) object {
	if name != "" {
		name = " " + termsafe.Quote(termsafe.Clip(name, mostID))
	}
	return textBlock(fmt.Sprintf("[a %s%s that is not in the workspace]", what, name))
}

// firstText returns the first of values that is a text.
func firstText(values ...any) string {
	for _, v := range values {
		if s, ok := v.(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// uri returns the address v in the form of all of its kind, if an editor may have it as a link:
// a page of the web, or a file in the workspace.
func (f *Filter) uri(v any) (string, bool) {
	s, ok := v.(string)
	if !ok {
		return "", false
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.User != nil || u.Opaque != "":
		return "", false
	case (u.Scheme == "https" || u.Scheme == "http") && u.Host != "":
		return u.String(), true
	case u.Scheme == "" && u.Host == "" && path.IsAbs(s), u.Scheme == "file" && (u.Host == "" || u.Host == "localhost"):
		if strings.Contains(u.Path, "%") {
			return "", false // there are readers that decode twice
		}
		name := withinDir(u.Path, f.workspace)
		return (&url.URL{Scheme: "file", Path: name, Fragment: u.Fragment}).String(), name != ""
	}
	return "", false
}

// withinDir returns the clean path name, "" for one that is not dir and not below it.
func withinDir(name, dir string) string {
	if !path.IsAbs(name) || strings.ContainsRune(name, 0) {
		return ""
	}
	name = path.Clean(name)
	if name == dir || dir == "/" || strings.HasPrefix(name, dir+"/") {
		return name
	}
	return ""
}

// visible returns a text without control characters, and with what changes the direction of
// writing in a form that is seen.
func visible(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case !unicode.IsControl(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// hidden reports whether r is a control character, or turns the direction of writing.
func hidden(r rune) bool {
	switch {
	case r == '\n' || r == '\t' || r == '\r':
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}
