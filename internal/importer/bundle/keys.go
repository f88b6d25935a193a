package bundle

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// rule says how a key is reviewed. What has no rule is refused: this version of mayfly
// does not know what it would do.
type rule func(r *reviewer, key string, v any)

// rules are all keys of a machine's file.
var rules = map[string]rule{
	"version":  func(*reviewer, string, any) {},
	"profiles": each((*reviewer).usesProfile),

	"machine.vcpus":          set,
	"machine.memory":         set,
	"machine.disk":           set,
	"machine.engine":         set,
	"machine.accel":          set,
	"machine.boot_timeout":   set,
	"machine.cold":           set,
	"machine.autostart":      unless(false, "starts with this computer, where systemd does that"),
	"machine.allow_old_qemu": unless(false, "starts even with an emulator that is known to be broken"),

	"image.base":     set,
	"image.init":     set,
	"image.packages": each(widen("installs the package")),
	"image.agents":   each(widen("installs the agent")),
	"image.prewarm":  each(run("runs in the machine, when its image is made:")),

	"workspace.path":          hostPath("works on the directory"),
	"workspace.mode":          unless("copy", "changes the directory itself, and not a copy"),
	"workspace.exclude":       set,
	"workspace.hide":          set,
	"workspace.protect":       set,
	"workspace.protect_hooks": unless(true, "may change the hooks of a live workspace, which git runs on this computer"),
	"workspace.clone":         each((*reviewer).clone),

	"share":  each((*reviewer).share),
	"volume": each(widen("keeps, when it stops,")),

	"network.mode":    unlessAny([]any{"user", "none"}, "is on a bridge, where nobody looks into connections"),
	"network.egress":  unlessAny([]any{"allowlist", "ask", "none"}, "reaches all of the public internet"),
	"network.allow":   each(widen("reaches")),
	"network.presets": each(widen("reaches what this preset names:")),
	"network.ports":   each((*reviewer).port),
	"network.proxy":   widen("leaves your computer through the proxy"),
	"network.address": (*reviewer).address,

	"network.trust_host_authorities": set,

	"network.mac": set,

	"home.shell":      set,
	"home.dotfiles":   each((*reviewer).dotfiles),
	"home.shell_init": run("runs in the machine, in each shell:"),
	"home.history":    unless(false, "keeps, when it stops, what was typed into its shells"),

	"git.identity":   unless(false, "gets your name and e-mail address from git"),
	"agent.note":     set,
	"agent.settings": unless(false, "gets your own settings of coding agents: instructions, skills, MCP servers"),
	"agent.login":    unless(false, "may use the log-ins that you keep on this computer"),

	"review": func(r *reviewer, key string, _ any) {
		r.refuse(key, "says how changes are judged, which only config.toml can")
	},
	"attach": func(r *reviewer, key string, _ any) {
		r.refuse(key, "says what your terminal gives a machine, which only config.toml can")
	},
}

// tables are the sections; the names in env and secrets are free.
var tables = []string{"machine", "image", "workspace", "network", "home", "git", "agent"}

// keys reviews all keys of the file.
func (r *reviewer) keys() {
	for _, name := range slices.Sorted(maps.Keys(r.doc)) {
		v := r.doc[name]
		table, isTable := v.(map[string]any)
		switch {
		case slices.Contains(tables, name) && isTable:
			for _, key := range slices.Sorted(maps.Keys(table)) {
				r.key(name+"."+key, table[key])
			}
		case name == "env" && isTable:
			for _, key := range slices.Sorted(maps.Keys(table)) {
				r.add(Set, "env."+key, "%s", render(table[key]))
			}
		case name == "secrets" && isTable:
			for _, key := range slices.Sorted(maps.Keys(table)) {
				r.secret(key, table[key])
			}
		default:
			r.key(name, v)
		}
	}
}

// reachUnsaid says what a machine reaches that says nothing of it.
func (r *reviewer) reachUnsaid() {
	network, _ := r.doc["network"].(map[string]any)
	if network["egress"] == nil && network["mode"] != "none" {
		r.add(Widen, "network.egress", "is not set: unless a profile says otherwise, reaches all of the public internet")
	}
}

func (r *reviewer) key(key string, v any) {
	review, ok := rules[key]
	if !ok {
		r.refuse(key, "this mayfly does not know the key, and so not what it does")
		return
	}
	review(r, key, v)
}

func set(r *reviewer, key string, v any) { r.add(Set, key, "%s", render(v)) }

func widen(what string) rule {
	return func(r *reviewer, key string, v any) { r.add(Widen, key, "%s %s", what, render(v)) }
}

