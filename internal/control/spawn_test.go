package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// spawnScript starts a script in the place of the mayfly binary.
func spawnScript(t testing.TB, script string) (*Owner, state.Machine) {
	t.Helper()
	_, m, lock := newMachine(t, t.TempDir(), "m")
	exe := filepath.Join(t.TempDir(), "mayfly")
	if err := os.WriteFile(exe, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	o, err := Spawn(exe, m, lock, nil, Given{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o, m
}

// A supervisor has the machine's lock and two pipes, and nothing else of who
// started it. It hears of its owner's end.
func TestSpawn(t *testing.T) {
	const inherited = 200 // as from a shell
	if err := unix.Dup3(0, inherited, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	t.Setenv("SECRET", "value")
	out := filepath.Join(t.TempDir(), "out")
	o, m := spawnScript(t, "exec >"+out+`
echo "args $*"; echo "secret $SECRET"; pwd
test -e /proc/$$/fd/200 && echo leaked
echo '{"ready":true}' >&4
cat <&5
echo owner gone`)
	if err := o.Ready(t.Context(), func(Event) {}); err != nil {
		t.Fatal(err)
	}
	if !m.Alive() {
		t.Error("the machine is dead while its supervisor runs")
	}
	o.Close()
	o.Close() // changes nothing
	if m.Alive() {
		t.Error("the machine is alive after its supervisor's end")
	}
	said, err := os.ReadFile(out)
	if want := "args " + Command + " " + m.Dir + "\nsecret \n/\nowner gone\n"; err != nil || string(said) != want {
		t.Errorf("the supervisor said %q, %v; want %q", said, err, want)
	}
}

func TestSpawnKeep(t *testing.T) {
	o, m := spawnScript(t, `echo '{"ready":true}' >&4; head -c 1 <&5; echo ept`)
	if err := o.Ready(t.Context(), func(Event) {}); err != nil {
		t.Fatal(err)
	}
	if err := o.Keep(); err != nil {
		t.Fatal(err)
	}
	o.Close() // does not wait for a kept machine
	for range o.Events {
	}
	<-o.ended
	if log, err := os.ReadFile(m.File(state.LogFile)); err != nil || string(log) != "kept\n" {
		t.Errorf("the supervisor said %q, %v; want kept", log, err)
	}
}

func TestSpawnDies(t *testing.T) {
	o, m := spawnScript(t, `echo '{"phase":"boot"}' >&4; kill -9 $$`)
	if err := o.Ready(t.Context(), func(Event) {}); err == nil || !strings.Contains(err.Error(), "unexpectedly") {
		t.Errorf("Ready() = %v; want that the supervisor ended", err)
	}
	o.Close()
	if m.Alive() {
		t.Error("the machine is alive after its supervisor's death")
	}
}

// A supervisor that has said its last still has the machine's lock. A machine that was lost
// is not alive for who asks next, and is not kept.
func TestSpawnLost(t *testing.T) {
	o, m := spawnScript(t, `echo '{"ready":true}' >&4; echo '{"ended":true,"error":"it ended"}' >&4; exec 4>&-; sleep 0.5`)
	if err := o.Ready(t.Context(), func(Event) {}); err != nil {
		t.Fatal(err)
	}
	if err := o.Lost(time.Minute); err == nil || err.Error() != "it ended" {
		t.Errorf("Lost() = %v; want what the supervisor said", err)
	}
	if m.Alive() {
		t.Error("the machine is alive after it was lost")
	}
}

// Who watches a machine hears of its end before its supervisor has ended, and asks then
// whether it lives.
func TestSpawnEnds(t *testing.T) {
	o, m := spawnScript(t, `echo '{"ready":true}' >&4; read -r line <&5; echo '{"ended":true,"error":"it ended"}' >&4; sleep 0.5`)
	if err := o.Ready(t.Context(), func(Event) {}); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(m)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var req Request
		if wire.ReadMessage(conn, &req) == nil {
			wire.WriteMessage(conn, Response{Version: Version, Condition: &Condition{Health: Well}})
		}
	}()
	if !o.Alive(time.Minute) {
		t.Error("a machine that answers is not alive")
	}
	l.Close()
	if _, err := o.owner.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}
	if o.Alive(time.Minute) {
		t.Error("the machine is alive whose supervisor serves nobody any more")
	}
	if m.Alive() {
		t.Error("its supervisor was not waited for")
	}
}

// A supervisor that says a line without an end is not listened to any more.
func TestSpawnFloods(t *testing.T) {
	o, _ := spawnScript(t, `trap "" PIPE; head -c 2000000 /dev/zero | tr '\0' ' ' >&4; echo '{"ready":true}' >&4; cat <&5`)
	if err := o.Ready(t.Context(), func(Event) {}); err == nil || !strings.Contains(err.Error(), "unexpectedly") {
		t.Errorf("Ready() = %v; want that the supervisor is given up", err)
	}
	o.Close()
}

func TestSpawnFails(t *testing.T) {
	_, m, lock := newMachine(t, t.TempDir(), "m")
	if _, err := Spawn("/no/such/mayfly", m, lock, nil, Given{}); err == nil {
		t.Error("Spawn() of no program = nil; want an error")
	}
	if m.Alive() {
		t.Error("the machine is alive though nothing was started")
	}
}
