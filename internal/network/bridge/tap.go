package bridge

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// The names of taps: those of root's machines, for which the kernel finds a number, and
// those that stay for a user.
const (
	machineTap = "mayfly-vm%d"
	userTap    = "mayfly-tap"
)

// tapFlags are those of every tap: Ethernet frames with nothing but the header of
// virtio-net before them, by which the kernel lets packets be larger than the MTU.
const tapFlags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// OpenTap opens a port of the bridge for the machine name, as the open descriptor that
// a VMM takes. Of cfg only the bridge's name counts: the rest is as it is (Current).
//
// For root it is a new one, that goes when the last descriptor of it is closed. For
// other users it is the first one of their own that nobody has open; it stays.
func OpenTap(cfg Config, name string) (*os.File, error) {
	cfg, err := Current(cfg)
	if err != nil {
		return nil, fmt.Errorf("open a port of the bridge: %w", err)
	}
	if hasNetAdmin() {
		return newTap(cfg, name)
	}
	return freeTap(cfg)
}

// newTap makes a tap that goes with its descriptor.
func newTap(cfg Config, name string) (*os.File, error) {
	// Somebody else's "flush ruleset" takes ours, too.
	if ok, err := hasRules(); err != nil {
		return nil, err
	} else if !ok {
		return nil, fault.New(fault.BridgeWithoutRules, fault.Args{"bridge": cfg.Name},
			"the bridge %s has no rules any more, and would leave this computer open to its machines", cfg.Name)
	}
	f, tap, err := createTap(machineTap)
	if err != nil {
		return nil, err
	}
	if err := plugTap(cfg, tap, markPrefix+"machine "+name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// createTap makes a tap; %d in its name stands for a number.
func createTap(name string) (*os.File, string, error) {
	f, name, err := attachTap(name)
	if err != nil {
		return nil, "", fmt.Errorf("make a port of the bridge: %w", err)
	}
	return f, name, nil
}

// attachTap opens the tap name, which the kernel makes if there is none and the user
// may.
func attachTap(name string) (*os.File, string, error) {
	const device = "/dev/net/tun"
	// Not os.OpenFile, which would ask the poller for events before there are
	// any to come.
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == unix.EACCES {
		// The mode that udev gives it: who may do what is decided later.
		return nil, "", fault.New(fault.TapDeviceForbidden, fault.Args{"device": device}, "open %s: %w", device, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("open %s: %w", device, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(tapFlags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, "", err
	}
	return os.NewFile(uintptr(fd), device), request.Name(), nil
}

// plugTap makes a tap a port of the bridge, and sets it up.
func plugTap(cfg Config, name, alias string) error {
	bridge, err := ownBridge(cfg.Name)
	if err != nil {
		return err
	}
	tap, err := findLink(name)
	if err != nil {
		return err
	}
	if bridge == nil || tap == nil {
		return fmt.Errorf("plug %s into the bridge: one of them is gone", name)
	}
	steps := []func() error{
		func() error { return disableIPv6(name) },
		func() error { return netlink.LinkSetAlias(tap, alias) },
		func() error { return netlink.LinkSetMaster(tap, bridge) },
		func() error { return netlink.LinkSetIsolated(tap, cfg.Isolate) },
		func() error { return netlink.LinkSetUp(tap) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("plug %s into the bridge: %w", name, err)
		}
	}
	return nil
}

// freeTap opens the first of the user's taps that nobody has open.
func freeTap(cfg Config) (*os.File, error) {
	taps, err := ownTaps(cfg)
	if err != nil {
		return nil, err
	}
	mine := 0
	for _, tap := range taps {
		if tap.NonPersist || tap.Owner != uint32(os.Getuid()) {
			continue
		}
		mine++
		f, _, err := attachTap(tap.Name)
		if err == nil {
			return f, nil
		}
		// In use, or just removed.
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("open the port %s of the bridge: %w", tap.Name, err)
		}
	}
	if mine == 0 {
		who := strconv.Itoa(os.Getuid())
		if u, err := user.Current(); err == nil {
			who = u.Username
		}
		return nil, fault.New(fault.BridgeWithoutPorts, fault.Args{"bridge": cfg.Name, "user": who}, "no port of the bridge %s is yours", cfg.Name)
	}
	return nil, fault.New(fault.BridgeFull, fault.Args{"bridge": cfg.Name, "ports": strconv.Itoa(mine)},
		"all %d ports of the bridge %s that are yours are in use", mine, cfg.Name)
}

// ownTaps returns our taps that are on the bridge, or that have lost theirs, by their
// numbers.
func ownTaps(cfg Config) ([]*netlink.Tuntap, error) {
	all, err := links()
	if err != nil {
		return nil, err
	}
	index := 0
	if bridge, err := findLink(cfg.Name); err != nil {
		return nil, err
	} else if bridge != nil {
		index = bridge.Attrs().Index
	}
	var taps []*netlink.Tuntap
	for _, l := range all {
		tap, ok := l.(*netlink.Tuntap)
		if ok && isOwn(tap) && (tap.MasterIndex == index || tap.MasterIndex == 0) {
			taps = append(taps, tap)
		}
	}
	slices.SortFunc(taps, func(a, b *netlink.Tuntap) int {
		if d := len(a.Name) - len(b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return taps, nil
}

// upTaps plugs in again what has lost its bridge, has all taps be isolated as cfg says,
// and makes those of the user cfg.Owner that are missing.
func upTaps(cfg Config, undo *undoList) error {
	taps, err := ownTaps(cfg)
	if err != nil {
		return err
	}
	missing := cfg.Taps
	if cfg.Owner == 0 {
		missing = 0
	}
	for _, tap := range taps {
		if err := plugTap(cfg, tap.Name, tap.Alias); err != nil {
			return err
		}
		if !tap.NonPersist && tap.Owner == cfg.Owner {
			missing--
		}
	}
	for n := 0; missing > 0; n++ {
		name := userTap + strconv.Itoa(n)
		if len(name) > maxName {
			return errors.New("make ports for the user: their names are all in use")
		}
		if link, err := findLink(name); err != nil {
			return err
		} else if link != nil {
			continue // another user's
		}
		if err := makeUserTap(cfg, name, undo); err != nil {
			return err
		}
		missing--
	}
	return nil
}

// makeUserTap makes a tap that stays, and that the user may open.
func makeUserTap(cfg Config, name string, undo *undoList) error {
	f, name, err := createTap(name)
	if err != nil {
		return err
	}
	defer f.Close()
	undo.add(func() {
		if link, _ := findLink(name); link != nil {
			netlink.LinkDel(link)
		}
	})
	// Not f.Fd, which may change how the descriptor is read.
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ioctlErr error
	err = conn.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetInt(int(fd), unix.TUNSETOWNER, int(cfg.Owner))
		if ioctlErr == nil {
			ioctlErr = unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, 1)
		}
	})
	if err := errors.Join(err, ioctlErr); err != nil {
		return fmt.Errorf("give the port %s to the user %d: %w", name, cfg.Owner, err)
	}
	return plugTap(cfg, name, markPrefix+"user")
}

// downTaps removes our taps. A VMM that has one open has a dead descriptor then.
func downTaps(cfg Config) error {
	taps, err := ownTaps(cfg)
	if err != nil {
		return err
	}
	var errs []error
	for _, tap := range taps {
		errs = append(errs, deleteLink(tap))
	}
	return errors.Join(errs...)
}

// inUse reports whether somebody has a tap open: it has a carrier then.
func inUse(tap *netlink.Tuntap) bool {
	return tap.RawFlags&unix.IFF_LOWER_UP != 0
}
