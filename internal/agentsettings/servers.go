package agentsettings

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/credential"
)

// hostVariables are variables that are about the host, and would mislead in a machine.
var hostVariables = regexp.MustCompile(`(?i)^(?:path|home|user|logname|shell|pwd|tmpdir|env|bash_env|node_options|python.*|ld_.*|xdg_.*|ssh_.*|dbus_.*|mayfly.*|.*_proxy|node_extra_ca_certs|node_tls_.*|.*ssl_cert.*|.*ca_bundle.*)$`)

// variable says why an environment variable stays, "" if it does not.
func (j *judge) variable(name string, v any) (out any, why string) {
	out, why = j.scalar(v)
	text, isText := out.(string)
	number := isText && strings.Trim(text, "0123456789") == "" && len(text) <= 10 || text == "true" || text == "false"
	switch {
	case why != "":
		return nil, why
	case out == nil:
		return nil, "it has no value"
	case name == "" || len(name) > 128 || strings.ContainsFunc(name, func(c rune) bool {
		return c > unicode.MaxASCII || !(c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c))
	}):
		return nil, "it is no name of a variable"
	case credential.Named(name) && !(number && strings.HasSuffix(name, "_TOKENS")):
		return nil, "its name is that of a credential"
	case strings.Contains(strings.ToUpper(name), "HEADER"):
		return nil, "its name is that of a credential"
	case hostVariables.MatchString(name), j.r.own.Variable == name:
		return nil, "it is about this computer"
	case strings.HasPrefix(text, "/") || strings.HasPrefix(text, "~"):
		return nil, "it names a file of this computer"
	case local(text):
		return nil, "it names a service of this computer"
	}
	return out, ""
}

// local reports whether a text has a URL of this computer.
func local(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	host := u.Hostname()
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasPrefix(host, "127.") || host == "::1" || host == "0.0.0.0"
}

// variables returns what of a table of variables comes along.
func (j *judge) variables(at string, v any) (out any, ok bool) {
	table, isTable := v.(map[string]any)
	if !isTable {
		j.leave(at, "it is not of the usual kind")
		return nil, false
	}
	kept := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(table)) {
		value, why := j.variable(name, table[name])
		if why != "" {
			j.leave(at+"."+name, why)
			continue
		}
		kept[name] = value
		j.take(at + "." + name)
	}
	return kept, len(kept) > 0
}

// interpreters run a program that is a file.
var interpreters = []string{"bash", "node", "python3", "sh"}

// program returns a table with a command, if what it runs is a file of the agent's
// directory, which comes along with it.
func (j *judge) program(at string, v any) (out any, ok bool) {
	table, isTable := v.(map[string]any)
	if !isTable {
		j.leave(at, "it is not of the usual kind")
		return nil, false
	}
	command, _ := table["command"].(string)
	words := strings.Fields(command)
	file := slices.IndexFunc(words, func(w string) bool { return !slices.Contains(interpreters, w) })
	if file < 0 || file > 1 || strings.ContainsAny(command, "|&;<>()`\\\"'*?[]#{}!\n") {
		j.leave(at, "it runs a program of this computer")
		return nil, false
	}
	name, ok := j.r.within(words[file])
	if !ok {
		j.leave(at, "it runs a program of this computer")
		return nil, false
	}
	kept := make(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(table)) {
		value, why := j.scalar(table[key])
		if why != "" {
			j.leave(at, why)
			return nil, false
		}
		kept[key] = value
	}
	words[file] = path.Join("~", j.r.own.Dir, name)
	for _, w := range words[file+1:] {
		if strings.Contains(w, "$") || strings.HasPrefix(w, "/") {
			j.leave(at, "it names a file or a variable of this computer")
			return nil, false
		}
	}
	kept["command"] = strings.Join(words, " ")
	j.r.entry(filepath.Join(j.r.dir, name), name, 1+strings.Count(name, "/"), ownPath)
	if _, taken := j.r.files[name]; !taken {
		j.leave(at, "its program is left")
		return nil, false
	}
	return kept, true
}

// within returns the path below the agent's directory of a file that a command names.
func (r *reader) within(word string) (name string, ok bool) {
	for _, begin := range []string{"~/" + r.own.Dir, "$HOME/" + r.own.Dir, r.agent.Dir, r.dir} {
		rest, found := strings.CutPrefix(word, begin+"/")
		if !found || begin == "" || strings.HasPrefix(begin, "~") && !r.usual() || strings.HasPrefix(begin, "$") && !r.usual() {
			continue
		}
		hidden := slices.ContainsFunc(strings.Split(rest, "/"), func(p string) bool { return p == "" || strings.HasPrefix(p, ".") })
		return rest, !hidden && !strings.Contains(rest, "$") && path.Clean(rest) == rest && !r.converses(rest)
	}
	return "", false
}

// converses reports whether a path is that of a conversation.
func (r *reader) converses(name string) bool {
	a, _ := codingagent.Find(r.agent.Name)
	return a.Converses(name)
}

// serverFields are what is known of MCP servers beside where they are: values that are plain,
// or tables of such.
var serverFields = []string{
	"type", "transport", "description", "enabled", "disabled", "timeout", "trust", "tools",
	"startup_timeout_sec", "startup_timeout_ms", "tool_timeout_sec", "enabled_tools", "disabled_tools", "includeTools", "excludeTools",
}

// serverTable returns the MCP servers that come along.
func (j *judge) serverTable(at string, v any) (out any, ok bool) {
	table, isTable := v.(map[string]any)
	if !isTable {
		j.leave(at, "it is not of the usual kind")
		return nil, false
	}
	kept := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(table)) {
		server, known, why := j.server(name, table[name])
		switch {
		case why != "":
			j.leave("MCP server "+name, why)
		case len(j.servers) == maxServers:
			j.leave("MCP server "+name, fmt.Sprintf("there are more than %d", maxServers))
		default:
			kept[name] = server
			j.servers = append(j.servers, known)
		}
	}
	return kept, len(kept) > 0
}

