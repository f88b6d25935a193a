package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/share"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// fileServer is the server of one of the plan's shares.
type fileServer struct {
	share plan.Share
	*share.Process
	log    *output
	copied chan struct{} // closed when the log is complete
}

// shareServers serve the shares of one VMM.
type shareServers []fileServer

// startShares starts the servers of the shares, before the VMM, which ends before
// them.
func (s *supervisor) startShares(ctx context.Context) (shareServers, error) {
	var all shareServers
	for _, sh := range s.plan.Shares {
		sv, err := s.startShare(ctx, sh)
		if err != nil {
			all.Close()
			return nil, err
		}
		all = append(all, sv)
	}
	return all, nil
}

func (s *supervisor) startShare(ctx context.Context, sh plan.Share) (sv fileServer, err error) {
	if s.plan.ShareServer == nil {
		return sv, errors.New("the plan names no server for its live directories")
	}
	log, err := newOutput(s.held.path(s.machine.File(state.ShareLogFile(sh.Tag))))
	if err != nil {
		return sv, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		log.close()
		return sv, err
	}
	copied := make(chan struct{})
	go func() { // waited for by whoever ends the server
		defer close(copied)
		log.copy(r)
		r.Close()
	}()
	u := s.plan.Guest.User
	s.noteOwner(sh, u)
	p, err := s.serve(ctx, share.Spec{Server: *s.plan.ShareServer, Share: sh, UID: u.UID, GID: u.GID}, w)
	w.Close()
	if err != nil {
		<-copied
		log.close()
		return sv, err
	}
	s.log.Debug("started a server", "source", sh.Source, "path", sh.Path, "pid", p.PID())
	return fileServer{sh, p, log, copied}, nil
}

// serve starts the server of a directory, with guards on what is hidden and protected there.
func (s *supervisor) serve(ctx context.Context, spec share.Spec, log *os.File) (*share.Process, error) {
	guard, unmatched, err := share.FindGuard(ctx, spec.Share)
	if err != nil {
		return nil, err
	}
	for _, pattern := range unmatched {
		args := fault.Args{"source": spec.Share.Source, "pattern": pattern}
		s.note(control.NoteShareUnmatched, args, "%s matches nothing in %s: what is made there later is neither hidden nor protected",
			termsafe.Quote(pattern), termsafe.Quote(spec.Share.Source))
	}
	spec.Guard = guard
	return share.Start(ctx, ownProgram, spec, s.machine.Dir, log)
}

// noteOwner says so when root shares a directory in which the guest's user can
// change nothing.
func (s *supervisor) noteOwner(sh plan.Share, u plan.User) {
	fi, err := os.Stat(sh.Source)
	if err != nil || os.Geteuid() != 0 || sh.ReadOnly {
		return // Start says what is wrong
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != u.UID {
		args := fault.Args{"source": sh.Source, "owner": fmt.Sprint(st.Uid), "uid": fmt.Sprint(u.UID), "gid": fmt.Sprint(u.GID)}
		s.note(control.NoteShareOwner, args, "%s belongs to user %d, and machines of root work as user %d: they can change there what that user may",
			sh.Source, st.Uid, u.UID)
	}
}

// ownProgram is this program, also after its file was replaced.
const ownProgram = "/proc/self/exe"

// files returns the VMM's ends of the servers' sockets, by their names.
func (all shareServers) files() map[string]*os.File {
	files := make(map[string]*os.File, len(all))
	for i, sv := range all {
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

// failure returns an error when a server has failed, which may have ended the
// VMM, too.
func (all shareServers) failure() error {
	for _, sv := range all {
		select {
		case <-sv.Done():
			if sv.Err() != nil {
				return fault.Wrap(sv.lastWords(), fault.ShareServerFailed, fault.Args{"dir": sv.share.Source})
			}
		default:
		}
	}
	return nil
}

// watchShares tells the guest when a server ends, until ctx does: it would wait
// for ever.
func (s *supervisor) watchShares(ctx context.Context, g *guest) (wait func()) {
	var watchers sync.WaitGroup
	for _, sv := range g.vm.shares {
		watchers.Go(func() { s.watchGuards(ctx, sv) })
		watchers.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-g.vm.Done():
				return
			case <-sv.Done():
			}
			select {
			case <-g.vm.Done(): // of which it is the end, too
				return
			case <-time.After(vmmGrace):
			}
			s.loseShare(ctx, g, sv)
		})
	}
	return watchers.Wait
}

// watchGuards says when something loses its guard: then the machine can reach what it was on.
func (s *supervisor) watchGuards(ctx context.Context, sv fileServer) {
	err := sv.WatchGuards(ctx, func(path string) {
		args := fault.Args{"source": sv.share.Source, "path": path}
		s.note(control.NoteShareUnguarded, args, "%s in %s was replaced or removed on this computer: until the next start the machine can read and change it",
			termsafe.Quote(path), termsafe.Quote(sv.share.Source))
	})
	if err != nil {
		s.log.Error("watch the guards of a share", "path", sv.share.Path, "err", err)
	}
}

// shareTimeout bounds what the guest takes to let go of a share.
const shareTimeout = 30 * time.Second

func (s *supervisor) loseShare(ctx context.Context, g *guest, sv fileServer) {
	err := sv.lastWords()
	s.note(control.NoteShareLost, fault.Args{"source": sv.share.Source}, "%v; what uses it in the machine gets errors", err)
	s.log.Error("a server ended", "err", err)
	err = g.call(ctx, shareTimeout, func(stream guestStream) error {
		return client.ShareLost(stream, sv.share.Tag)
	})
	s.log.Info("a share is gone", "path", sv.share.Path, "err", err)
}

// Close ends the servers, after the VMM.
func (all shareServers) Close() {
	for _, sv := range all {
		sv.Kill()
		<-sv.copied
		sv.log.close()
	}
}
