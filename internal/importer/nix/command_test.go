package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// needNix skips t where there is no Nix, and gives it a store of its own: that of the
// host stays as it is, and /nix need not exist.
func needNix(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nix"); err != nil {
		t.Skip("Nix is not installed; make test installs Debian's nix-bin")
	}
	dir := t.TempDir()
	t.Cleanup(func() {
		// Nix takes the right to write away, also from its own user.
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(name, 0o700)
			}
			return err
		})
	})
	for name, sub := range map[string]string{
		"HOME": "home", "NIX_STORE_DIR": "store", "NIX_STATE_DIR": "var", "NIX_LOG_DIR": "log", "NIX_CONF_DIR": "etc",
	} {
		t.Setenv(name, filepath.Join(dir, sub))
	}
	t.Setenv("NIX_REMOTE", "")
}

var github = regexp.MustCompile(`(\S+) = \{\n(\s+)url = "github:[^"]*"`)

// flakeDir makes a directory of files, in which a flake's inputs are those in testdata.
func flakeDir(t *testing.T, from fs.FS) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, from); err != nil {
		t.Fatal(err)
	}
	inputs, err := filepath.Abs("testdata/inputs")
	if err != nil {
		t.Fatal(err)
	}
	flake := filepath.Join(dir, "flake.nix")
	text, err := os.ReadFile(flake)
	if err != nil {
		t.Fatal(err)
	}
	text = github.ReplaceAll(text, []byte("$1 = {\n${2}url = \"path:"+inputs+"/$1\""))
	if err := os.WriteFile(flake, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "nix", "--extra-experimental-features", "nix-command flakes", "flake", "lock", "path:"+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("nix flake lock: %v\n%s", err, out)
	}
	return dir
}

// oneFlake returns the files of a flake with the module host on a host, whose inputs
// are nixpkgs, microvm and home-manager.
func oneFlake(host string) fstest.MapFS {
	return fstest.MapFS{
		"flake.nix": {Data: []byte(`{
  inputs = {
    nixpkgs = {
      url = "github:a/b";
    };
    microvm = {
      url = "github:a/b";
    };
    home-manager = {
      url = "github:a/b";
    };
  };
  outputs = { nixpkgs, microvm, home-manager, ... }@inputs: {
    nixosConfigurations.one = nixpkgs.lib.nixosSystem {
      specialArgs = { inherit inputs; };
      modules = [ microvm.nixosModules.host ./host.nix ];
    };
  };
}`), Mode: 0o644},
		"host.nix": {Data: []byte(host), Mode: 0o644},
	}
}

