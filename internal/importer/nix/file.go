package nix

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// File returns the machine's file, TOML of the version 1 of mayfly's format.
func (m Machine) File() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Imported from microvm.vms.%s.\nversion = 1\n", m.Name)
	if len(m.Profiles) > 0 {
		fmt.Fprintf(&b, "profiles = %s\n", tomlList(m.Profiles))
	}
	b.WriteString("\n[machine]\n")
	if m.VCPUs > 0 {
		fmt.Fprintf(&b, "vcpus = %d\n", m.VCPUs)
	}
	if m.MemoryMiB > 0 {
		fmt.Fprintf(&b, "memory = %s\n", tomlSize(m.MemoryMiB))
	}
	fmt.Fprintf(&b, "autostart = %t\n", m.Autostart)
	if len(m.Packages) > 0 {
		fmt.Fprintf(&b, "\n[image]\npackages = %s\n", tomlList(m.Packages))
	}
	if m.Workspace != "" {
		fmt.Fprintf(&b, "\n[workspace]\npath = %s\nmode = \"share\"\n", tomlString(m.Workspace))
	}
	for _, s := range m.Shares {
		fmt.Fprintf(&b, "\n[[share]]\nsource = %s\n", tomlString(s.Source))
		if s.Path != s.Source {
			fmt.Fprintf(&b, "path = %s\n", tomlString(s.Path))
		}
		fmt.Fprintf(&b, "readonly = %t\n", s.ReadOnly)
	}
	for _, v := range m.Volumes {
		fmt.Fprintf(&b, "\n[[volume]]\nname = %s\nmount = %s\nsize = %s\n", tomlString(v.Name), tomlString(v.Mount), tomlSize(v.SizeMiB))
	}
	fmt.Fprintf(&b, "\n[network]\nmode = %s\n", tomlString(m.Mode))
	if m.Address != "" {
		fmt.Fprintf(&b, "address = %s\n", tomlString(m.Address))
	}
	if m.MAC != "" {
		fmt.Fprintf(&b, "mac = %s\n", tomlString(m.MAC))
	}
	if m.Shell != "" || m.ShellInit != "" {
		b.WriteString("\n[home]\n")
		if m.Shell != "" {
			fmt.Fprintf(&b, "shell = %s\n", tomlString(m.Shell))
		}
		if m.ShellInit != "" {
			fmt.Fprintf(&b, "shell_init = %s\n", tomlText(m.ShellInit))
		}
	}
	if len(m.Env) > 0 {
		b.WriteString("\n[env]\n")
		for _, name := range slices.Sorted(maps.Keys(m.Env)) {
			fmt.Fprintf(&b, "%s = %s\n", name, tomlString(m.Env[name]))
		}
	}
	return []byte(b.String())
}

func tomlSize(mib int) string {
	if mib%1024 == 0 {
		return strconv.Quote(strconv.Itoa(mib/1024) + "GiB")
	}
	return strconv.Quote(strconv.Itoa(mib) + "MiB")
}

func tomlList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = tomlString(w)
	}
	if line := "[" + strings.Join(quoted, ", ") + "]"; len(line) <= 90 {
		return line
	}
	return "[\n\t" + strings.Join(quoted, ",\n\t") + ",\n]"
}

// tomlString writes a basic string. What is no UTF-8 is replaced: TOML has no way to
// write it.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case !unicode.IsGraphic(r): // controls, and what turns the direction of writing
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// tomlText writes text of several lines as it is, where TOML can, and where it does not
// control the terminal on which the file may be printed.
func tomlText(s string) string {
	bad := func(r rune) bool { return !unicode.IsGraphic(r) && r != '\n' && r != '\t' || r == 0xfffd }
	if strings.Contains(s, "'''") || strings.HasSuffix(s, "'") || strings.ContainsFunc(s, bad) {
		return tomlString(s)
	}
	return "'''\n" + s + "'''"
}
