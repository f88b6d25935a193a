package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// A machine is saved and restored by QEMU's migration, through a socket that it
// is handed: it may open no file and start no program. The memory is left out
// (x-ignore-shared), for it is a file already; what remains is the state of the
// devices and of the firmware's memory, less than a megabyte,
// docs/devel/migration.

// MaxState bounds the saved state of a machine in bytes, without its memory.
const MaxState = 32 << 20

// Save stops the machine and writes its state to w. The machine stays stopped.
// It returns for how long the guest has stood still.
func (m *Monitor) Save(ctx context.Context, w io.Writer) (pause time.Duration, err error) {
	err = m.migrate(ctx, func(ours *os.File) error {
		began := time.Now()
		if err := m.Execute("stop", nil, nil); err != nil {
			return err
		}
		if err := m.Execute("migrate", map[string]string{"uri": "fd:" + migrationFD}, nil); err != nil {
			return err
		}
		n, err := io.Copy(w, io.LimitReader(ours, MaxState+1))
		if err != nil {
			return fmt.Errorf("read the state of the machine: %w", err)
		}
		if n > MaxState {
			return fmt.Errorf("the state of the machine is larger than %d bytes", MaxState)
		}
		// The end of the stream is not yet success.
		err = m.awaitMigration(ctx)
		pause = time.Since(began)
		return err
	})
	return pause, err
}

// Restore gives a QEMU that was started to wait for it the state from r, and
// lets the guest go on. The memory must be that of the same save.
func (m *Monitor) Restore(ctx context.Context, r io.Reader) error {
	return m.migrate(ctx, func(ours *os.File) error {
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(ours, r)
			sent <- errors.Join(err, ours.Close())
		}()
		err := m.Execute("migrate-incoming", map[string]string{"uri": "fd:" + migrationFD}, nil)
		if err == nil {
			err = m.awaitMigration(ctx)
		}
		if err != nil {
			ours.Close() // what is still sent has nobody to take it
			<-sent
			return err
		}
		if err := <-sent; err != nil {
			return fmt.Errorf("send the state of the machine: %w", err)
		}
		return m.Execute("cont", nil, nil)
	})
}

// migrate runs f with our end of a socket for a migration. The end of ctx ends
// the socket and the monitor, and is then the error.
func (m *Monitor) migrate(ctx context.Context, f func(*os.File) error) error {
	stop := context.AfterFunc(ctx, func() { m.conn.SetDeadline(time.Now()) })
	ours, err := m.migrationSocket()
	if err == nil {
		closeSocket := context.AfterFunc(ctx, func() { ours.Close() })
		err = f(ours)
		closeSocket()
		ours.Close()
	}
	// Both functions run at the end of ctx, one of them first.
	if !stop() || err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// migrationFD is the name under which QEMU keeps the socket of a migration.
const migrationFD = "migration"

// migrationSocket readies QEMU for a migration over a socket and returns our
// end of it.
func (m *Monitor) migrationSocket() (*os.File, error) {
	type capability struct {
		Capability string `json:"capability"`
		State      bool   `json:"state"`
	}
	err := m.Execute("migrate-set-capabilities", map[string]any{
		"capabilities": []capability{{"x-ignore-shared", true}},
	}, nil)
	if err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	// Ours waits in Go's poller, so that closing it ends a read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "migration"), os.NewFile(uintptr(fds[1]), "migration")
	defer theirs.Close()
	// An outgoing migration takes no descriptor that QEMU was started with.
	if err := m.execute("getfd", map[string]string{"fdname": migrationFD}, nil, theirs); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

// awaitMigration waits until the migration under way has ended. QEMU has an
// event for that, but it says it to whoever asks, too, and it takes a few
// milliseconds only.
func (m *Monitor) awaitMigration(ctx context.Context) error {
	for {
		var info struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := m.Execute("query-migrate", nil, &info); err != nil {
			return err
		}
		switch info.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("QEMU's migration %s: %s", info.Status, termsafe.Line(info.Error))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}
