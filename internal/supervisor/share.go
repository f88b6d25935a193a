package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/share"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// fileServer is the server of one of the plan's shares.
type fileServer struct {
	share plan.Share
	*share.Process
	log    *output
	copied chan struct{} // closed when the log is complete
}

// startShares starts the servers of the shares, before the VMM, which ends before
// them.
func (s *supervisor) startShares() error {
	for _, sh := range s.plan.Shares {
		if err := s.startShare(sh); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervisor) startShare(sh plan.Share) error {
	if s.plan.ShareServer == nil {
		return errors.New("the plan names no server for its live directories")
	}
	log, err := newOutput(s.machine.File(state.ShareLogFile(sh.Tag)))
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		log.close()
		return err
	}
	copied := make(chan struct{})
	go func() { // waited for by whoever ends the server
		defer close(copied)
		log.copy(r)
		r.Close()
	}()
	u := s.plan.Guest.User
	s.noteOwner(sh, u)
	p, err := share.Start(ownProgram, share.Spec{Server: *s.plan.ShareServer, Share: sh, UID: u.UID, GID: u.GID}, s.machine.Dir, w)
	w.Close()
	if err != nil {
		<-copied
		log.close()
		return err
	}
	s.log.Debug("started a server", "source", sh.Source, "path", sh.Path, "pid", p.PID())
	s.shares = append(s.shares, fileServer{sh, p, log, copied})
	return nil
}

// noteOwner says so when root shares a directory in which the guest's user can
// change nothing.
func (s *supervisor) noteOwner(sh plan.Share, u plan.User) {
	fi, err := os.Stat(sh.Source)
	if err != nil || os.Geteuid() != 0 || sh.ReadOnly {
		return // Start says what is wrong
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != u.UID {
		s.warn("%s belongs to user %d, and machines of root work as user %d: they can change there what that user may (chown -R %d:%d %s)",
			sh.Source, st.Uid, u.UID, u.UID, u.GID, sh.Source)
	}
}

// ownProgram is this program, also after its file was replaced.
const ownProgram = "/proc/self/exe"

// shareFiles returns the VMM's ends of the servers' sockets, by their names.
func (s *supervisor) shareFiles() map[string]*os.File {
	files := make(map[string]*os.File, len(s.shares))
	for i, sv := range s.shares {
		files[machine.ShareFile(i)] = sv.VMM
	}
	return files
}

// lastWords says why a server has ended.
func (sv fileServer) lastWords() error {
	<-sv.copied
	err := fmt.Errorf("the server of %s ended", sv.share.Source)
	if line := sv.log.end(1); line != "" {
		return fmt.Errorf("%w: %s", err, line)
	}
	if exit := sv.Err(); exit != nil {
		return fmt.Errorf("%w: %w", err, exit)
	}
	return err
}

// shareFailure returns an error when a server has failed, which may have ended the
// VMM, too.
func (s *supervisor) shareFailure() error {
	for _, sv := range s.shares {
		select {
		case <-sv.Done():
			if sv.Err() != nil {
				return hint.Wrap(sv.lastWords(), "mayfly doctor, or workspace.mode = \"copy\"")
			}
		default:
		}
	}
	return nil
}

// watchShares tells the guest when a server ends, until ctx does: it would wait
// for ever.
func (s *supervisor) watchShares(ctx context.Context) (wait func()) {
	for _, sv := range s.shares {
		s.watchers.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-s.vmm.Done():
				return
			case <-sv.Done():
			}
			select {
			case <-s.vmm.Done(): // of which it is the end, too
				return
			case <-time.After(vmmGrace):
			}
			s.loseShare(ctx, sv)
		})
	}
	return s.watchers.Wait
}

// vmmGrace is the time in which the end of a VMM is seen after that of its servers.
const vmmGrace = 200 * time.Millisecond

// shareTimeout bounds what the guest takes to let go of a share.
const shareTimeout = 30 * time.Second

func (s *supervisor) loseShare(ctx context.Context, sv fileServer) {
	err := sv.lastWords()
	s.warn("%v; what uses it in the machine gets errors", err)
	s.log.Error("a server ended", "err", err)
	err = s.call(ctx, shareTimeout, func(stream guestStream) error {
		return client.ShareLost(stream, sv.share.Tag)
	})
	s.log.Info("a share is gone", "path", sv.share.Path, "err", err)
}

// endShares ends the servers, after the VMM.
func (s *supervisor) endShares() {
	for _, sv := range s.shares {
		sv.Kill()
		<-sv.copied
		sv.log.close()
	}
	s.shares = nil
}