func run(what string) rule {
	return func(r *reviewer, key string, v any) { r.add(Run, key, "%s %s", what, render(v)) }
}

// unless is a rule for a key that widens with all values but one.
func unless(harmless any, what string) rule { return unlessAny([]any{harmless}, what) }

func unlessAny(harmless []any, what string) rule {
	return func(r *reviewer, key string, v any) {
		if slices.ContainsFunc(harmless, func(h any) bool { return render(h) == render(v) }) {
			set(r, key, v)
			return
		}
		r.add(Widen, key, "%s: %s", render(v), what)
	}
}

// each applies a rule to each element of a list, or to a value alone.
func each(review rule) rule {
	return func(r *reviewer, key string, v any) {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, element := range list {
			review(r, key, element)
		}
	}
}

// hostPath is a rule for a path on the host.
func hostPath(what string) rule {
	return func(r *reviewer, key string, v any) {
		if to, ok := r.place(key, v); ok {
			r.add(Widen, key, "%s %s", what, short(to))
		}
	}
}

// place finds where a path is here, or refuses it.
func (r *reviewer) place(key string, v any) (string, bool) {
	text, ok := v.(string)
	if !ok {
		r.refuse(key, "must be a string, not %s", render(v))
		return "", false
	}
	to, err := r.where.find(text)
	if err != nil {
		r.refusePath(key, err)
		return "", false
	}
	if to != text {
		r.placed[text] = to
	}
	return to, true
}

func (r *reviewer) usesProfile(key string, v any) {
	name, _ := v.(string)
	_, own := r.have.Profiles[name]
	switch {
	case strings.HasPrefix(r.in, "profile "):
		r.refuse(key, "a profile cannot name other profiles")
	case slices.ContainsFunc(r.bundle.Profiles, func(f File) bool { return f.Name == name }):
		r.add(Set, key, "the set-up's %s", short(name))
	case own:
		r.add(Widen, key, "your own profile %s, with all that it gives", short(name))
	case isBuiltin(name):
		r.add(Widen, key, "mayfly's profile %s", short(name))
	default:
		r.refuse(key, "there is no profile %s, neither in the set-up nor here", render(v))
	}
}

// repository is what git fetches without a program of the URL's choice, and with no
// way to change what is fetched.
var repository = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(https://|ssh://)[A-Za-z0-9]|^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:]`)
})

func isRepository(url string) bool {
	return repository().MatchString(url) && len(url) <= maxLocation && termsafe.Is(url) &&
		!strings.ContainsAny(url, " \\") && !strings.Contains(url, "::")
}

func (r *reviewer) clone(key string, v any) {
	url, ref := v, any(nil)
	if table, ok := v.(map[string]any); ok {
		for name := range table {
			if name != "url" && name != "ref" {
				r.refuse(key, "unknown key %s", short(name))
				return
			}
		}
		url, ref = table["url"], table["ref"]
	}
	text, _ := url.(string)
	branch, isText := ref.(string)
	if !isRepository(text) || ref != nil && (!isText || strings.HasPrefix(branch, "-") || !termsafe.Is(branch)) {
		r.refuse(key, "%s: only repositories of https:// and ssh:// are cloned", render(v))
		return
	}
	if ref != nil {
		r.add(Run, key, "fetches the repository %s at %s", short(text), short(branch))
		return
	}
	r.add(Run, key, "fetches the repository %s", short(text))
}

func (r *reviewer) share(key string, v any) {
	table, ok := v.(map[string]any)
	if !ok {
		// SOURCE[:PATH][:ro] is for flags; where it ends would be for two to say.
		r.refuse(key, "must be a table, written [[share]], not %s", render(v))
		return
	}
	for name := range table {
		if name != "source" && name != "path" && name != "readonly" {
			r.refuse(key, "unknown key %s", short(name))
			return
		}
	}
	to, ok := r.place("share.source", table["source"])
	if !ok {
		return
	}
	how := "can read and change"
	if table["readonly"] == true {
		how = "can read"
	}
	at := ""
	if p := table["path"]; p != nil {
		at = ", at " + render(p)
	}
	r.add(Widen, key, "%s all of %s%s, while you use it", how, short(to), at)
}

func (r *reviewer) port(key string, v any) {
	text, _ := v.(string)
	switch {
	case text == "auto":
		r.add(Widen, key, "publishes ports that the machine chooses for programs of this computer: %s", render(v))
	case strings.HasPrefix(text, "127.0.0.1:") || strings.HasPrefix(text, "[::1]:") || strings.Count(text, ":") == 1:
		r.add(Widen, key, "publishes a port for programs of this computer: %s", render(v))
	default:
		r.add(Widen, key, "publishes a port for other computers: %s", render(v))
	}
}

