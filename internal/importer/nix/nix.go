// Package nix reads definitions of micro-VMs that were written for NixOS and
// microvm.nix, and turns them into what a machine's file says.
//
// A directory with a flake comes in, machines and notes go out. The host's nix eval
// evaluates the flake; evaluate says what it may do. extract.nix picks what machines are
// made of, as JSON. The rest of this package maps that: packages of nixpkgs to Debian's,
// microvm.shares to live shares, and so on. What has no counterpart, or no value, is
// noted and left out. No value is guessed.
//
// The flake may be anybody's: what Nix says of it is bounded, and not trusted.
package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// ErrNone is wrapped by the error for a flake that defines no machine.
var ErrNone = errors.New("no microvm.vms.NAME is defined")

// maxMachines bounds the machines of one flake.
const maxMachines = 256

// Result is what was imported.
type Result struct {
	Machines []Machine // sorted by name
	Notes    []Note    // those of one machine together, the most important first
}

// ImportDir imports the machines that the flake in dir defines. No symbolic link leads
// out of dir.
func ImportDir(ctx context.Context, dir string) (Result, error) {
	root, err := userfile.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return Result{}, fault.New(fault.FlakeMissing, fault.Args{"dir": dir}, "import from Nix: there is no directory %s", termsafe.Quote(dir))
	}
	if err != nil {
		return Result{}, fmt.Errorf("import from Nix: %w", err)
	}
	defer root.Close()
	said, err := evaluate(ctx, root)
	if err != nil {
		return Result{}, fmt.Errorf("import from Nix: %w", err)
	}
	res, err := said.result()
	if err != nil {
		return Result{}, fmt.Errorf("import from Nix: %w", err)
	}
	return res, nil
}

// result makes machines of what Nix says.
func (e evaluated) result() (Result, error) {
	vms, err := e.parseMachines()
	if err != nil {
		return Result{}, err
	}
	if len(vms) == 0 {
		return Result{}, fmt.Errorf("%w in nixosConfigurations", ErrNone)
	}
	if len(vms) > maxMachines {
		return Result{}, fmt.Errorf("there are more than %d machines", maxMachines)
	}
	others, err := e.parseOthers()
	var res Result
	for _, n := range slices.Sorted(maps.Keys(vms)) {
		m := newImporter(n, vms[n])
		switch {
		case !naming.Valid(n):
			m.Name = "" // it is in the text
			m.note(Warning, "microvm.vms.%s: %s is no name for a machine", n, quote(n))
		case !vms[n].Config.set:
			m.note(Unknown, "microvm.vms.%s has no config that can be read", n)
		default:
			m.read()
			m.reportOthers(others, err)
			res.Machines = append(res.Machines, m.Machine)
		}
		res.Notes = append(res.Notes, m.sortedNotes()...)
	}
	return res, nil
}
