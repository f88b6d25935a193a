package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/tomledit"
)

// AllowAlways lets the running machine name reach what rules say, each one host, and writes
// them into its file, whose path it returns. What is wrong with the file it finds out
// before; if the file cannot be written, the machine may reach the hosts until it ends.
func (e *Engine) AllowAlways(ctx context.Context, name string, rules []plan.Rule) (st control.NetworkState, file string, err error) {
	for _, r := range rules {
		if strings.HasPrefix(r.Host, "*.") || len(r.Methods)+len(r.Paths) > 0 || r.Once || r.Passthrough {
			return st, "", InputError{fault.New(fault.RulePattern, args{"rule": r.String(), "machine": name}, "%s is not one host", r)}
		}
	}
	m, err := e.find(name)
	if err != nil {
		return st, "", err
	}
	d, err := e.definitions().Get(name)
	if fault.CodeOf(err) == fault.MachineUndefined {
		return st, "", fault.New(fault.MachineFileless, args{"name": name, "rule": rules[0].String()}, "%s has no file of its own", name)
	} else if err != nil {
		return st, "", err
	}
	release, err := e.definitions().LockFiles(ctx)
	if err != nil {
		return st, d.Path, err
	}
	defer release()
	if st, err = control.ChangeNetwork(m, control.NetworkChange{}); err != nil {
		return st, d.Path, e.aboutVersion(err, name)
	}
	edit, err := e.editAllow(ctx, name, d.Path, askedPorts(rules, st.Questions))
	if err != nil {
		return st, d.Path, err
	}
	if st, err = control.ChangeNetwork(m, control.NetworkChange{Allow: rules}); err != nil {
		return st, d.Path, e.aboutVersion(err, name)
	}
	if err := edit.write(); err != nil {
		return st, d.Path, fmt.Errorf("%s may reach it until it ends; for later: %w", name, err)
	}
	return st, d.Path, nil
}

// askedPorts returns rules with one more for each port that is asked about of a host whose
// rule names none, as such a rule is in force for that, too.
func askedPorts(rules []plan.Rule, questions []control.Question) []config.Rule {
	var all []config.Rule
	for _, r := range rules {
		one := config.Rule{Host: r.Host, Port: r.Port, Private: r.Private}
		all = append(all, one)
		for _, q := range questions {
			if r.Port == 0 && q.Host == r.Host && q.Port != 80 && q.Port != 443 {
				one.Port = q.Port
				all = append(all, one)
			}
		}
	}
	return all
}

// fileEdit is what is to become of a file.
type fileEdit struct {
	path          string
	before, after []byte
	perm          fs.FileMode
}

// editAllow finds out what becomes of the file of the machine name with rules. Only a file of
// the user's own is written into: a link may lead into a repository.
func (e *Engine) editAllow(ctx context.Context, name, path string, rules []config.Rule) (fileEdit, error) {
	unfit := func(format string, a ...any) (fileEdit, error) {
		return fileEdit{}, fault.New(fault.FileUnfit, args{"file": path, "machine": name, "line": config.AllowLine(rules)}, format, a...)
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return fileEdit{}, err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		return unfit("%s is a link, and what it leads to may be another's", path)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return unfit("%s belongs to another user", path)
	}
	file, err := config.ReadFile(path)
	if err != nil {
		return fileEdit{}, err
	}
	edit := fileEdit{path, file.Data, nil, fi.Mode().Perm()}
	edit.after, err = config.AllowIn(file, rules)
	switch {
	case errors.Is(err, tomledit.ErrShape):
		return unfit("%s has its allow list in a form that only you can add to", path)
	case err != nil:
		return fileEdit{}, err
	}
	return edit, e.CheckFile(ctx, name, edit.after)
}

// write replaces the file, unless an editor was quicker.
func (f fileEdit) write() error {
	if bytes.Equal(f.before, f.after) {
		return nil
	}
	now, err := config.ReadFile(f.path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now.Data, f.before) {
		return fmt.Errorf("%s was changed meanwhile", f.path)
	}
	return atomicfile.Write(f.path, f.after, f.perm)
}
