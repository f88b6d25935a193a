package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// headerLen is the length of virtio_net_hdr, which is before each frame.
const headerLen = 10

// arpRequest returns what a VMM writes for a machine that asks who has the gateway,
// RFC 826.
func arpRequest(mac net.HardwareAddr) []byte {
	b := make([]byte, headerLen, 64)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b = append(b, mac...)
	b = append(b, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	b = append(b, mac...)
	b = append(b, net.ParseIP("192.168.83.9").To4()...)
	b = append(b, make([]byte, 6)...)
	return append(b, net.ParseIP(gateway).To4()...)
}

// askARP writes a request to a tap and returns the hardware address of the answer.
func askARP(t *testing.T, tap *os.File) net.HardwareAddr {
	t.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 8}
	frame := make([]byte, 2048)
	// Asked again as a guest would: the kernel makes a port forward some time after its
	// tap was opened, and drops frames until then.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := tap.Write(arpRequest(mac)); err != nil {
			t.Fatalf("write a frame to the tap: %v", err)
		}
		if err := tap.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := tap.Read(frame)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatalf("read a frame from the tap: %v", err)
			}
			if n < headerLen+42 {
				continue
			}
			// A reply, to us.
			if f := frame[headerLen:n]; bytes.Equal(f[:6], mac) && bytes.Equal(f[12:14], []byte{8, 6}) && f[21] == 2 {
				return net.HardwareAddr(bytes.Clone(f[22:28]))
			}
		}
	}
	t.Fatalf("no answer to ARP in %v", patience)
	return nil
}

// port returns the state of a tap as a port of the bridge; nil if there is none.
func port(name string) (*netlink.Protinfo, error) {
	link, err := findLink(name)
	if link == nil || err != nil {
		return nil, err
	}
	info, err := netlink.LinkGetProtinfo(link)
	return &info, err
}

func TestOpenTap(t *testing.T) {
	l := newLab(t)
	l.host.run(t, func() error {
		if _, err := OpenTap(l.cfg, "web"); fault.CodeOf(err) != fault.BridgeMissing {
			t.Errorf("OpenTap() without a bridge = %v (%q); want %s", err, fault.CodeOf(err), fault.BridgeMissing)
		}
		return nil
	})
	l.up()
	var tap *os.File
	l.host.run(t, func() (err error) {
		tap, err = OpenTap(Default(), "web")
		return err
	})
	defer tap.Close()
	if got, want := askARP(t, tap).String(), "02:6d:c0:a8:53:01"; got != want {
		t.Errorf("the gateway is at %s; want %s", got, want)
	}
	if s := l.inspect(); len(s.Taps) != 1 || s.Taps[0] != (Tap{Name: "mayfly-vm0", Machine: "web", InUse: true}) {
		t.Errorf("Inspect().Taps = %+v; want the one of web, in use", s.Taps)
	}
	l.host.run(t, func() error {
		if info, err := port("mayfly-vm0"); err != nil || info == nil || !info.Isolated {
			t.Errorf("mayfly-vm0 is the port %v, %v; want an isolated one", info, err)
		}
		return nil
	})
	// What was up with another isolation is a port like the others.
	l.cfg.Isolate = false
	l.up()
	l.host.run(t, func() error {
		if info, err := port("mayfly-vm0"); err != nil || info == nil || info.Isolated {
			t.Errorf("mayfly-vm0 is the port %v, %v; want one that is not isolated", info, err)
		}
		second, err := OpenTap(Default(), "db")
		if err != nil {
			return err
		}
		defer second.Close()
		if info, err := port("mayfly-vm1"); err != nil || info == nil || info.Isolated {
			t.Errorf("mayfly-vm1 is the port %v, %v; want one that is not isolated, as Up was told", info, err)
		}
		return nil
	})
	tap.Close()
	if s := l.inspect(); len(s.Taps) != 0 {
		t.Errorf("Inspect().Taps = %+v after both were closed; want none", s.Taps)
	}
}

