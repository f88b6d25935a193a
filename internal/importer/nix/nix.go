// Package nix reads definitions of micro-VMs that were written for NixOS and
// microvm.nix, as `microvm.vms.NAME` in a directory of .nix files, and turns them
// into what a machine's file says.
//
// A directory comes in, machines and notes go out. A flake is evaluated by the host's
// nix eval, where there is one and that succeeds: see nixEval for what it may do.
// Otherwise nothing of Nix is needed or run: the package has a parser for the language
// and a small lazy evaluator. It fetches nothing, builds nothing and opens no file but
// those that it was given. What it does not know (packages, inputs of a flake,
// functions of nixpkgs) has a value that is opaque: it can be passed around, and
// wherever something depends on it there is a note. No value is guessed.
//
// What Nix says becomes values of that evaluator, so that machines are made of both in
// one way.
//
// The subset: all of the language but search paths (<nixpkgs>), which are opaque;
// the usual functions of builtins and lib (see builtinNamed); modules as functions,
// sets or paths, with imports, mkIf, mkMerge, mkDefault, mkForce and `config`. The
// files may come from anyone: their size, their nesting and the steps and the memory
// of their evaluation are bounded.
package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Limits of what is read.
const (
	maxFileSize  = 256 << 10
	maxTotalSize = 4 << 20
	maxFiles     = 512
	maxEntries   = 20_000 // of directories
	maxWalk      = 8      // directories below each other
)

// Kind says what a note asks of its reader.
type Kind string

// The kinds of notes.
const (
	Warning Kind = "warning" // look at this before the machine starts
	Unknown Kind = "unknown" // its value is not known without Nix; nothing was put in its place
	Dropped Kind = "dropped" // has no counterpart, or mayfly does it itself
)

// Note is something of a definition that its machine file does not say. The text may
// hold words of the files, quoted.
type Note struct {
	Machine string // "": all of them
	File    string // "": no place
	Line    int
	Kind    Kind
	Text    string
}

func (n Note) String() string {
	var b strings.Builder
	if n.Machine != "" {
		b.WriteString(n.Machine + ": ")
	}
	if n.File != "" {
		fmt.Fprintf(&b, "%s:%d: ", printable(n.File), n.Line)
	}
	fmt.Fprintf(&b, "%s: %s", n.Kind, n.Text)
	return b.String()
}

// ErrNone is wrapped by the error for files that define no machine.
var ErrNone = errors.New("no microvm.vms.NAME is defined")

// Result is what was imported.
type Result struct {
	By       Evaluator // ByNix or Own
	Why      string    // Nix was not used; "": it was, or was not to be
	Machines []Machine // sorted by name
	Notes    []Note    // of use even with an error
}

// ImportDir imports the machines that the .nix files in dir and below define. No
// symbolic link leads out of it. With Auto, Nix that is not there or does not succeed
// is no error.
func ImportDir(ctx context.Context, dir string, by Evaluator) (Result, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Result{}, fmt.Errorf("import from Nix: %w", err)
	}
	defer root.Close()
	res := Result{By: ByNix}
	if by != Own {
		res.Machines, res.Notes, err = importByNix(ctx, root)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil || by == ByNix {
			return res, fmt.Errorf("import from Nix: %w", err)
		}
		res.Why = err.Error()
	}
	res.By = Own
	res.Machines, res.Notes, err = Import(root.FS())
	return res, err
}

// importByNix imports the machines that Nix finds in root.
func importByNix(ctx context.Context, root *os.Root) ([]Machine, []Note, error) {
	data, err := nixEval(ctx, root)
	if err != nil {
		return nil, nil, err
	}
	return importExtracted(root.FS(), data)
}

// Import imports the machines of the .nix files in fsys, sorted by name, without Nix.
// The notes are of use even with an error.
func Import(fsys fs.FS) ([]Machine, []Note, error) {
	files, err := findFiles(fsys)
	if err != nil {
		return nil, nil, fmt.Errorf("import from Nix: %w", err)
	}
	ev := newEvaluator(fsys)
	machines, err := ev.machines(ev.imported(files))
	if err != nil {
		return nil, ev.sortedNotes(), fmt.Errorf("import from Nix: %w", err)
	}
	if len(machines) == 0 {
		return nil, ev.sortedNotes(), fmt.Errorf("import from Nix: %w in %d files", ErrNone, len(files))
	}
	return machines, ev.sortedNotes(), nil
}

// findFiles returns the paths of the .nix files.
func findFiles(fsys fs.FS) ([]string, error) {
	var files []string
	entries := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > maxEntries {
			return fmt.Errorf("more than %d files and directories", maxEntries)
		}
		hidden := name != "." && strings.HasPrefix(path.Base(name), ".")
		if d.IsDir() {
			if hidden || strings.Count(name, "/") >= maxWalk {
				return fs.SkipDir
			}
			return nil
		}
		if !hidden && d.Type().IsRegular() && strings.HasSuffix(name, ".nix") {
			files = append(files, name)
		}
		if len(files) > maxFiles {
			return fmt.Errorf("more than %d .nix files", maxFiles)
		}
		return nil
	})
	slices.Sort(files)
	return files, err
}

// printable makes text of the files safe to print.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd || r == 0x202e {
			return '?'
		}
		return r
	}, s)
}

// quote quotes text of the files, cut so that a note stays one line.
func quote(s string) string {
	const limit = 100
	if len(s) > limit {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:limit], ""))
	}
	return fmt.Sprintf("%q", s)
}
