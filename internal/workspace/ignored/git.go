package ignored

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// git runs a command that starts no program of the configuration's: the user's own holds,
// since it may name files with more rules.
func git(ctx context.Context, dir string, in io.Reader, out io.Writer, args ...string) error {
	return gitrun.Run(ctx, gitrun.Cmd{
		Dir: dir, Args: append([]string{"--no-replace-objects"}, args...), Keep: gitrun.KeepUser, Stdin: in, Stdout: out,
	})
}

// answer is what git says of the paths that it was asked about, which is noted at these.
type answer struct {
	asked *paths
	links map[string]bool // other repositories in the index: directories
}

func (a *answer) ignores(p string) bool {
	if !a.asked.is(p, isMatched) || a.asked.is(p, isTracked) {
		return false
	}
	if len(a.links) > 0 {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if a.links[dir] {
				return false // no rule of this repository's counts in there
			}
		}
	}
	return true
}

// consult asks the repository of dir about paths relative to it, with by also by which patterns
// they are ignored.
func consult(ctx context.Context, dir string, asked *paths, by bool) (*answer, error) {
	a := &answer{asked: asked, links: make(map[string]bool)}
	// Before git hears a word of the guest's: does it work here at all?
	if err := probe(ctx, dir); err != nil {
		return nil, err
	}
	if err := git(ctx, dir, nil, &records{each: a.index}, "ls-files", "-z", "--stage"); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", ErrUnknown, gitrun.Reason(err))
	}
	// --no-index, since with it git compares each path with all of the index.
	matched := func(p []byte, is known) {
		asked.set(bytes.TrimSuffix(bytes.TrimPrefix(p, []byte("./")), []byte("/")), is)
	}
	out, args := &records{each: func(p []byte) { matched(p, isMatched) }}, []string(nil)
	if by {
		args = []string{"--verbose"}
		n, is := 0, known(0)
		out.each = func(field []byte) {
			switch n++; n % 4 { // the file of the pattern, its line, the pattern, the path
			case 3:
				is = patternSays(string(field))
			case 0:
				matched(field, is)
			}
		}
	}
	if err := checkIgnore(ctx, dir, asked.reader(), out, args...); err != nil {
		return nil, fmt.Errorf("find out what git ignores in %s: %w", dir, err)
	}
	return a, nil
}

// patternSays returns what a pattern says of a new directory that it matches. One that ends
// with stars, such as "*" or "dir/*", also matches the empty name in "dir/", which stands for
// the directory: others may take back what it says of single files in there.
func patternSays(pattern string) known {
	if strings.HasPrefix(pattern, "!") {
		return 0
	}
	last := path.Base(pattern)
	if strings.Trim(last, "*") == "" || strings.HasSuffix(last, "**") { // some gits let the latter cross a slash
		return isMatched | isLoose
	}
	return isMatched
}

func checkIgnore(ctx context.Context, dir string, in io.Reader, out io.Writer, args ...string) error {
	err := git(ctx, dir, in, out, append([]string{"check-ignore", "-z", "--stdin", "--no-index"}, args...)...)
	if gitrun.Failed(err, 1) {
		return nil // none is ignored
	}
	return err
}

// probeTimeout bounds the time in which git reads the rules for one path.
var probeTimeout = 10 * time.Second

// probe finds out whether git reads the rules in dir to their end. They may be a FIFO, as
// all files of a repository that was made to be opened.
func probe(ctx context.Context, dir string) error {
	limited, cancel := context.WithTimeoutCause(ctx, probeTimeout, fmt.Errorf("it does not end within %v", probeTimeout))
	defer cancel()
	err := checkIgnore(limited, dir, strings.NewReader("./.\x00"), io.Discard)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrUnknown, gitrun.Reason(err))
}

// index takes an entry of the index as ls-files --stage has it.
func (a *answer) index(entry []byte) {
	mode, p, ok := bytes.Cut(entry, []byte("\t"))
	if !ok {
		return
	}
	if bytes.HasPrefix(mode, []byte("160000 ")) {
		a.links[string(p)] = true
	}
	for len(p) > 0 {
		if a.asked.set(p, isTracked) {
			break // and what it is in
		}
		p = p[:max(0, bytes.LastIndexByte(p, '/'))]
	}
}

// records splits what is written to it at each NUL.
type records struct {
	each func([]byte)
	part []byte
}

func (r *records) Write(b []byte) (int, error) {
	n := len(b)
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			r.part = append(r.part, b...)
			return n, nil
		}
		r.part = append(r.part, b[:i]...)
		r.each(r.part)
		r.part, b = r.part[:0], b[i+1:]
	}
}