// The setup that this exists for: two machines on a bridge, each with a shared
// workspace.
func TestArticle(t *testing.T) {
	needNix(t)
	dir := flakeDir(t, os.DirFS("testdata/article"))
	if err := os.WriteFile(filepath.Join(dir, "configuration.nix"), []byte("{ }"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	res, err := ImportDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range res.Notes {
		fmt.Fprintln(&b, n)
	}
	golden(t, "testdata/article.notes", []byte(b.String()))
	var names []string
	for _, m := range res.Machines {
		names = append(names, m.Name)
		golden(t, filepath.Join("testdata", m.Name+".toml"), m.File())
	}
	if d := cmp.Diff([]string{"emacsvm", "goprotobufvm"}, names); d != "" {
		t.Errorf("ImportDir: machines (-want +got)\n%s", d)
	}
	if d := cmp.Diff(before, listing(t, dir)); d != "" {
		t.Errorf("ImportDir changed the directory (-before +after)\n%s", d)
	}
	if left := listing(t, temp); len(left) > 1 {
		t.Errorf("ImportDir left %v", left)
	}
}

// listing returns the files of a directory, with their sizes and times.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all = append(all, fmt.Sprint(name, info.Size(), info.ModTime()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What only Nix knows is known, and what NixOS sets by itself is left out.
func TestImportByNix(t *testing.T) {
	needNix(t)
	unstable := strings.Repeat("0", 32)
	dir := flakeDir(t, oneFlake(`{ lib, inputs, ... }: {
		microvm.vms.a = {
			autostart = false;
			specialArgs.ip = "10.0.0.2";
			config = { lib, pkgs, ip, ... }: {
				imports = [ inputs.home-manager.nixosModules.home-manager ];
				microvm.mem = 2048;
				microvm.interfaces = [ { type = "tap"; mac = "02:00:00:00:00:0A"; id = "t"; } ];
				microvm.shares = [ { tag = "workspace"; source = "/home/bob/w"; mountPoint = "/home/bob/w"; } ];
				microvm.volumes = [ { mountPoint = null; image = "raw"; size = 1; } { mountPoint = "/var"; image = ./var.img; size = 100; } ];
				systemd.network.networks.x = { address = [ "${ip}/24" ]; gateway = [ "10.0.0.1" ]; };
				environment.systemPackages = lib.mkIf (pkgs.stdenv.hostPlatform.system == "x86_64-linux") [ pkgs.ripgrep pkgs.gcc ];
				environment.variables = { EDITOR = "vim"; N = 1; GONE = lib.mkIf false "x"; };
				environment.shellInit = "alias ll='ls -l'";
				programs.git.enable = true;
				services.nginx.enable = true;
				users.users.bob = { isNormalUser = true; home = "/home/bob"; shell = pkgs.fish; };
				users.users.owner = { };
				home-manager.users.bob = { pkgs, ... }: {
					home.homeDirectory = "/home/bob";
					home.packages = [ pkgs.delve { type = "derivation"; name = "go-1.99"; meta.position = "${builtins.storeDir}/`+unstable+`-source/pkgs/go.nix:1"; } ];
					home.sessionVariables.D = "/home/bob/d";
					programs.zsh.enable = true;
				};
			};
		};
		microvm.vms.b = { autostart = true; config.networking.hostName = throw "no name"; };
		microvm.vms.c.flake = inputs.self;
	}`))
	res, err := ImportDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Machine{
		{
			Name: "a", Profiles: []string{"zsh"}, VCPUs: 1, MemoryMiB: 2048,
			Packages:  []string{"ripgrep", "gcc", "delve", "golang-go", "git", "fish"},
			Workspace: "~/w", Volumes: []Volume{{"var", "/var", 100}},
			Mode: "bridge", Address: "10.0.0.2/24", MAC: "02:00:00:00:00:0a",
			Shell: "fish", ShellInit: "alias ll='ls -l'\n",
			Env: map[string]string{"EDITOR": "vim", "N": "1", "D": "$HOME/d"},
		},
		{Name: "b", VCPUs: 1, MemoryMiB: 512, Autostart: true, Mode: "none", Env: map[string]string{}},
	}
	if d := cmp.Diff(want, res.Machines); d != "" {
		t.Errorf("ImportDir (-want +got)\n%s", d)
	}
	notes := fmt.Sprint(res.Notes)
	for _, want := range []string{
		"mayfly net up --address 10.0.0.1/24", "a: unknown: services.nginx.enable: a service has no counterpart",
		`warning: from another nixpkgs than the machine's: "go": mayfly has`,
		`networking.hostName is "what throws an error"`, "microvm.vms.c has no config",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("ImportDir: notes\n%s\nwant %q", notes, want)
		}
	}
}

// Nix reads nothing outside, fetches nothing and builds nothing.
func TestNixIsFenced(t *testing.T) {
	needNix(t)
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "no", http.StatusNotFound)
	}))
	defer server.Close()
	const sum = "0000000000000000000000000000000000000000000000000000"
	drv := `derivation { name = "x"; system = builtins.currentSystem or "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo 3 >$out" ]; }`
	for name, cpus := range map[string]string{
		"a file":       `builtins.stringLength (builtins.readFile /etc/passwd)`,
		"a variable":   `builtins.stringLength (builtins.readFile (builtins.getEnv "HOME" + "/x"))`,
		"the network":  `builtins.stringLength (builtins.readFile (builtins.fetchurl { name = "x"; url = "` + server.URL + `/x"; sha256 = "` + sum + `"; }))`,
		"a repository": `builtins.stringLength (builtins.fetchGit { url = "` + server.URL + `/r.git"; rev = "` + sum[:40] + `"; ref = "main"; }).outPath`,
		"a build":      `builtins.stringLength (builtins.readFile (` + drv + `))`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := flakeDir(t, oneFlake(`{ microvm.vms.a.config.microvm.vcpu = `+cpus+`; }`))
			res, err := ImportDir(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), "nix eval: ") {
				t.Errorf("ImportDir = %+v, %v; want an error of nix eval", res, err)
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("Nix asked the network %d times", n)
	}
}

