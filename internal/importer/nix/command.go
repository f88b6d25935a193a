package nix

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Limits of what Nix is given, takes and says.
const (
	maxFlakeSize    = 64 << 20
	maxFlakeEntries = 20_000          // files and directories
	maxEvalTime     = 5 * time.Minute // NixOS takes several seconds a machine, and more on a slow computer
	maxSaid         = 4 << 20
)

// extract is the function that picks what we read of a flake.
//
//go:embed extract.nix
var extract string

// evaluate evaluates the flake in root. Nix gets a copy: so no git runs in a directory
// that may be anybody's, and what is not for other users does not get into Nix's store,
// which they can read.
//
// It fetches nothing and builds nothing: inputs have to be in the store. It does not
// write into the directory. Into the store it writes the copy, and derivations that
// texts of the configuration name.
func evaluate(ctx context.Context, root *os.Root) (evaluated, error) {
	if _, err := root.Lstat("flake.nix"); err != nil {
		return evaluated{}, fault.New(fault.FlakeMissing, fault.Args{"dir": root.Name()}, "there is no flake.nix in %s", termsafe.Quote(root.Name()))
	}
	if _, err := tool.Find("nix"); err != nil {
		return evaluated{}, fault.New(fault.NixMissing, nil, "nix is not installed")
	}
	temp, err := os.MkdirTemp("", "mayfly-nix-")
	if err != nil {
		return evaluated{}, err
	}
	defer os.RemoveAll(temp)
	flake := filepath.Join(temp, "source")
	if err := copyFlake(root, flake); err != nil {
		return evaluated{}, fmt.Errorf("copy the flake: %w", err)
	}

	ctx, cancel := context.WithTimeoutCause(ctx, maxEvalTime, fmt.Errorf("no result after %v", maxEvalTime))
	defer cancel()
	// A flake with a hash is a locked one, and pure getFlake takes none but locked inputs.
	// `nix eval FLAKE` would look for the others, --no-update-lock-file or not.
	hash, err := runNix(ctx, temp, "hash", "path", flake)
	if err != nil {
		return evaluated{}, err
	}
	ref := "path:" + (&url.URL{Path: flake}).EscapedPath() + "?narHash=" + url.QueryEscape(strings.TrimSpace(string(hash)))
	eval := func(what string) ([]byte, error) {
		return runNix(ctx, temp, "eval", "--json", "--expr", fmt.Sprintf("((%s) (builtins.getFlake %q)).%s", extract, ref, what))
	}
	var e evaluated
	if e.machines, err = eval("machines"); err != nil {
		return evaluated{}, err
	}
	// To look at every option that there is may fail where to read a few does not.
	e.others, e.err = eval("others")
	return e, context.Cause(ctx)
}

// runNix runs a command of Nix in dir and returns what it prints.
func runNix(ctx context.Context, dir string, args ...string) ([]byte, error) {
	out := &bounded{left: maxSaid}
	err := tool.Run(ctx, tool.Cmd{
		Name: "nix",
		Args: append([]string{
			// A nix.conf may leave the first out, and may allow the others.
			"--extra-experimental-features", "nix-command flakes",
			"--option", "pure-eval", "true",
			"--option", "allow-import-from-derivation", "false",
			"--option", "accept-flake-config", "false",
			// With this, builtins.exec runs what a flake likes.
			"--option", "allow-unsafe-native-code-during-evaluation", "false",
			"--option", "plugin-files", "",
			"--option", "allowed-uris", "",
			"--option", "builders", "",
			"--option", "pre-build-hook", "",
			"--option", "post-build-hook", "",
			"--offline",
		}, args...),
		Dir:        dir,
		Env:        noNetwork,
		Drop:       func(name string) bool { return !slices.Contains(nixVariables, name) },
		Stdout:     out,
		NoTerminal: true,
	})
	if out.left < 0 {
		return nil, fmt.Errorf("nix %s says more than %d MiB", args[0], maxSaid>>20)
	}
	if failed, ok := errors.AsType[*tool.Error](err); ok {
		return nil, fmt.Errorf("nix %s: %s", args[0], nixReason(failed))
	}
	return out.data, err
}

// nixVariables are what Nix gets of the environment: where its store and its own
// configuration are. No NIX_PATH and no NIX_CONFIG, which would widen both.
var nixVariables = []string{
	"HOME", "USER", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
	"NIX_REMOTE", "NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR",
}

// noNetwork keeps Nix from fetching. --offline alone only makes it give up early:
// it does ask. So curl in it gets a proxy where nobody can listen, and it finds
// neither git nor ssh.
var noNetwork = []string{
	"http_proxy=http://127.0.0.1:0", "https_proxy=http://127.0.0.1:0", "all_proxy=http://127.0.0.1:0",
	"PATH=/nonexistent",
}

// nixReason returns the line in which Nix says why it failed: the last that begins with
// "error:". Newer versions write the places that led there before it.
func nixReason(failed *tool.Error) string {
	reason := ""
	for line := range strings.Lines(failed.Tail) {
		if said, ok := strings.CutPrefix(strings.TrimSpace(line), "error:"); ok && strings.TrimSpace(said) != "" {
			reason = strings.TrimSpace(said)
		}
	}
	const limit = 240
	switch {
	case reason == "":
		return failed.Err.Error()
	case len(reason) > limit:
		reason = termsafe.Clip(reason, limit)
	}
	reason = termsafe.Line(reason)
	for _, sign := range []string{"unable to download", "'git'", "Git revision"} {
		if strings.Contains(reason, sign) {
			return reason + " (nix flake archive fetches a flake's inputs)"
		}
	}
	return reason
}

// bounded keeps what is written, and refuses what is too much. It embeds no buffer, which
// io.Copy would fill by its ReadFrom.
type bounded struct {
	data []byte
	left int // < 0: too much was written
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("too much")
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

// copyFlake copies the files of root to the new directory dir: not those that are
// hidden, links, or closed to other users, unless Nix reads them as the flake itself.
func copyFlake(root *os.Root, dir string) error {
	fsys := root.FS()
	entries, left := 0, int64(maxFlakeSize)
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > maxFlakeEntries {
			return fmt.Errorf("more than %d files and directories", maxFlakeEntries)
		}
		target := filepath.Join(dir, name)
		switch hidden := name != "." && d.Name()[0] == '.'; {
		case hidden && d.IsDir():
			return fs.SkipDir
		case d.IsDir():
			return os.Mkdir(target, 0o755)
		case hidden || !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		const othersRead = 0o004
		if info.Mode()&othersRead == 0 && filepath.Ext(name) != ".nix" && name != "flake.lock" {
			return nil
		}
		if left -= info.Size(); left < 0 {
			return fmt.Errorf("more than %d MiB", maxFlakeSize>>20)
		}
		return copyFile(fsys, name, target, info)
	})
}

// copyFile copies one file, as large as info says.
func copyFile(fsys fs.FS, name, target string, info fs.FileInfo) error {
	in, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|info.Mode().Perm()&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, info.Size()))
	return errors.Join(err, out.Close())
}