// A bridge that goes takes the network of its machines with it, and comes back.
func TestDownTakesTaps(t *testing.T) {
	l := newLab(t)
	l.up()
	var tap *os.File
	l.host.run(t, func() (err error) {
		tap, err = OpenTap(l.cfg, "web")
		return err
	})
	defer tap.Close()
	l.down()
	if s := l.inspect(); s.Up || len(s.Taps) > 0 {
		t.Errorf("Inspect() = %+v after Down; want neither a bridge nor taps", s)
	}
	if _, err := tap.Write(arpRequest(net.HardwareAddr{2, 0, 0, 0, 0, 8})); err == nil {
		t.Error("a tap that was removed takes frames")
	}
}

func TestUserTaps(t *testing.T) {
	l := newLab(t)
	l.cfg.Owner, l.cfg.Taps = 1234, 2
	l.up()
	other := l.cfg
	other.Owner, other.Taps = 1235, 1
	l.host.run(t, func() error { return Up(other) })

	device := filepath.Join(t.TempDir(), "tun")
	if err := unix.Mknod(device, unix.S_IFCHR, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatalf("make a device: %v", err)
	}
	if err := os.Chmod(device, 0o666); err != nil {
		t.Fatal(err)
	}
	// as runs f as a user in a thread of its own, for which the device has the
	// mode that udev gives it.
	as := func(uid uintptr, f func() error) {
		t.Helper()
		l.host.run(t, func() error {
			if err := bindMount(device, "/dev/net/tun"); err != nil {
				return err
			}
			dropRoot(uid)
			return f()
		})
	}
	open := func(uid uintptr) (tap *os.File) {
		t.Helper()
		as(uid, func() (err error) {
			tap, err = OpenTap(l.cfg, "web")
			return err
		})
		t.Cleanup(func() { tap.Close() })
		return tap
	}
	fails := func(uid uintptr, text string, code fault.Code, args fault.Args) {
		t.Helper()
		as(uid, func() error {
			_, err := OpenTap(l.cfg, "web")
			f, ok := fault.Of(err)
			if !ok || !strings.Contains(err.Error(), text) || f.Code != code || !maps.Equal(f.Args, args) {
				t.Errorf("OpenTap() as %d = %v (%+v); want %q, %s %v", uid, err, f, text, code, args)
			}
			return nil
		})
	}
	first, second := open(1234), open(1234)
	for i, tap := range []*os.File{first, second} {
		if mac := askARP(t, tap); len(mac) != 6 {
			t.Errorf("tap %d: the gateway is at %v", i, mac)
		}
	}
	fails(1234, "all 2 ports of the bridge mayfly0 that are yours are in use", fault.BridgeFull, fault.Args{"bridge": "mayfly0", "ports": "2"})
	fails(1236, "no port of the bridge mayfly0 is yours", fault.BridgeWithoutPorts, fault.Args{"bridge": "mayfly0", "user": "1236"})
	open(1235)

	// They stay, and serve again.
	first.Close()
	open(1234)
	var got []string
	for _, tap := range l.inspect().Taps {
		got = append(got, fmt.Sprint(tap.Name, " ", tap.Owner, " ", tap.InUse))
	}
	if want := "mayfly-tap0 1234 true, mayfly-tap1 1234 true, mayfly-tap2 1235 true"; strings.Join(got, ", ") != want {
		t.Errorf("Inspect().Taps = %q; want %q", got, want)
	}
	as(1236, func() error {
		if _, _, err := attachTap("mayfly-tap0"); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EBUSY) {
			t.Errorf("another user's tap opens: %v", err)
		}
		s, err := Inspect(l.cfg)
		if !s.Up || s.Rules != RulesUnknown || len(s.Taps) != 3 || len(s.Problems) > 0 {
			t.Errorf("Inspect() as a user = %+v, %v; want an up bridge with unknown rules", s, err)
		}
		return err
	})
}
