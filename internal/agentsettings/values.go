package agentsettings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/tailscale/hujson"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/dotfiles"
	"github.com/mayfly-vm/mayfly/internal/nesting"
)

// Bounds of settings.
const (
	maxNesting = 32
	maxText    = 32 << 10 // of a value
	maxShown   = 8        // names of what is in a table that is left
)

// settings takes the file of settings at real, of which it writes what is safe anew.
func (r *reader) settings(real string, f codingagent.SettingsFile) {
	if _, err := os.Lstat(real); errors.Is(err, os.ErrNotExist) {
		return
	}
	if r.budget.files >= maxFiles {
		r.leave(f.Path, tooMany)
		return
	}
	if fi, err := os.Lstat(real); err == nil && fi.Mode()&os.ModeSymlink != 0 {
		target, err := filepath.EvalSymlinks(real)
		why := "it is a link that leads nowhere"
		if err == nil {
			why = r.refusedSettings(target, f)
		}
		if why != "" {
			r.leave(f.Path, why)
			return
		}
		real = target
	}
	most := int64(maxFile)
	if f.State {
		most = maxState
	}
	data, _, why := r.data(real, most)
	if why != "" {
		r.leave(f.Path, why)
		return
	}
	doc, err := parse(data, f.TOML)
	if err != nil {
		r.leave(f.Path, "it cannot be read as settings")
		return
	}
	j := judge{r: r, f: f}
	table := j.table("", doc)
	if len(table) == 0 || len(table) == 1 && table["$schema"] != nil {
		return
	}
	c := content{}
	if f.TOML {
		c.table = table
		c.data, err = encodeTOML(table, "")
	} else {
		c.data, err = encodeJSON(table)
	}
	if _, found := dotfiles.ScanFile(f.Path, c.data); found || err != nil {
		r.leave(f.Path, "it looks like a secret")
		return
	}
	if len(c.data) > maxFile { // indents may be most of it
		r.leave(f.Path, fmt.Sprintf("it is larger than %d MiB", maxFile>>20))
		return
	}
	if !r.take(f.Path, c) {
		return
	}
	r.agent.Settings = append(r.agent.Settings, j.taken...)
	r.agent.Servers = append(r.agent.Servers, j.servers...)
}

// refusedSettings says why a link to settings is not followed. Of them only what is known is
// taken, so one in the agent's own directory may be.
func (r *reader) refusedSettings(target string, f codingagent.SettingsFile) string {
	if path.Dir(target) == r.dir && r.dir != "" && path.Ext(target) == path.Ext(f.Path) {
		return ""
	}
	if path.Base(target) == path.Base(f.Path) && below(target, r.home) {
		// "~/dotfiles/.claude/settings.json": the directory decides.
		return r.refused(path.Join(path.Dir(target), "settings"+path.Ext(f.Path)))
	}
	return r.refused(target)
}

