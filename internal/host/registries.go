package host

import (
	"cmp"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"
)

// home returns the path of a file in the user's home directory.
func (o Options) home(name string) string { return filepath.Join(o.env("HOME"), name) }

// npmMirrors reads the configuration of npm, npmrc(5):
// the global file, the user's, the environment, the later over the earlier. A
// project's own file is anybody's and not read.
//
// The registries of scopes get no variable: npm's has a name that no shell
// can set.
func npmMirrors(o Options) []Mirror {
	prefix := o.env("PREFIX")
	if npm := findTool(o, "npm").Path; prefix == "" && npm != "" {
		dir := strings.TrimPrefix(filepath.Dir(filepath.Dir(npm)), filepath.Clean(o.Root))
		prefix = filepath.Join("/", dir)
	}
	registries := make(map[string]string)
	for _, path := range []string{
		"/etc/npmrc",
		cmp.Or(o.env("NPM_CONFIG_GLOBALCONFIG"), filepath.Join("/", prefix, "etc/npmrc")),
		cmp.Or(o.env("NPM_CONFIG_USERCONFIG"), o.home(".npmrc")),
	} {
		maps.Copy(registries, parseNpmrc(o.read(path), o.env))
	}
	if v := cmp.Or(o.env("npm_config_registry"), o.env("NPM_CONFIG_REGISTRY")); v != "" {
		registries["registry"] = v
	}
	main := cleanURL(registries["registry"])
	urls := []string{main}
	for _, key := range slices.Sorted(maps.Keys(registries)) {
		urls = append(urls, registries[key])
	}
	return mirrors("npm", withoutEmpty(map[string]string{"npm_config_registry": main}), urls...)
}

