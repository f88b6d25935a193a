package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// settings are the flags that say what a machine is like.
type settings struct {
	configFile  string
	noDetect    bool
	trust       bool
	workspace   string
	noWorkspace bool
	shares      []string
	secrets     []string
	env         []string

	keys []keyFlag
}

// keyFlag is a flag whose value is that of a key of a machine's file.
type keyFlag struct {
	flag, key string
	value     func() any
}

// not returns the variable for a flag that sets a key to false.
func not(s *settings, flag, key string) *bool {
	v := new(bool)
	s.keys = append(s.keys, keyFlag{flag, key, func() any { return !*v }})
	return v
}

// key returns the variable for the value of such a flag.
func key[T any](s *settings, flag, key string) *T {
	v := new(T)
	s.keys = append(s.keys, keyFlag{flag, key, func() any { return *v }})
	return v
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringVar(&s.configFile, "config", "", "read this configuration `file` in place of your config.toml")
	f.StringSliceVarP(key[[]string](s, "profile", "profiles"), "profile", "p", nil, "add a `profile`: go, node, python, c, docker, "+strings.Join(codingagent.Names(), ", ")+", … (repeatable)")
	f.StringSliceVar(key[[]string](s, "package", "image.packages"), "package", nil, "add a Debian `package` to the image (repeatable)")
	f.BoolVar(&s.noDetect, "no-detect", false, "do not choose profiles from the project's files and the command")
	f.BoolVar(&s.trust, "trust", false, "trust the project's mayfly.toml in its current form, now and later")
	f.StringVarP(&s.workspace, "workspace", "w", "", "`directory` to work on (default: the current one)")
	f.BoolVar(&s.noWorkspace, "no-workspace", false, "give the machine no workspace")
	f.StringArrayVar(key[[]string](s, "exclude", "workspace.exclude"), "exclude", nil, "leave out paths that match `pattern`, such as node_modules or *.log (repeatable)")
	f.StringArrayVar(key[[]string](s, "hide", "workspace.hide"), "hide", nil, "hide paths that match `pattern`, such as .env, from the machine, also in a live workspace (repeatable)")
	f.StringArrayVar(key[[]string](s, "protect", "workspace.protect"), "protect", nil, "keep a live workspace's paths that match `pattern` as they are (repeatable)")
	f.StringArrayVar(&s.shares, "share", nil, "share a host directory live: `SOURCE[:PATH][:ro]` (repeatable)")
	f.Int64Var(key[int64](s, "vcpus", "machine.vcpus"), "vcpus", 0, "`number` of virtual CPUs")
	f.StringVar(key[string](s, "disk", "machine.disk"), "disk", "", "`size` of what the machine can write to its disk, such as 16GiB")
	f.StringVarP(key[string](s, "memory", "machine.memory"), "memory", "m", "", "memory `size`, such as 4GiB")
	f.StringVar(key[string](s, "accel", "machine.accel"), "accel", "", "`accelerator`: auto, kvm or tcg")
	f.StringVar(key[string](s, "boot-timeout", "machine.boot_timeout"), "boot-timeout", "", "`time` within which the guest must answer, such as 90s")
	f.BoolVar(key[bool](s, "allow-old-qemu", "machine.allow_old_qemu"), "allow-old-qemu", false, "use a QEMU version that is known to corrupt its guests")
	f.BoolVar(key[bool](s, "cold", "machine.cold"), "cold", false, "force a full boot, without a template")
	f.BoolVar(not(s, "no-login", "agent.login"), "no-login", false, "do not lend the machine the log-ins that mayfly login keeps")
	f.BoolVar(key[bool](s, "agent-settings", "agent.settings"), "agent-settings", false, "give coding agents the settings that you have for them, without log-ins")
	f.BoolVar(not(s, "no-agent-settings", "agent.settings"), "no-agent-settings", false, "do not give coding agents the settings that you have for them")
	f.BoolVar(not(s, "no-git-identity", "git.identity"), "no-git-identity", false, "do not give git in the machine your name and e-mail address")
	f.StringVar(key[string](s, "network", "network.mode"), "network", "", "`mode` of the network: user, none or bridge")
	f.StringVar(key[string](s, "egress", "network.egress"), "egress", "", "egress `mode` for hosts without a rule: public, allowlist, ask or none")
	f.StringArrayVar(key[[]string](s, "allow", "network.allow"), "allow", nil, "allow a `host`: NAME, *.NAME, NAME:PORT (repeatable)")
	f.StringSliceVar(key[[]string](s, "preset", "network.presets"), "preset", nil, "allow the hosts of a `preset`: apt, npm, go, pypi, crates, github, "+codingagent.Default+", … (repeatable)")
	f.StringArrayVar(key[[]string](s, "publish", "network.ports"), "publish", nil, "publish a guest port on the host: `[ADDRESS:]PORT:GUEST-PORT`, or auto for each on which a program listens (repeatable)")
	f.StringArrayVar(&s.secrets, "secret", nil, "use your variable in requests to these hosts; the guest gets a placeholder: `NAME=HOST[,HOST…][:PLACE]` (repeatable)")
	f.StringArrayVarP(&s.env, "env", "e", nil, "set a variable `KEY=VALUE` in the machine; KEY alone copies yours (repeatable)")
}

