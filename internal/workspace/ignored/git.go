package ignored

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
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

// answer is what git says of the paths that it was asked about.
type answer struct {
	matched map[string]bool // paths that rules match
	tracked map[string]bool // paths in the index, with the directories that they are in
	links   map[string]bool // other repositories in the index: directories
}

func (a *answer) ignores(p string) bool {
	if !a.matched[p] || a.tracked[p] {
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

// consult asks the repository of dir about paths relative to it. The value of a path says
// whether it is a directory that is not on the host.
func consult(ctx context.Context, dir string, asked map[string]bool) (*answer, error) {
	a := &answer{matched: make(map[string]bool), tracked: make(map[string]bool), links: make(map[string]bool)}
	// Before git hears a word of the guest's: does it work here at all?
	if err := probe(ctx, dir); err != nil {
		return nil, err
	}
	index := &records{each: func(entry string) { a.index(entry, asked) }}
	if err := git(ctx, dir, nil, index, "ls-files", "-z", "--stage"); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", ErrUnknown, gitrun.Reason(err))
	}
	// --no-index, since with it git compares each path with all of the index.
	var in bytes.Buffer
	for _, p := range slices.Sorted(maps.Keys(asked)) {
		in.WriteString("./" + p) // which may begin as one of git's patterns
		if asked[p] {
			in.WriteByte('/')
		}
		in.WriteByte(0)
	}
	out := &records{each: func(p string) { a.matched[strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/")] = true }}
	if err := checkIgnore(ctx, dir, &in, out); err != nil {
		return nil, fmt.Errorf("find out what git ignores in %s: %w", dir, err)
	}
	return a, nil
}

func checkIgnore(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	err := git(ctx, dir, in, out, "check-ignore", "-z", "--stdin", "--no-index")
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
func (a *answer) index(entry string, asked map[string]bool) {
	mode, p, ok := strings.Cut(entry, "\t")
	if !ok {
		return
	}
	if strings.HasPrefix(mode, "160000 ") {
		a.links[p] = true
	}
	for ; p != "."; p = path.Dir(p) {
		if _, ok := asked[p]; !ok {
			continue
		}
		if a.tracked[p] {
			break // and what it is in
		}
		a.tracked[p] = true
	}
}

// records splits what is written to it at each NUL.
type records struct {
	each func(string)
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
		r.each(string(append(r.part, b[:i]...)))
		r.part, b = r.part[:0], b[i+1:]
	}
}
