package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayfly-vm/mayfly/internal/cli/pasting"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// pastedTime bounds how long a picture may take into a machine: what is typed behind its
// paste waits.
const pastedTime = 20 * time.Second

// dropper is a machine that takes files.
type dropper interface {
	described
	Drop(ctx context.Context, data []byte, extension string) (string, error)
}

// paster brings pictures that are pasted at our terminal into a machine.
type paster struct {
	ctx    context.Context // of the view
	m      dropper
	guard  *terminal.Guard
	getenv func(string) string
	keys   *terminal.PasteReader
	busy   atomic.Bool // with the clipboard

	mu   sync.Mutex // held while it says something
	left bool       // the terminal is given back
}

// replace returns the paths in the machine of the pictures that text names on the host, and
// none for another text.
func (p *paster) replace(text string) []string {
	for _, paths := range terminal.PastedPaths(text) {
		items, ok := pasting.Pictures(paths, p.there)
		if !ok {
			continue
		}
		// What the machine itself has put into the clipboard must not choose a file.
		if p.guard.Copied(text) {
			p.say("the machine has put this path into your clipboard: the picture stays here")
			return nil
		}
		return p.drop(items)
	}
	return nil
}

// there reports whether the machine has the path of the host, too.
func (p *paster) there(path string) bool {
	plan := p.m.Plan()
	below := func(dir string) bool { return dir != "" && (path == dir || strings.HasPrefix(path, dir+"/")) }
	if below(plan.Workspace) {
		return true
	}
	for _, s := range plan.Shares {
		if below(s.Path) {
			return true
		}
	}
	return false
}

// drop puts items into the machine, and says so in the title of the window. The paths are
// quoted for a shell, where they need it.
func (p *paster) drop(items []pasting.Item) []string {
	ctx, cancel := context.WithTimeoutCause(p.ctx, pastedTime, fmt.Errorf("%s does not answer", p.m.Name()))
	defer cancel()
	paths, err := drop(ctx, p.m, items)
	if err != nil {
		p.say("the picture did not get into the machine: %v", err)
		return nil
	}
	for i := range paths {
		paths[i] = shellquote.Word(paths[i])
	}
	name := "clipboard"
	if items[0].Source != "" {
		name = filepath.Base(items[0].Source)
	}
	if n := len(items) - 1; n > 0 {
		name = fmt.Sprintf("%s and %d more", name, n)
	}
	p.say("%s was put into the machine", name)
	return paths
}

// clipboard pastes the picture or the files on the clipboard.
func (p *paster) clipboard() {
	if !p.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer p.busy.Store(false)
		items, err := pasting.Clipboard(p.ctx, p.getenv)
		switch {
		case p.ctx.Err() != nil:
		case err != nil:
			p.say("%v", err)
		case items[0].Source == "" && pasting.Picture(items[0].Data) == "":
			p.say("there is neither a picture nor a file on the clipboard")
		default:
			p.keys.Insert(p.drop(items))
		}
	}()
}

// say shows a line that the program does not draw over, until the view ends.
func (p *paster) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left || p.ctx.Err() != nil {
		return
	}
	p.guard.Notice(p.m.Name() + ": " + fmt.Sprintf(format, args...))
}

// leave ends what it says: the terminal is given back, while a paste may still be under way.
func (p *paster) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
}

// pastes returns what is typed at our terminal, which guard stands before and of which keys
// are. The pictures on the clipboard are put into the machine m, and so, with paths, are
// those whose paths are pasted. Nothing of that writes on guard behind leave.
func pastes(ctx context.Context, keys *terminal.DetachReader, m dropper, guard *terminal.Guard, getenv func(string) string, paths bool) (typed io.Reader, leave func()) {
	p := &paster{ctx: ctx, m: m, guard: guard, getenv: getenv}
	replace := p.replace
	if !paths {
		replace = func(string) []string { return nil }
	}
	keys.Paste = p.clipboard
	p.keys = terminal.NewPasteReader(ctx, keys, guard.Pastes, replace)
	return p.keys, p.leave
}