// list returns the flags that were given as settings of the configuration.
func (s *settings) list(getenv func(string) string, changed func(string) bool) ([]mayfly.Setting, error) {
	var out []mayfly.Setting
	add := func(flag, key string, value any) {
		if changed(flag) {
			out = append(out, mayfly.Setting{From: "--" + flag, Key: key, Value: value})
		}
	}
	for _, k := range s.keys {
		add(k.flag, k.key, k.value())
	}
	shares, err := absoluteShares(s.shares)
	if err != nil {
		return nil, err
	}
	add("share", "share", shares)
	for _, text := range s.secrets {
		lent, err := secretFlag(text)
		if err != nil {
			return nil, err
		}
		out = append(out, lent...)
	}
	if s.workspace != "" {
		path, err := absolute(s.workspace)
		if err != nil {
			return nil, err
		}
		add("workspace", "workspace.path", path)
	}
	for _, kv := range s.env {
		key, value, ok := strings.Cut(kv, "=")
		switch {
		case key == "":
			return nil, usageError{fmt.Errorf("--env %q: no variable is named before the =", kv)}
		case key[0] >= '0' && key[0] <= '9':
			return nil, usageError{fmt.Errorf("--env %s: the name of a variable does not begin with a digit", key)}
		case !ok:
			value = getenv(key)
		}
		// What was typed is meant as it is.
		value = strings.ReplaceAll(value, "$", "$$")
		out = append(out, mayfly.Setting{From: "--env " + key, Key: "env." + key, Value: value})
	}
	return out, nil
}

// secretFlag returns the settings of --secret NAME=HOST[,HOST…][:PLACE[,PLACE…]].
func secretFlag(text string) ([]mayfly.Setting, error) {
	name, rest, ok := strings.Cut(text, "=")
	if !ok {
		return nil, usageError{hint.Errorf("--secret "+name+"=api.example.org", "--secret %s names no host", name)}
	}
	hosts, places, hasPlaces := strings.Cut(rest, ":")
	if hasPlaces && strings.Trim(places, "0123456789") == "" {
		hosts, hasPlaces = rest, false // a port, of which the check of hosts says more
	}
	var out []mayfly.Setting
	add := func(key string, value any) {
		out = append(out, mayfly.Setting{From: "--secret " + name, Key: "secrets." + name + "." + key, Value: value})
	}
	add("from", "env:"+name)
	add("hosts", strings.Split(hosts, ","))
	if !hasPlaces {
		return out, nil
	}
	// All four keys, so that nothing of a file's stays.
	bearer, named := false, map[string][]string{"basic": {}, "header": {}, "query": {}}
	for place := range strings.SplitSeq(places, ",") {
		kind, value, hasValue := strings.Cut(place, "=")
		switch _, isNamed := named[kind]; {
		case place == "bearer":
			bearer = true
		case isNamed && hasValue:
			named[kind] = append(named[kind], value)
		default:
			return nil, usageError{hint.Errorf("--secret "+name+"="+hosts+":bearer, or :header=NAME, :basic=USER or :query=NAME",
				"--secret %s: %q is no place in a request", name, place)}
		}
	}
	add("bearer", bearer)
	for _, kind := range []string{"basic", "header", "query"} {
		add(kind, named[kind])
	}
	return out, nil
}

// absolute makes a path that was typed independent of the current directory.
func absolute(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", usageError{hint.Wrap(errors.New("the current directory was removed"), "cd to a directory that is there")}
	}
	return path, nil
}

// absoluteShares makes what was typed after --share independent of the current
// directory.
func absoluteShares(texts []string) ([]string, error) {
	var all []string
	for _, text := range texts {
		source, rest, found := strings.Cut(text, ":")
		if source != "" && source != "~" && !strings.HasPrefix(source, "~/") {
			var err error
			if source, err = absolute(source); err != nil {
				return nil, err
			}
		}
		if found {
			source += ":" + rest
		}
		all = append(all, source)
	}
	return all, nil
}

// askTrust shows a project's own configuration and asks whether it is to be used.
func (a *app) askTrust(file string, content []byte) (bool, error) {
	a.note("%s is new or has changed. Its content:", file)
	// All of it: what is not shown is what somebody would hide.
	for line := range strings.Lines(termsafe.Text(string(content))) {
		fmt.Fprintf(a.Err, "  | %s\n", strings.TrimSuffix(line, "\n"))
	}
	answer, err := a.ask("trust it, now and later?", []string{"yes", "no"})
	return answer == "yes", err
}

// ask asks a question on the terminal until one of the words, or the beginning
// of one, is the answer.
func (a *app) ask(question string, words []string) (string, error) {
	return a.askOr(question, words, "")
}

// askOr is ask with the answer that an empty line is; "" for none.
func (a *app) askOr(question string, words []string, empty string) (string, error) {
	for {
		fmt.Fprintf(a.Err, "%s [%s] ", question, strings.Join(words, "/"))
		line, err := terminal.ReadLine(a.signals.Context(), a.In)
		if a.signals.Context().Err() != nil {
			fmt.Fprintln(a.Err)
		}
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(a.Err)
			return "", errUnanswered
		}
		if err != nil {
			return "", err
		}
		line = strings.ToLower(strings.TrimSpace(line))
		if line == "" && empty != "" {
			return empty, nil
		}
		i := slices.IndexFunc(words, func(w string) bool { return line != "" && strings.HasPrefix(w, line) })
		if i >= 0 {
			return words[i], nil
		}
	}
}