// server returns an MCP server, or why it stays.
func (j *judge) server(name string, v any) (out map[string]any, known Server, why string) {
	table, ok := v.(map[string]any)
	if !ok || name == "" || len(name) > 64 || j.text(name) != "" || strings.ContainsAny(name, "\n\t\r") {
		return nil, known, "it is not of the usual kind"
	}
	known.Name = name
	out = make(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(table)) {
		value := table[key]
		switch {
		case key == "command":
			known.Runs, out[key], why = j.command(value)
		case key == "args":
			out[key], why = j.arguments(value)
		case key == "env" || key == "environment":
			out[key], why = j.serverVariables(value)
		case slices.Contains([]string{"url", "httpUrl", "serverUrl"}, key):
			known.Host, why = j.remote(value)
			out[key] = value
		case slices.Contains(serverFields, key):
			out[key], why = j.field(value)
		default:
			why = fmt.Sprintf("its %s may hold or fetch credentials", clip(key))
			if key == "cwd" {
				why = "it works in a directory of this computer"
			}
		}
		if why != "" {
			return nil, known, why
		}
	}
	if (known.Runs == "") == (known.Host == "") {
		return nil, known, "it is not of the usual kind"
	}
	return out, known, ""
}

// field returns a value of a server that is plain, or a table or list of such.
func (j *judge) field(v any) (out any, why string) {
	quiet := judge{r: &reader{typed: j.r.typed, guestHome: j.r.guestHome}, f: j.f}
	if out, ok := quiet.nested("", v); ok && len(quiet.r.agent.Left) == 0 {
		return out, ""
	}
	return nil, "it is not of the usual kind"
}

// bare is the name of a program that the PATH finds.
var bare = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

// command returns the command of a server, a text or a list with its arguments.
func (j *judge) command(v any) (runs string, out any, why string) {
	if list, ok := v.([]any); ok {
		if len(list) == 0 {
			return "", nil, "it is not of the usual kind"
		}
		first, _ := list[0].(string)
		args, why := j.arguments(list[1:])
		if why != "" {
			return "", nil, why
		}
		runs, _, why = j.command(first)
		rest, _ := args.([]any)
		return runs, append([]any{first}, rest...), why
	}
	name, _ := v.(string)
	if !bare.MatchString(name) {
		return "", nil, "it runs a program of this computer"
	}
	return name, name, ""
}

// arguments returns those of a server.
func (j *judge) arguments(v any) (out any, why string) {
	list, ok := v.([]any)
	if !ok {
		return nil, "it is not of the usual kind"
	}
	kept := make([]any, 0, len(list))
	secretNext := false
	for _, e := range list {
		text, ok := e.(string)
		if !ok {
			return nil, "it is not of the usual kind"
		}
		if why := j.text(text); why != "" {
			return nil, "an argument: " + why
		}
		flag, value, assigned := strings.Cut(text, "=")
		if !assigned {
			value = text
		}
		switch {
		case secretNext && !strings.HasPrefix(text, "-"):
			return nil, "an argument may be a credential"
		case assigned && value != "" && credential.Named(flag), header(flag), hasCredential(text):
			return nil, "an argument may be a credential"
		case strings.Contains(text, "$"):
			return nil, "it needs a variable of this computer"
		case strings.HasPrefix(value, "~") || strings.HasPrefix(value, "file:"),
			filepath.IsAbs(value) && !(j.r.workspace != "" && below(filepath.Clean(value), j.r.workspace)):
			return nil, "it names a file of this computer"
		case local(value):
			return nil, "it names a service of this computer"
		}
		secretNext = strings.HasPrefix(text, "-") && !assigned && credential.Named(text)
		kept = append(kept, text)
	}
	return kept, ""
}

// header reports whether a flag adds a header to requests: "--header", "-H", "-HX-Key:a".
func header(flag string) bool {
	return strings.HasPrefix(flag, "-H") || strings.HasPrefix(flag, "-") && strings.Contains(strings.ToLower(flag), "header")
}

// hasCredential reports whether a text has a URL with a part that may be a credential: a user,
// a query or a fragment. "@" in a path is such as packages have.
func hasCredential(text string) bool {
	for _, rest := range strings.Split(text, "://")[1:] {
		authority, _, _ := strings.Cut(rest, "/")
		if strings.Contains(authority, "@") || strings.ContainsAny(rest, "?#") {
			return true
		}
	}
	return false
}

func (j *judge) serverVariables(v any) (out any, why string) {
	table, ok := v.(map[string]any)
	if !ok {
		return nil, "it is not of the usual kind"
	}
	kept := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(table)) {
		value, why := j.variable(name, table[name])
		text, _ := value.(string)
		switch {
		case why != "":
			return nil, clip(name) + ": " + why
		case strings.Contains(text, "$"):
			return nil, "it needs a variable of this computer"
		}
		kept[name] = value
	}
	return kept, ""
}

// remote returns the host of the URL of a server.
func (j *judge) remote(v any) (host, why string) {
	text, _ := v.(string)
	u, err := url.Parse(text)
	switch {
	case j.text(text) != "":
		return "", "its URL: " + j.text(text)
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(text, "$\n\t\r"):
		return "", "it is not of the usual kind"
	case u.User != nil, hasCredential(text):
		return "", "its URL may hold a credential"
	case local(text):
		return "", "it is a service of this computer"
	}
	return u.Host, ""
}