// parse parses a file of settings.
func parse(data []byte, isTOML bool) (doc map[string]any, err error) {
	if isTOML {
		if !nesting.TOML(data, maxNesting) {
			return nil, errors.New("it nests too deep")
		}
		return doc, toml.Unmarshal(data, &doc)
	}
	if !nesting.JSON(data, maxNesting) {
		return nil, errors.New("it nests too deep")
	}
	if !json.Valid(data) {
		if data, err = hujson.Standardize(bytes.TrimPrefix(data, []byte("\uFEFF"))); err != nil {
			return nil, err
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more behind it")
	}
	return doc, nil
}

func encodeJSON(table map[string]any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(table)
	return b.Bytes(), err
}

// encodeTOML writes a table on top of that of a text.
func encodeTOML(table map[string]any, base string) ([]byte, error) {
	var all map[string]any
	if err := toml.Unmarshal([]byte(base), &all); err != nil {
		return nil, fmt.Errorf("the settings of mayfly: %w", err)
	}
	return toml.Marshal(onTop(all, table))
}

// onTop returns a table with all of base and more, of which the second wins.
func onTop(base, more map[string]any) map[string]any {
	all := maps.Clone(base)
	if all == nil {
		all = make(map[string]any)
	}
	for key, value := range more {
		a, isTable := all[key].(map[string]any)
		b, areBoth := value.(map[string]any)
		if isTable && areBoth {
			value = onTop(a, b)
		}
		all[key] = value
	}
	return all
}

// judge decides about the values of one file.
type judge struct {
	r       *reader
	f       codingagent.SettingsFile
	taken   []string
	servers []Server
}

func (j *judge) leave(at, why string) { j.r.leave(j.f.Path+": "+at, why) }

// take notes that a key comes along.
func (j *judge) take(at string) {
	if len(j.taken) < maxSettings && at != "$schema" {
		j.taken = append(j.taken, j.f.Path+": "+clip(at))
	}
}

// table returns what of a table comes along.
func (j *judge) table(at string, doc map[string]any) map[string]any {
	out := make(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(doc)) {
		full := key
		if at != "" {
			full = at + "." + key
		}
		kind := j.f.Keys[full]
		sub, isTable := doc[key].(map[string]any)
		if kind == 0 || strings.Contains(key, ".") {
			if inner := isTable && !strings.Contains(key, ".") && j.parent(full); inner {
				if t := j.table(full, sub); len(t) > 0 {
					out[key] = t
				}
				continue
			}
			j.stays(full, doc[key])
			continue
		}
		if v, ok := j.value(kind, full, doc[key]); ok {
			out[key] = v
		}
	}
	return out
}

// parent reports whether a key is above one that may come along.
func (j *judge) parent(at string) bool {
	for key := range j.f.Keys {
		if strings.HasPrefix(key, at+".") {
			return true
		}
	}
	return false
}

// stays notes a key that is on no list.
func (j *judge) stays(at string, v any) {
	i := slices.IndexFunc(j.f.Stays, func(s codingagent.Stays) bool { return s.What == at })
	switch {
	case i < 0 && !j.f.State:
		j.leave(at, "mayfly does not know whether it is safe")
	case i >= 0:
		if t, ok := v.(map[string]any); ok && len(t) > 0 {
			names := slices.Sorted(maps.Keys(t))
			more := ""
			if len(names) > maxShown {
				names, more = names[:maxShown], ", …"
			}
			at += " (" + strings.Join(names, ", ") + more + ")"
		}
		j.leave(at, j.f.Stays[i].Why)
	}
}

func (j *judge) value(kind codingagent.ValueKind, at string, v any) (out any, ok bool) {
	switch kind {
	case codingagent.Plain:
		out, ok = j.plain(at, v)
	case codingagent.Nested:
		out, ok = j.nested(at, v)
	case codingagent.Variables:
		return j.variables(at, v)
	case codingagent.Program:
		out, ok = j.program(at, v)
	case codingagent.Servers:
		return j.serverTable(at, v)
	}
	if ok {
		j.take(at)
	}
	return out, ok
}

// plain returns a text, a number, a truth value or a list of such.
func (j *judge) plain(at string, v any) (out any, ok bool) {
	list, isList := v.([]any)
	if !isList {
		out, why := j.scalar(v)
		if why != "" {
			j.leave(at, why)
		}
		return out, why == ""
	}
	kept := make([]any, 0, len(list))
	for i, e := range list {
		if e, ok := j.plain(fmt.Sprintf("%s[%d]", at, i), e); ok {
			kept = append(kept, e)
		}
	}
	return kept, len(kept) > 0 || len(list) == 0
}

// nested returns what of a value comes along that may have tables.
func (j *judge) nested(at string, v any) (out any, ok bool) {
	table, isTable := v.(map[string]any)
	if !isTable {
		return j.plain(at, v)
	}
	if strings.Count(at, ".") > maxNesting {
		j.leave(at, "it nests too deep")
		return nil, false
	}
	kept := make(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(table)) {
		full := at + "." + key
		if why := j.text(key); why != "" {
			j.leave(at+".…", why)
		} else if credential.Named(key) && !harmless(at, key, table[key]) {
			j.leave(full, "its name is that of a credential")
		} else if e, ok := j.nested(full, table[key]); ok {
			kept[key] = e
		}
	}
	return kept, len(kept) > 0 || len(table) == 0
}

// ofKeys are tables of keys of the keyboard, whose names are such as those of credentials.
var ofKeys = regexp.MustCompile(`(?:^|\.)(?:keybinds|keymap)(?:\.|$)`)

// usersNames are tables whose own keys are names that a user gave: "agent.auth-reviewer".
var usersNames = []string{"agent", "command", "mode"}

// harmless reports whether a value is none of a credential although its name is like that of
// one.
func harmless(at, key string, v any) bool {
	if ofKeys.MatchString(at + "." + key) {
		return true
	}
	switch v := v.(type) {
	case nil, bool:
		return true
	case int64, float64, json.Number:
		name := strings.ToLower(key)
		return strings.HasSuffix(name, "tokens") || strings.Contains(name, "tokenbudget") || strings.Contains(name, "token_limit")
	case string:
		return slices.Contains([]string{"allow", "ask", "deny"}, v) // of permissions: "gh auth *"
	case map[string]any:
		return slices.Contains(usersNames, at)
	}
	return false
}

// scalar returns a value that is no list and no table, or why it stays.
func (j *judge) scalar(v any) (out any, why string) {
	switch v := v.(type) {
	case nil, bool, int64, float64:
		if v == nil && j.f.TOML {
			return nil, "it has no value"
		}
		return v, ""
	case json.Number:
		if _, err := strconv.ParseFloat(v.String(), 64); err != nil || len(v) > 32 {
			return nil, "it is no number that is usual"
		}
		return v, ""
	case string:
		return j.r.translate(v), j.text(v)
	}
	return nil, "it is not of the usual kind"
}

// text says why a text stays, "" if it does not.
func (j *judge) text(s string) string {
	switch {
	case len(s) > maxText:
		return fmt.Sprintf("it is longer than %d KiB", maxText>>10)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' && c != '\r' }):
		return "it has control characters"
	case strings.Contains(s, "{file:") || strings.Contains(s, "{env:"):
		return "it reads a file or a variable of this computer"
	case secret(s):
		return "it looks like a credential"
	}
	return ""
}

// translate writes paths in the home of the host's user as those of the guest's.
func (r *reader) translate(s string) string {
	if r.typed == r.guestHome || !filepath.IsAbs(r.guestHome) || r.typed == "/" {
		return s
	}
	if s == r.typed {
		return r.guestHome
	}
	return strings.ReplaceAll(s, r.typed+"/", r.guestHome+"/")
}
