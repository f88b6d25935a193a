package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// errDetached is converse's for a session that was only started.
var errDetached = errors.New("the session goes on")

// Session looks at a session until its program ends, and returns its exit code.
// begun is called before anything is read or written, with what the guest says of
// the session. With req.Detached it returns after that. Closing stream ends the
// looking on, as an error here, and not the session.
func Session(stream io.ReadWriteCloser, req *wire.Session, stdio Stdio, begun func(wire.SessionInfo)) (int, error) {
	code, err := converse(stream, wire.Request{Op: wire.OpSession, Session: req}, stdio, func(payload []byte) error {
		var info wire.SessionInfo
		if err := json.Unmarshal(payload, &info); err != nil {
			return fmt.Errorf("decode the session: %w", err)
		}
		if err := checkSession(&info); err != nil {
			return err
		}
		begun(info)
		return nil
	})
	if (req.Detached || len(req.Paste) > 0) && errors.Is(err, errDetached) {
		return 0, nil
	}
	return code, err
}

// Sessions lists the sessions of the guest.
func Sessions(stream io.ReadWriter) ([]wire.SessionInfo, error) {
	var answer wire.Sessions
	err := call(stream, wire.Request{Op: wire.OpSessions}, &answer)
	if err == nil && answer.Error != "" {
		err = &GuestError{answer.Error}
	}
	if err == nil && len(answer.Sessions) > wire.MaxSessions {
		err = fmt.Errorf("%d sessions are more than there can be", len(answer.Sessions))
	}
	for i := range answer.Sessions {
		if err == nil {
			err = checkSession(&answer.Sessions[i])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	return answer.Sessions, nil
}

// checkSession refuses what our agent never tells, and makes the rest printable.
func checkSession(i *wire.SessionInfo) error {
	if !naming.ValidSession(i.Name) {
		return fmt.Errorf("the guest told of a session with the name %.40q", i.Name)
	}
	switch i.Why {
	case "", wire.WaitHook, wire.WaitNotice, wire.WaitBell, wire.WaitQuiet:
	default:
		return fmt.Errorf("the guest told of a session that waits for %.40q", i.Why)
	}
	if len(i.Argv) > 64 || i.Code < 0 || i.Code > math.MaxUint8 || i.Viewers < 0 {
		return errors.New("the guest told nonsense of a session")
	}
	for j := range i.Argv {
		i.Argv[j] = termsafe.Line(i.Argv[j])
	}
	if i.State != "" && !slices.Contains(wire.SessionStates(), i.State) {
		return fmt.Errorf("the guest told of a session in the state %.40q", i.State)
	}
	// Its clock is its own.
	i.Since = min(max(i.Since, 0), time.Now().UnixNano())
	i.Last = termsafe.Line(termsafe.Clip(i.Last, wire.MaxLast))
	i.Title, i.Notice = termsafe.Line(i.Title), termsafe.Line(i.Notice)
	return nil
}

// Seed writes settings into files of the guest's user. The answer has the new names of
// files that could not be read, fit to be printed.
func Seed(stream io.ReadWriter, s *wire.Seed) (answer wire.Seeded, err error) {
	err = call(stream, wire.Request{Op: wire.OpSeed, Seed: s}, &answer)
	if err == nil && answer.Error != "" {
		err = &GuestError{answer.Error}
	}
	if err != nil {
		return wire.Seeded{}, fmt.Errorf("write settings in the machine: %w", err)
	}
	for i, name := range answer.Aside {
		answer.Aside[i] = termsafe.Line(name)
	}
	return answer, nil
}
