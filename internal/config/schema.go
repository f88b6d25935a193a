package config

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/suggest"
)

// sections are the tables that keys are in. The names in [env] and of the tables
// in [secrets] are free.
var sections = []string{"machine", "image", "workspace", "network", "home", "git", "agent", attachSection, reviewSection, "env", secretsSection}

// laterValues are values of keys of the design that this version does not have:
// whoever writes one did not mistype.
var laterValues = map[string][]string{
	"machine.engine": {"cloud-hypervisor", "firecracker"},
}

// Limits that do not depend on the host. QEMU's q35 has at most 255 CPUs
// without interrupt remapping.
const (
	maxVCPUs     = 255
	MinMemoryMiB = 256 // a Debian guest does not start with less
	maxMemoryMiB = 1 << 20

	minDiskMiB, maxDiskMiB, diskStepMiB = 1 << 10, 64 << 10, 128
)

const notInThisVersion = "not in this version of mayfly"

func isSection(key string) bool { return slices.Contains(sections, key) }

func findField(in []field, key string) (field, bool) {
	i := slices.IndexFunc(in, func(f field) bool { return f.key == key })
	if i < 0 {
		return field{}, false
	}
	return in[i], true
}

// isList reports whether key is one of lists.
func isList(key string) bool {
	_, ok := findField(lists, key)
	return ok
}

// elements returns the settings of the elements of one of lists, and else s alone.
func (s setting) elements() []setting {
	if !isList(s.key) {
		return []setting{s}
	}
	var all []setting
	switch list := s.value.(type) {
	case []string:
		for _, v := range list {
			all = append(all, setting{s.origin, s.key, v})
		}
	case []any:
		for _, v := range list {
			all = append(all, setting{s.origin, s.key, v})
		}
	default:
		return []setting{s}
	}
	return all
}

// known reports whether apply has a meaning for key.
func known(key string) bool {
	_, ok := findField(fields, key)
	return ok || isList(key) || key == "profiles" || strings.HasPrefix(key, "env.") || isSecretKey(key)
}

// unknown returns the error for a key that known refuses, without its place.
func unknown(key string) *Error {
	if _, sub, ok := cutSecret(key); ok {
		return &Error{Key: key, Msg: "unknown key", Suggestion: suggest.Nearest(sub, secretKeys())}
	}
	names := append(slices.Clone(sections), "profiles", "version")
	section := ""
	if i := strings.IndexByte(key, '.'); i >= 0 {
		section, names = key[:i+1], nil
	}
	all := slices.Concat(fields, lists)
	for _, f := range all {
		if section != "" && strings.HasPrefix(f.key, section) {
			names = append(names, strings.TrimPrefix(f.key, section))
		}
	}
	e := &Error{Key: key, Msg: "unknown key", Suggestion: suggest.Nearest(strings.TrimPrefix(key, section), names)}
	if e.Suggestion == "" {
		// Right name, wrong place: `memory = …` above the first table.
		for _, f := range all {
			if _, name, _ := strings.Cut(f.key, "."); name == strings.TrimPrefix(key, section) {
				e.Suggestion = f.key
			}
		}
	}
	return e
}

