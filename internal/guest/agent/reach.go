package agent

import (
	"encoding/base64"
	"io/fs"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// reach lets programs find certificates that do not look where the system's
// certificates are, and that get none of the machine's variables: by sudo, cron, a
// service of systemd's, or a browser. What somebody has written is left as it is.
func (t tree) reach(added []certificate) error {
	// As JSON, in which neither has to be escaped.
	var ders, files []string
	for _, c := range added {
		ders = append(ders, `"`+base64.StdEncoding.EncodeToString(c.der)+`"`)
		files = append(files, `"`+c.file()+`"`)
	}
	env := wire.TrustEnv()
	lines := strings.Join(env, "\n") + "\n"
	err := t.edit("/etc/environment", 0o644, func(all []byte) []byte { return addVariables(all, env) })
	if err != nil {
		return err
	}
	quoted, names := make([]string, len(env)), make([]string, len(env))
	for i, v := range env {
		quoted[i] = `"` + v + `"`
		names[i], _, _ = strings.Cut(v, "=")
	}
	manager := "[Manager]\nDefaultEnvironment=" + strings.Join(quoted, " ") + "\n"
	// Chrome and its kin have lists of their own, and so has Firefox.
	chrome := `{"CACertificates":[` + strings.Join(ders, ",") + "]}\n"
	firefox := `{"policies":{"Certificates":{"Install":[` + strings.Join(files, ",") + "]}}}\n"
	for _, f := range []struct {
		below, name, text string
		perm              fs.FileMode
	}{
		{"/etc/sudoers.d", "/etc/sudoers.d/mayfly-trust", "Defaults env_keep += \"" + strings.Join(names, " ") + "\"\n", 0o440},
		{"/etc/systemd", "/etc/systemd/system.conf.d/mayfly-trust.conf", manager, 0o644},
		{"/etc/systemd", "/etc/systemd/user.conf.d/mayfly-trust.conf", manager, 0o644},
		{"/etc/systemd", "/etc/environment.d/90-mayfly-trust.conf", lines, 0o644},
		{"/etc", "/etc/xdg/pip/pip.conf", "[global]\ncert = " + wire.TrustedFile + "\n", 0o644},
		{"/etc", "/etc/chromium/policies/managed/mayfly-trust.json", chrome, 0o644},
		{"/etc", "/etc/opt/chrome/policies/managed/mayfly-trust.json", chrome, 0o644},
		{"/etc", "/etc/firefox/policies/policies.json", firefox, 0o644},
	} {
		if _, _, err := t.stat(f.below); err != nil {
			continue // nobody would read it
		}
		if _, _, err := t.stat(f.name); err == nil && !strings.Contains(f.name, "mayfly") {
			continue
		}
		if err := t.writeFile(f.name, []byte(f.text), f.perm); err != nil {
			return err
		}
	}
	return nil
}

// addVariables adds variables to those of pam_env(8)'s file, unless they are there.
func addVariables(all []byte, env []string) []byte {
	text := string(all)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(text, name+"=") && !strings.Contains(text, "\n"+name+"=") {
			text += v + "\n"
		}
	}
	return []byte(text)
}