// Whatever the user's nix.conf allows, a stranger's flake runs no program, and Nix loads no
// library for it.
func TestNixRunsNothing(t *testing.T) {
	needNix(t)
	ran := filepath.Join(t.TempDir(), "ran")
	conf := "allow-unsafe-native-code-during-evaluation = true\nallow-import-from-derivation = true\nplugin-files = " + ran + ".so\n"
	for name, cpus := range map[string]string{
		"exec":    `builtins.exec [ "/bin/sh" "-c" "echo 3; echo >` + ran + `" ]`,
		"library": `builtins.importNative ` + ran + `.so "init"`,
		"nothing": `3`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := flakeDir(t, oneFlake(`{ microvm.vms.a.config.microvm.vcpu = `+cpus+`; }`))
			file := filepath.Join(os.Getenv("NIX_CONF_DIR"), "nix.conf")
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(conf), 0o644)); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(file)
			res, err := ImportDir(t.Context(), dir)
			if (err == nil) != (name == "nothing") || err != nil && !strings.Contains(err.Error(), "attribute") {
				t.Errorf("ImportDir = %+v, %v; want an error of a missing attribute for all but nothing", res, err)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("the flake ran a program")
			}
		})
	}
}

// What a flake does not lock is not looked for, on this computer neither: a stranger's
// flake could name any directory.
func TestNixTakesLockedInputs(t *testing.T) {
	needNix(t)
	outside, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		outside + "/secret": "CANARY",
		dir + "/flake.nix": `{
			inputs.o = { url = "path:` + outside + `"; flake = false; };
			outputs = { o, ... }: { nixosConfigurations.x.config.microvm.vms.a.autostart = builtins.readFile "${o}/secret"; };
		}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	res, err := ImportDir(t.Context(), dir)
	if err == nil || !strings.Contains(err.Error(), "in pure mode") {
		t.Errorf("ImportDir = %+v, %v; want an error: the input is not locked", res, err)
	}
	for _, name := range listing(t, os.Getenv("NIX_STORE_DIR")) {
		if strings.Contains(name, "/secret") {
			t.Errorf("%s is in the store", name)
		}
	}
}

// fakeNix makes a program named nix the only one in PATH.
func fakeNix(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, "nix"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

// someFlake returns a directory with a flake that no test evaluates.
func someFlake(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte("{ }"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Without Nix, or when it does not succeed, the reason is said.
func TestImportWithoutNix(t *testing.T) {
	flake := someFlake(t)
	tests := []struct {
		name, dir, script string
		why               string
	}{
		{"no flake", t.TempDir(), "echo {}", "there is no flake.nix"},
		{"no Nix", flake, "", "nix is not installed"},
		{"an error", flake, "echo 'error: a' >&2; echo '       error: flakes are' >&2; echo see more >&2; exit 1", "nix hash: flakes are"},
		{"no reason", flake, "exit 3", "nix hash: exit status 3"},
		{"a missing input", flake, `echo "error: unable to download 'https://x': no" >&2; exit 1`,
			"nix hash: unable to download 'https://x': no (nix flake archive fetches a flake's inputs)"},
		{"no JSON", flake, "echo hello", "what nix eval says: invalid character 'h' looking for beginning of value"},
		{"no machines", flake, "echo '{}'", "no microvm.vms.NAME is defined in nixosConfigurations"},
		{"too much", flake, `x=0123456789abcdef; x=$x$x$x$x$x$x$x$x; x=$x$x$x$x$x$x$x$x; while echo $x; do :; done`, "nix hash says more than 4 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fakeNix(t, tt.script)
			if res, err := ImportDir(t.Context(), tt.dir); err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("ImportDir = %+v, %v; want %q", res, err, tt.why)
			}
		})
	}
	fakeNix(t, "")
	if _, err := ImportDir(t.Context(), flake); fault.CodeOf(err) != fault.NixMissing {
		t.Errorf("ImportDir without Nix = %v; want the code %s", err, fault.NixMissing)
	}
}

// Where Nix cannot look at every option, there are machines all the same, and a note.
func TestImportWithoutOthers(t *testing.T) {
	fakeNix(t, `case "$*" in *.others) echo "error: infinite recursion" >&2; exit 1 ;; esac
		echo '{"microvm": {"vms": {"a": {"config": {"microvm": {"vcpu": 3}}}}}}'`)
	res, err := ImportDir(t.Context(), someFlake(t))
	if err != nil || len(res.Machines) != 1 || res.Machines[0].VCPUs != 3 {
		t.Fatalf("ImportDir = %+v, %v; want one machine", res, err)
	}
	if notes := fmt.Sprint(res.Notes); !strings.Contains(notes, "what else it sets is not listed: nix eval: infinite recursion") {
		t.Errorf("ImportDir: notes %s", notes)
	}
}

// Nix gets what it needs of the environment, and ends with the context.
func TestNixCommand(t *testing.T) {
	flake := someFlake(t)
	t.Setenv("NIX_PATH", "CANARY")
	t.Setenv("NIX_CONFIG", "CANARY")
	t.Setenv("SECRET", "CANARY")
	t.Setenv("NIX_STATE_DIR", "/state")
	seen := filepath.Join(t.TempDir(), "seen")
	fakeNix(t, "exec >"+seen+"; set; echo \"$@\"")
	if res, err := ImportDir(t.Context(), flake); err == nil {
		t.Errorf("ImportDir = %+v; want an error", res)
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "CANARY") || !strings.Contains(string(text), "NIX_STATE_DIR='/state'") || !strings.Contains(string(text), "pure-eval true") {
		t.Errorf("Nix was started with\n%s", text)
	}
	for _, want := range []string{
		"--option allow-unsafe-native-code-during-evaluation false ", "--option plugin-files  ", "--option allow-import-from-derivation false ",
		"--option allowed-uris  ", "--option builders  ", "--option pre-build-hook  ", "--option post-build-hook  ", "--offline ",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("Nix was started without %q:\n%s", want, text)
		}
	}

	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("enough"))
	defer cancel()
	fakeNix(t, "/bin/sleep 60 & /bin/sleep 60")
	began := time.Now()
	res, err := ImportDir(ctx, flake)
	if err == nil || !strings.Contains(err.Error(), "enough") || time.Since(began) > 10*time.Second {
		t.Errorf("ImportDir = %+v, %v after %v; want the end of the context", res, err, time.Since(began))
	}
}

// What others may not read does not get where they can.
func TestCopyFlake(t *testing.T) {
	top := t.TempDir()
	from := filepath.Join(top, "from")
	for name, mode := range map[string]os.FileMode{
		"flake.nix": 0o600, "flake.lock": 0o600, "sub/vms.nix": 0o644, "zshrc": 0o644, "run": 0o755,
		"key": 0o600, ".git/config": 0o644, ".env": 0o644, "../outside": 0o644,
	} {
		name = filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(from, "link.nix")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	to := filepath.Join(top, "to")
	if err := copyFlake(root, to); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := fs.WalkDir(os.DirFS(to), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"flake.lock", "flake.nix", "run", "sub/vms.nix", "zshrc"}, got); d != "" {
		t.Errorf("copyFlake (-want +got)\n%s", d)
	}
	if text, err := os.ReadFile(to + "/zshrc"); err != nil || string(text) != from+"/zshrc" {
		t.Errorf("copyFlake: zshrc = %q, %v", text, err)
	}

	if err := os.Truncate(from+"/zshrc", maxFlakeSize+1); err != nil {
		t.Fatal(err)
	}
	if err := copyFlake(root, filepath.Join(top, "large")); err == nil {
		t.Error("copyFlake copied more than it may")
	}
}
