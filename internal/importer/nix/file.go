package nix

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/tomlquote"
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
		fmt.Fprintf(&b, "\n[workspace]\npath = %s\nmode = \"share\"\n", tomlquote.String(m.Workspace))
	}
	for _, s := range m.Shares {
		fmt.Fprintf(&b, "\n[[share]]\nsource = %s\n", tomlquote.String(s.Source))
		if s.Path != s.Source {
			fmt.Fprintf(&b, "path = %s\n", tomlquote.String(s.Path))
		}
		fmt.Fprintf(&b, "readonly = %t\n", s.ReadOnly)
	}
	for _, v := range m.Volumes {
		fmt.Fprintf(&b, "\n[[volume]]\nname = %s\nmount = %s\nsize = %s\n", tomlquote.String(v.Name), tomlquote.String(v.Mount), tomlSize(v.SizeMiB))
	}
	fmt.Fprintf(&b, "\n[network]\nmode = %s\n", tomlquote.String(m.Mode))
	if m.Address != "" {
		fmt.Fprintf(&b, "address = %s\n", tomlquote.String(m.Address))
	}
	if m.MAC != "" {
		fmt.Fprintf(&b, "mac = %s\n", tomlquote.String(m.MAC))
	}
	if m.Shell != "" || m.ShellInit != "" {
		b.WriteString("\n[home]\n")
		if m.Shell != "" {
			fmt.Fprintf(&b, "shell = %s\n", tomlquote.String(m.Shell))
		}
		if m.ShellInit != "" {
			fmt.Fprintf(&b, "shell_init = %s\n", tomlquote.Text(m.ShellInit))
		}
	}
	if len(m.Env) > 0 {
		b.WriteString("\n[env]\n")
		for _, name := range slices.Sorted(maps.Keys(m.Env)) {
			fmt.Fprintf(&b, "%s = %s\n", name, tomlquote.String(m.Env[name]))
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
		quoted[i] = tomlquote.String(w)
	}
	if line := "[" + strings.Join(quoted, ", ") + "]"; len(line) <= 90 {
		return line
	}
	return "[\n\t" + strings.Join(quoted, ",\n\t") + ",\n]"
}