var npmVariable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`) })

// parseNpmrc returns the settings "registry" and "@scope:registry" of an npmrc
// file and nothing else of it: the rest may be tokens.
func parseNpmrc(text string, getenv func(string) string) map[string]string {
	found := make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok || strings.HasPrefix(line, ";") || strings.HasPrefix(line, "#") ||
			key != "registry" && !(strings.HasPrefix(key, "@") && strings.HasSuffix(key, ":registry")) {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		found[key] = npmVariable().ReplaceAllStringFunc(value, func(v string) string { return getenv(v[2 : len(v)-1]) })
	}
	return found
}

// goMirrors reads the configuration of the go command, `go help environment`:
// the environment, the user's file, the file that came with Go, the earlier over
// the later. What came with Go needs no variable: the machine's has its own.
func goMirrors(o Options) []Mirror {
	var user, builtin map[string]string
	if file := o.env("GOENV"); file != "off" {
		config := cmp.Or(o.env("XDG_CONFIG_HOME"), o.home(".config"))
		user = parseGoEnv(o.read(cmp.Or(file, filepath.Join(config, "go/env"))))
	}
	if root := goRoot(o); root != "" {
		builtin = parseGoEnv(o.read(filepath.Join(root, "go.env")))
	}
	set := func(name string) string { return cmp.Or(o.env(name), user[name]) }

	var urls, kept []string
	proxies := cmp.Or(set("GOPROXY"), builtin["GOPROXY"])
	// A comma goes on to the next after "not found" alone, a bar after any
	// error.
	for _, part := range splitAfterAny(proxies, ",|") {
		proxy := strings.TrimRight(strings.TrimSpace(part), ",|")
		separator := strings.TrimPrefix(strings.TrimSpace(part), proxy)
		switch clean := cleanURL(proxy); {
		case clean != "":
			urls, kept = append(urls, clean), append(kept, clean+separator)
		case proxy == "direct" || proxy == "off":
			kept = append(kept, proxy+separator)
		}
	}
	sums := cmp.Or(set("GOSUMDB"), builtin["GOSUMDB"])
	if fields := strings.Fields(sums); len(fields) > 0 && sums != "off" {
		name, _, _ := strings.Cut(fields[0], "+") // NAME[+KEY] [URL]
		urls = append(urls, cmp.Or(cleanURL(fields[len(fields)-1]), "https://"+name))
	}
	env := map[string]string{"GOSUMDB": cleanSumDB(set("GOSUMDB"))}
	if set("GOPROXY") != "" {
		env["GOPROXY"] = strings.TrimRight(strings.Join(kept, ""), ",|")
	}
	for _, name := range []string{"GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE"} {
		env[name] = set(name)
	}
	return mirrors("go", withoutEmpty(env), urls...)
}

// cleanSumDB takes what is secret out of the URL in a GOSUMDB.
func cleanSumDB(value string) string {
	fields := strings.Fields(value)
	if len(fields) == 2 {
		fields[1] = cleanURL(fields[1])
	}
	return strings.TrimSpace(strings.Join(fields, " "))
}

// goRoot returns where the go command in PATH has its files, or "".
func goRoot(o Options) string {
	if root := o.env("GOROOT"); filepath.IsAbs(root) {
		return root
	}
	path := findTool(o, "go").Path
	if path == "" {
		return ""
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	dir := filepath.Dir(filepath.Dir(target))
	return filepath.Join("/", strings.TrimPrefix(dir, filepath.Clean(o.Root)))
}

// parseGoEnv reads a file of `go env -w`: lines of NAME=VALUE.
func parseGoEnv(text string) map[string]string {
	found := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			found[name] = value
		}
	}
	return found
}

// splitAfterAny slices s after each of the separators.
func splitAfterAny(s, separators string) []string {
	var parts []string
	for s != "" {
		i := strings.IndexAny(s, separators)
		if i < 0 {
			return append(parts, s)
		}
		parts, s = append(parts, s[:i+1]), s[i+1:]
	}
	return parts
}

// pipMirrors reads the configuration of pip, pip.pypa.io/en/stable/topics/configuration:
// the global file, the user's two, the named one, the environment, the later
// over the earlier.
func pipMirrors(o Options) []Mirror {
	config := cmp.Or(o.env("XDG_CONFIG_HOME"), o.home(".config"))
	files := []string{"/etc/pip.conf", o.home(".pip/pip.conf"), filepath.Join(config, "pip/pip.conf")}
	switch named := o.env("PIP_CONFIG_FILE"); named {
	case "":
	case "/dev/null":
		files = nil
	default:
		files = append(files, named)
	}
	settings := make(map[string]string)
	for _, path := range files {
		maps.Copy(settings, parsePipConf(o.read(path)))
	}
	get := func(key string) string {
		variable := "PIP_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
		return cmp.Or(o.env(variable), settings["install."+key], settings["global."+key])
	}
	index := cleanURL(get("index-url"))
	urls := []string{index}
	var extra []string
	for _, raw := range strings.Fields(get("extra-index-url")) {
		if clean := cleanURL(raw); clean != "" {
			extra, urls = append(extra, clean), append(urls, clean)
		}
	}
	env := map[string]string{"PIP_INDEX_URL": index, "PIP_EXTRA_INDEX_URL": strings.Join(extra, " ")}
	if index != "" || len(extra) > 0 {
		// Without it pip uses no index that has no certificate.
		env["PIP_TRUSTED_HOST"] = strings.Join(strings.Fields(get("trusted-host")), " ")
	}
	return mirrors("pypi", withoutEmpty(env), urls...)
}

// parsePipConf reads what is about indexes in a file of Python's configparser,
// by "section.key". A line that begins with a space continues the one before.
func parsePipConf(text string) map[string]string {
	found := make(map[string]string)
	section, last := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				found[last] += " " + trimmed
			}
		case line[0] == '[':
			section, last = strings.ToLower(strings.Trim(line, "[]")), ""
		default:
			last = ""
			i := strings.IndexAny(line, "=:")
			if i < 0 {
				continue
			}
			key := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(line[:i])), "_", "-")
			if slices.Contains([]string{"index-url", "extra-index-url", "trusted-host"}, key) {
				last = section + "." + key
				found[last] = strings.TrimSpace(line[i+1:])
			}
		}
	}
	return found
}

// cargoMirrors reads the configuration of cargo,
// doc.rust-lang.org/cargo/reference/config.html: what replaces the public
// registry as a source, and other registries. Cargo has no variable for the
// first: a machine needs a file of its own for it.
func cargoMirrors(o Options) []Mirror {
	dir := cmp.Or(o.env("CARGO_HOME"), o.home(".cargo"))
	text := o.read(filepath.Join(dir, "config")) // the older name has precedence
	if text == "" {
		text = o.read(filepath.Join(dir, "config.toml"))
	}
	var config struct {
		Source map[string]struct {
			ReplaceWith string `toml:"replace-with"`
			Registry    string `toml:"registry"`
		} `toml:"source"`
		Registries map[string]struct {
			Index string `toml:"index"`
		} `toml:"registries"`
	}
	if toml.Unmarshal([]byte(text), &config) != nil {
		return nil
	}
	var urls []string
	source := "crates-io"
	for range len(config.Source) { // bounded: a chain may be a ring
		s := config.Source[source]
		if s.ReplaceWith == "" {
			urls = append(urls, s.Registry)
			break
		}
		source = s.ReplaceWith
		if index := config.Registries[source].Index; index != "" {
			urls = append(urls, index)
			break
		}
	}
	env := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(config.Registries)) {
		index := config.Registries[name].Index
		clean := cleanURL(index)
		variable := "CARGO_REGISTRIES_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_INDEX"
		if clean == "" || !cargoVariable().MatchString(variable) {
			continue
		}
		if strings.HasPrefix(index, "sparse+") {
			clean = "sparse+" + clean
		}
		env[variable] = clean
		urls = append(urls, index)
	}
	return mirrors("crates", withoutEmpty(env), urls...)
}

var cargoVariable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Z0-9_]{1,128}$`) })
