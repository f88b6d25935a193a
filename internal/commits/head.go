package commits

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

// errMoved is that HEAD was changed meanwhile, or that another git changes it.
var errMoved = errors.New("what is checked out was changed")

// headText returns what HEAD says, without its end of line: "ref: REF", or a commit.
func (r *Repository) headText() (string, error) {
	text, ok := repository.ReadHead(r.place.Dir)
	if !ok {
		return "", unfit("its HEAD cannot be read")
	}
	return strings.TrimSpace(text), nil
}

// validHead reports whether text is one of a branch or of a commit.
func (r *Repository) validHead(text string) bool {
	ref, ok := strings.CutPrefix(text, "ref: ")
	return ok && checkRef(ref) == nil && ref != headRef || !ok && isID(text, r.format)
}

// setHead has HEAD say another text in place of old, as git does it, with its lock and its log.
// The working tree and the index are others' work.
func (r *Repository) setHead(ctx context.Context, why, old, text string) (err error) {
	if err := r.makeLogs(); err != nil {
		return err
	}
	head := filepath.Join(r.place.Dir, "HEAD")
	lock, err := os.OpenFile(head+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o666)
	if errors.Is(err, os.ErrExist) {
		return errMoved
	}
	if err != nil {
		return err
	}
	defer func() {
		lock.Close()
		if err != nil { // else it is HEAD, and a lock of this name is another git's
			os.Remove(head + ".lock")
		}
	}()
	if now, err := r.headText(); err != nil || now != old {
		return errors.Join(errMoved, err)
	}
	if r.Record != nil {
		if err := r.Record([]Moved{{Ref: headRef, Old: old, New: text}}); err != nil {
			return err
		}
	}
	if err := r.copyHead(); err != nil {
		return err
	}
	// In the view, for the log, which is the user's.
	args := []string{"update-ref", "--no-deref", "-m", why, headRef, text}
	if ref, ok := strings.CutPrefix(text, "ref: "); ok {
		args = []string{"symbolic-ref", "-m", why, headRef, ref}
	}
	if _, err := r.git(ctx, args...); err != nil {
		return err
	}
	if _, err := lock.WriteString(text + "\n"); err != nil {
		return err
	}
	return errors.Join(lock.Sync(), os.Rename(head+".lock", head))
}

// takeHeadBack has HEAD say what it said before moves, if it says what these made of it. The
// index goes along. It returns the moves of branches, and whether HEAD is as before; or why not.
func (r *Repository) takeHeadBack(ctx context.Context, moves []Moved) (rest []Moved, back bool, why string, err error) {
	text, err := r.headText()
	if err != nil {
		return nil, false, "", err
	}
	was, moved := text, false
	for i := len(moves) - 1; i >= 0; i-- {
		m := moves[i]
		if m.Ref != headRef {
			rest = append(rest, m)
			continue
		}
		if !r.validHead(m.Old) || !r.validHead(m.New) {
			return nil, false, "", unfit("a record of HEAD")
		}
		moved = true
		switch was {
		case m.New:
			was = m.Old
		case m.Old: // it was not carried out, or was taken back
		default:
			why = "something else is checked out now"
		}
	}
	slices.Reverse(rest)
	if !moved || why != "" || was == text {
		return rest, moved && why == "", why, nil
	}
	commit := func(text string) (string, error) {
		return r.git(ctx, "rev-parse", "--verify", "--quiet", strings.TrimPrefix(text, "ref: ")+"^{commit}")
	}
	from, err := commit(text)
	if err != nil {
		return nil, false, "", err
	}
	to, err := commit(was)
	if err != nil {
		return rest, false, "what was checked out is not there any more", nil
	}
	if err := r.readTree(ctx, from, to); err != nil {
		if ctx.Err() != nil {
			return nil, false, "", err
		}
		return rest, false, stagedReason, nil
	}
	if err := r.setHead(ctx, "mayfly: undo", text, was); err != nil {
		r.readTree(context.WithoutCancel(ctx), to, from)
		if errors.Is(err, errMoved) {
			return rest, false, "another git runs", nil
		}
		return nil, false, "", err
	}
	r.refresh(ctx)
	return rest, true, "", nil
}
