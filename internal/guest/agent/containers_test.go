package agent

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// treeWith returns a machine's root whose image has files, and the directory of what is
// written.
func treeWith(t *testing.T, files map[string]string) (tree, string) {
	t.Helper()
	lower, upper := t.TempDir(), t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(lower, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lower, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return treeOf(upper, []string{lower}, newSeen()), upper
}

// Each container that runc is to start gets the certificates and the variables that name
// them, once; the container's own variables prevail, and what is unknown stays.
func TestRuncTrust(t *testing.T) {
	real := filepath.Join(t.TempDir(), "runc")
	if err := os.WriteFile(real, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, upper := treeWith(t, map[string]string{"usr/sbin/runc": ""})
	for range 2 { // also in a machine that is started again
		if err := root.reachContainers(); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile(filepath.Join(upper, ownRunc))
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "runc")
	if err := os.WriteFile(ours, []byte(strings.Replace(string(script), "exec /usr/sbin/runc", "exec "+real, 1)), 0o755); err != nil {
		t.Fatal(err)
	}
	const (
		before = `{"ociVersion":"1.2.0","process":{"args":["sh","-c","echo \"env\":[\"a\" {\"destination\":\"/dev\",x}"],"env":["PATH=/bin","SSL_CERT_FILE=/own"],"cwd":"/"},` +
			`"mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]},{"destination":"/dev/pts","type":"devpts","source":"devpts"}]}`
		exec1   = `{"args":["env"],"env":["A=b"],"cwd":"/"}`
		without = `{"process":{"args":["true"],"env":["A=b"]},"mounts":[]}`
	)
	run := func(what string, args ...string) {
		t.Helper()
		out, err := exec.Command(ours, args...).CombinedOutput()
		if want := strings.Join(args, "\n") + "\n"; err != nil || string(out) != want {
			t.Errorf("%s: runc got %q, %v; want %q", what, out, err, want)
		}
	}
	dir := t.TempDir()
	config, process := filepath.Join(dir, "config.json"), filepath.Join(dir, "process.json")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string, v any) {
		t.Helper()
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	type proc struct{ Args, Env []string }
	write(config, before)
	for range 2 {
		run("create", "--root", "/run", "create", "--bundle", dir, "--pid-file", "/p", "id with a space")
	}
	var got struct {
		Process proc
		Mounts  []struct {
			Destination, Source string
			Options             []string
		}
	}
	read(config, &got)
	var mounts []string
	for _, m := range got.Mounts {
		mounts = append(mounts, m.Destination+" "+m.Source)
	}
	if want := []string{"/proc proc", "/dev tmpfs", containerTrust + " " + wire.TrustedFile, "/dev/pts devpts"}; !slices.Equal(mounts, want) {
		t.Errorf("the mounts are %q; want %q", mounts, want)
	}
	if want := append(containerEnv(), "PATH=/bin", "SSL_CERT_FILE=/own"); !slices.Equal(got.Process.Env, want) {
		t.Errorf("the variables are %q; want %q", got.Process.Env, want)
	}
	if got.Process.Args[2] != `echo "env":["a" {"destination":"/dev",x}` {
		t.Errorf("the command became %q", got.Process.Args)
	}
	if fi, err := os.Stat(config); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the configuration's mode: %v, %v", fi, err)
	}
	write(process, exec1)
	run("exec", "exec", "--process", process, "id", "--bundle", dir)
	var p proc
	if read(process, &p); !slices.Equal(p.Env, append(containerEnv(), "A=b")) {
		t.Errorf("a further process has %q", p.Env)
	}
	write(config, without)
	run("no /dev", "run", "--bundle", dir, "id")
	if data, err := os.ReadFile(config); err != nil || string(data) != without {
		t.Errorf("a container without /dev became %s, %v", data, err)
	}
	run("no bundle", "--version")
	run("no file", "create", "--bundle", filepath.Join(dir, "none"), "id")
}

// Nothing is written for programs that an image has not, nor over what somebody wrote.
func TestReachContainers(t *testing.T) {
	for what, files := range map[string]map[string]string{
		"no container programs": {"etc/hostname": ""},
		"somebody's own runc":   {"usr/sbin/runc": "", "usr/local/sbin/runc": "own"},
	} {
		root, upper := treeWith(t, files)
		if err := root.reachContainers(); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(upper, func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				t.Errorf("%s: %s was written", what, name)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	root, _ := treeWith(t, map[string]string{"etc/containers/registries.conf": ""})
	if err := root.reachContainers(); err != nil {
		t.Fatal(err)
	}
	data, err := root.readFile("/etc/containers/containers.conf.d/mayfly-trust.conf")
	if want := "volumes = [\"" + wire.TrustedFile + ":" + containerTrust + ":ro\"]\nenv = [\"PATH="; err != nil || !strings.Contains(string(data), want) {
		t.Errorf("Podman has %q, %v; want %q", data, err, want)
	}
}