// address refuses an address that another machine has.
func (r *reviewer) address(key string, v any) {
	host, _, _ := strings.Cut(fmt.Sprint(v), "/")
	taken := func(name string, file []byte) bool {
		other, _, _ := strings.Cut(addressOf(file), "/")
		return "machine "+name != r.in && other == host
	}
	for _, name := range slices.Sorted(maps.Keys(r.have.Machines)) {
		if taken(name, r.have.Machines[name]) {
			r.refuse(key, "%s is the address of the machine %s", render(v), name)
			return
		}
	}
	for _, f := range r.bundle.Machines {
		if taken(f.Name, f.Data) {
			r.refuse(key, "%s is the address of the set-up's machine %s, too", render(v), f.Name)
			return
		}
	}
	set(r, key, v)
}

func (r *reviewer) dotfiles(key string, v any) {
	text, _ := v.(string)
	if isRepository(text) {
		r.add(Run, key, "fetches the repository %s for the home directory", short(text))
		return
	}
	if strings.Contains(text, "://") || strings.Contains(text, "@") {
		r.refuse(key, "%s: only repositories of https:// and ssh:// are fetched", render(v))
		return
	}
	if to, ok := r.place(key, v); ok {
		r.add(Widen, key, "copies your directory %s into the machine", short(to))
	}
}

// secretKeys are the keys of a section [secrets.NAME].
var secretKeys = []string{"from", "hosts", "header", "bearer", "basic", "query", "pass", "foreign_credentials"}

// secret reviews a section [secrets.NAME].
func (r *reviewer) secret(name string, v any) {
	key := "secrets." + name
	table, ok := v.(map[string]any)
	if !ok {
		r.refuse(key, "must be a table, not %s", kindOf(v))
		return
	}
	for sub := range table {
		if !slices.Contains(secretKeys, sub) {
			r.refuse(key, "unknown key %s", short(sub))
			return
		}
	}
	from, _ := table["from"].(string)
	kind, rest, _ := strings.Cut(from, ":")
	what := ""
	switch kind {
	case "env":
		what = "the value of your variable " + short(rest)
	case "file":
		to, ok := r.placeSecret(key, from, rest)
		if !ok {
			return
		}
		what = "what is in your file " + short(to)
	case "cmd":
		r.refuseAs(fault.BundleSecretCommand, fault.Args{"secret": termsafe.Line(name)}, key, "a command for this computer: %s", short(rest))
		return
	case "":
		// What config.toml lends to some hosts would go to others.
		r.refuse(key, "has no from, and would send a value of your own configuration to %s", render(table["hosts"]))
		return
	default:
		r.refuse(key, "from must begin with \"env:\" or \"file:\"")
		return
	}
	if hosts, ok := table["hosts"].([]any); !ok || len(hosts) == 0 {
		// The hosts of another file's secret of that name would get it.
		r.refuse(key, "does not say to which hosts %s goes", what)
		return
	}
	where := ""
	for _, place := range []string{"header", "bearer", "basic", "query"} {
		if v := table[place]; v != nil {
			where += ", " + place + " = " + render(v)
		}
	}
	r.add(Widen, key, "lends %s to requests to %s%s", what, render(table["hosts"]), where)
	if pass := table["pass"]; pass != nil {
		r.add(Widen, key, "lets headers and parameters through to these hosts: pass = %s", render(pass))
	}
	if foreign := table["foreign_credentials"]; foreign != nil && foreign != "strip" {
		r.add(Widen, key, "lets other credentials through to these hosts: foreign_credentials = %s", render(foreign))
	}
}

// refusePath refuses a path for what find says of it.
func (r *reviewer) refusePath(key string, err *pathError) {
	if err.code == "" {
		r.refuse(key, "%s", err.msg)
		return
	}
	r.refuseAs(err.code, fault.Args{"path": err.path}, key, "%s", err.msg)
}

func (r *reviewer) placeSecret(key, from, file string) (string, bool) {
	to, err := r.where.find(file)
	if err != nil {
		r.refusePath(key, err)
		return "", false
	}
	if to != file {
		r.placed[from] = "file:" + to
	}
	return to, true
}

// kindOf names a value's type where the value may be a secret.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case []any:
		return "a list"
	}
	return "another value"
}

// render writes a value on one line, safe to print.
func render(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("%+q", v)
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = render(x)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			key := name
			if !bareKey().MatchString(name) {
				key = strconv.QuoteToASCII(name)
			}
			parts = append(parts, key+" = "+render(v[name]))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

var bareKey = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_-]+$`) })