// apply checks one setting and stores it.
func apply(c *Config, s setting) *Error {
	if name, ok := strings.CutPrefix(s.key, "env."); ok {
		return applyEnv(c, s, name)
	}
	if isSecretKey(s.key) {
		return applySecret(c, s)
	}
	f, ok := findField(fields, s.key)
	if !ok {
		f, ok = findField(lists, s.key)
	}
	if !ok {
		return s.place(unknown(s.key))
	}
	return f.apply(c, s)
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func applyEnv(c *Config, s setting, name string) *Error {
	if !envName.MatchString(name) {
		return s.errorf("not a variable's name: letters, digits and _ only")
	}
	var value string
	if err := asString(s, &value); err != nil {
		return err
	}
	if strings.ContainsRune(value, 0) {
		return s.errorf("a variable's value cannot hold a zero byte")
	}
	if _, err := Expand(value, map[string]string{"HOME": "", "USER": ""}); err != nil {
		return s.errorf("%v", err)
	}
	// A copy, because the map is not this Config's alone.
	env := maps.Clone(c.Env)
	if env == nil {
		env = make(map[string]string)
	}
	env[name] = value
	c.Env = env
	return nil
}

func asString(s setting, dst *string) *Error {
	v, ok := s.value.(string)
	if !ok {
		return s.errorf("must be a string, not %s", describe(s.value))
	}
	*dst = v
	return nil
}

func asBool(s setting, dst *bool) *Error {
	v, ok := s.value.(bool)
	if !ok {
		return s.errorf("must be true or false, not %s", describe(s.value))
	}
	*dst = v
	return nil
}

func asInt(s setting, min, max int, dst *int) *Error {
	var n int64
	switch v := s.value.(type) {
	case int64:
		n = v
	case int:
		n = int64(v)
	default:
		return s.errorf("must be a whole number, not %s", describe(s.value))
	}
	if n < int64(min) || n > int64(max) {
		return s.errorf("is %d; must be between %d and %d", n, min, max)
	}
	*dst = int(n)
	return nil
}

func asOneOf(s setting, dst *string, values ...string) *Error {
	var v string
	if err := asString(s, &v); err != nil {
		return err
	}
	if slices.Contains(values, v) {
		*dst = v
		return nil
	}
	if slices.Contains(laterValues[s.key], v) {
		return s.errorf("%q is %s; there is %s", v, notInThisVersion, quotedList(values))
	}
	e := s.errorf("is %s; must be %s", shortQuote(v), quotedList(values))
	e.Suggestion = suggest.Nearest(v, values)
	return e
}

// asList returns the strings of a list.
func asList(s setting) ([]string, *Error) {
	if v, ok := s.value.([]string); ok {
		return v, nil
	}
	list, ok := s.value.([]any)
	if !ok {
		return nil, s.errorf("must be a list of strings, not %s", describe(s.value))
	}
	out := make([]string, 0, len(list))
	for i, element := range list {
		v, ok := element.(string)
		if !ok {
			return nil, s.errorf("must be a list of strings; element %d is %s", i+1, describe(element))
		}
		out = append(out, v)
	}
	return out, nil
}

func appendList(s setting, dst *[]string, check func(string) (msg, suggestion string)) *Error {
	list, err := asList(s)
	if err != nil {
		return err
	}
	for _, v := range list {
		if msg, suggestion := check(v); msg != "" {
			e := s.errorf("%s", msg)
			e.Suggestion = suggestion
			return e
		}
	}
	*dst = append(slices.Clip(*dst), list...)
	return nil
}

// appendCommands appends one shell command or a list of them.
func appendCommands(s setting, dst *[]string) *Error {
	if one, ok := s.value.(string); ok {
		s.value = []string{one}
	}
	return appendList(s, dst, checkCommand)
}

const maxCommand = 4096 // bytes

func checkCommand(command string) (msg, suggestion string) {
	switch {
	case strings.TrimSpace(command) == "":
		return "a command is empty", ""
	case strings.ContainsRune(command, 0) || len(command) > maxCommand:
		return fmt.Sprintf("%s is no shell command", shortQuote(command)), ""
	}
	return "", ""
}

// packageName is Debian policy 5.6.7, and what keeps a name from being an
// option or a second name on a command line.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)

func checkPackage(name string) (msg, suggestion string) {
	if packageName.MatchString(name) {
		return "", ""
	}
	if lower := strings.ToLower(name); packageName.MatchString(lower) {
		suggestion = lower
	}
	return fmt.Sprintf("%s is not a Debian package's name", shortQuote(name)), suggestion
}

func checkAgent(name string) (msg, suggestion string) {
	names := codingagent.Names()
	if slices.Contains(names, name) {
		return "", ""
	}
	return fmt.Sprintf("no agent %s; there is %s", shortQuote(name), quotedList(names)), suggest.Nearest(name, names)
}

// checkPattern catches early, with a line, what package workspace would refuse.
func checkPattern(pattern string) (msg, suggestion string) {
	bad := func(why string) (string, string) {
		return fmt.Sprintf("%s is not a pattern for file names: %s", shortQuote(pattern), why), ""
	}
	switch {
	case strings.Trim(pattern, "/") == "":
		return bad("it matches nothing")
	case len(pattern) > 4096:
		return bad("it is too long")
	case strings.HasPrefix(pattern, "!"):
		return bad(`"!" is not supported`)
	case strings.ContainsFunc(pattern, unicode.IsControl):
		return bad("it holds control characters")
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return bad("a [ or \\ has no end")
	}
	return "", ""
}

// Bounds of the memory for a list of changes: a million changes need less than the most.
const (
	minReviewMiB = 16
	maxReviewMiB = 8 << 10
)

// checkReviewPath is the check of a path of the workspace that a rule names exactly.
func checkReviewPath(p string) (msg, suggestion string) {
	if msg, suggestion := checkPattern(p); msg != "" {
		return msg, suggestion
	}
	if strings.ContainsAny(p, "*?[\\") || path.Clean(p) != p || strings.HasPrefix(p, "/") || strings.HasPrefix(p, "../") {
		return fmt.Sprintf("%s is not a path in the workspace, such as \"docs/Makefile\"", shortQuote(p)), ""
	}
	return "", ""
}

func asPath(s setting, dst *string) *Error {
	var v string
	if err := asString(s, &v); err != nil {
		return err
	}
	switch {
	case v == "":
		return s.errorf("is empty; leave it out for the current directory")
	case strings.ContainsRune(v, 0) || len(v) > 4096:
		return s.errorf("is not a path")
	case v != "~" && !strings.HasPrefix(v, "~/") && !strings.HasPrefix(v, "/"):
		return s.errorf("is %s; must be absolute or begin with ~/", shortQuote(v))
	}
	*dst = v
	return nil
}

// Shells are the login shells that a guest's user can have.
func Shells() []string { return []string{"bash", "dash", "fish", "sh", "zsh"} }

func asShell(s setting, dst *string) *Error {
	if v, ok := s.value.(string); ok && strings.ContainsRune(v, '/') {
		e := s.errorf("must be a program's name without a directory")
		e.Suggestion = suggest.Nearest(path.Base(v), Shells())
		return e
	}
	return asOneOf(s, dst, Shells()...)
}

var memorySize = regexp.MustCompile(`^([0-9]{1,9}) ?([A-Za-z]*)$`)

// asMemory reads the size of a memory.
func asMemory(s setting, dst *int) *Error { return asSize(s, MinMemoryMiB, maxMemoryMiB, dst) }

// asDisk reads the bound of a scratch disk. The file system of that consists of groups.
func asDisk(s setting, dst *int) *Error {
	err := asSize(s, minDiskMiB, maxDiskMiB, dst)
	*dst -= *dst % diskStepMiB
	return err
}

// asSize reads "4GiB" or "512MiB", in MiB.
func asSize(s setting, least, most int, dst *int) *Error {
	v, ok := s.value.(string)
	if !ok {
		return s.errorf("must be a string such as \"4GiB\", not %s", describe(s.value))
	}
	m := memorySize.FindStringSubmatch(v)
	if m == nil {
		return s.errorf("is %s; must be a size such as \"4GiB\" or \"512MiB\"", shortQuote(v))
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return s.errorf("is %s; must be a size such as \"4GiB\" or \"512MiB\"", shortQuote(v))
	}
	switch m[2] {
	case "GiB":
		n <<= 10
	case "MiB":
	default:
		e := s.errorf("is %s; must be a size such as \"4GiB\" or \"512MiB\"", shortQuote(v))
		switch strings.ToLower(m[2]) {
		case "g", "gb", "gib":
			e.Suggestion = m[1] + "GiB"
		case "m", "mb", "mib":
			e.Suggestion = m[1] + "MiB"
		}
		return e
	}
	if n < least || n > most {
		return s.errorf("is %s; must be between %dMiB and %dGiB", shortQuote(v), least, most>>10)
	}
	*dst = n
	return nil
}

const maxBootTimeout = time.Hour

// asDuration reads "90s" or "2m".
func asDuration(s setting, dst *time.Duration) *Error {
	v, ok := s.value.(string)
	if !ok {
		return s.errorf("must be a string such as \"90s\", not %s", describe(s.value))
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return s.errorf("is %s; must be a time such as \"90s\" or \"2m\"", shortQuote(v))
	}
	if d < time.Second || d > maxBootTimeout {
		return s.errorf("is %s; must be between 1s and %v", shortQuote(v), maxBootTimeout)
	}
	*dst = d
	return nil
}
