package test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// listener is what ls --json has of a port on which a program listens.
type listener struct {
	Port            int
	Published, Auto bool
	Why             string
}

// A program of a machine that begins to listen is named, and with "auto" it is at the same port
// of the host until it ends. A port that another program of the host has is left to it.
func TestPorts(t *testing.T) {
	h, l := newLab(t)
	taken := l.Command(exec.Command("python3", "-m", "http.server", "--bind", "127.0.0.1", "4100"))
	if err := taken.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		taken.Process.Kill()
		taken.Wait()
	}()
	startInLab(t, h, "version = 1\n", "--network", "none")
	l.Run("curl", "-sS", "--retry", "50", "--retry-connrefused", "--retry-delay", "1", "-o", "/dev/null", "http://127.0.0.1:4100/") // it has begun
	listening := func() map[int]listener {
		var all []struct{ Listening []listener }
		if err := json.Unmarshal([]byte(h.Run(0, "ls", "--json").Stdout), &all); err != nil || len(all) != 1 {
			t.Fatalf("ls --json: %v, %v", all, err)
		}
		ports := make(map[int]listener)
		for _, p := range all[0].Listening {
			ports[p.Port] = p
		}
		return ports
	}
	until := func(what string, is func(map[int]listener) bool) {
		t.Helper()
		var last map[int]listener
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
			if last = listening(); is(last) {
				return
			}
		}
		t.Fatalf("%s: the programs that listen are %v", what, last)
	}
	h.Run(0, "exec", "m", "--", "sh", "-c", "cd /tmp && echo here >page && for p in 4000 4100; do setsid python3 -m http.server $p >/dev/null 2>&1 & done")
	until("named", func(p map[int]listener) bool { return p[4000].Port != 0 && p[4100].Port != 0 })
	if got := listening()[4000]; got.Published {
		t.Errorf("without auto, the port is %+v", got)
	}
	if got := h.Run(0, "port", "m").Stderr; !strings.Contains(got, "mayfly port m add 4000:4000") {
		t.Errorf("port says %q; want the command that forwards it", got)
	}
	h.Run(0, "port", "m", "auto")
	if got := listening(); !got[4000].Auto || got[4100].Why != "taken" {
		t.Errorf("with auto, the ports are %+v; want 4000, and 4100 left", got)
	}
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if got := l.Run("curl", "-sS", "-m", "60", "http://"+host+":4000/page"); got != "here\n" {
			t.Errorf("%s answers %q", host, got)
		}
	}
	h.Run(0, "exec", "m", "--", "pkill", "-f", "http.server 4000")
	until("ended", func(p map[int]listener) bool { return p[4000].Port == 0 })
	if got := h.Run(0, "port", "m").Stdout; strings.Contains(got, "4000") {
		t.Errorf("the port of a program that has ended is published: %q", got)
	}
	h.Run(0, "rm", "m")
}
