// Package bridge keeps a network of the host's kernel for machines that have
// addresses of their own: a bridge, a port of it (a tap) for each machine, and the
// rules for what passes.
//
//	machine .6 ── mayfly-vm0 ┐                 ┌ eth0, wlan0, … the internet, behind NAT
//	machine .7 ── mayfly-vm1 ┴ mayfly0 ─ host ─┤
//	                           .1              └ their networks: refused
//
// A Config flows in and becomes kernel state that survives the process: Up makes it,
// Down removes it, Inspect describes it, OpenTap hands out a port. Up and Down are for
// root. Everything that the kernel holds for us carries a mark, and nothing without it
// is changed: not other firewalls' tables, not a bridge that has our name by chance.
//
// Nobody looks into connections here: who may be reached is decided by addresses. No
// name is answered for (Resolver names somebody who does), and no address is given
// out: they are static.
package bridge

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// maxName is the longest name of an interface in bytes, IFNAMSIZ without its NUL.
const maxName = 15

// Config is what a bridge is like.
type Config struct {
	Name    string       // of the bridge: "mayfly0"
	Address netip.Prefix // of the host on it, IPv4 and private: "192.168.83.1/24"

	Isolate  bool // machines do not reach each other
	AllowLAN bool // machines reach private and attached networks

	// Taps are made for the user Owner, so that machines need no root. No
	// others are for 0: root makes one for each machine.
	Owner uint32
	Taps  int

	// Dir is where it is remembered what was changed of the host, root's
	// alone.
	Dir string
}

// Default returns the configuration that nobody has to think about.
func Default() Config {
	return Config{
		Name:    "mayfly0",
		Address: netip.MustParsePrefix("192.168.83.1/24"),
		Isolate: true,
		Taps:    16,
		Dir:     "/run/mayfly",
	}
}

// Check returns an error for what no bridge can be.
func (c Config) Check() error {
	if c.Name == "" || len(c.Name) > maxName || strings.ContainsAny(c.Name, "/:% \t\n") || strings.HasPrefix(c.Name, ".") {
		return fmt.Errorf("%q is no name of a bridge", c.Name)
	}
	a := c.Address
	switch {
	case !a.IsValid() || !a.Addr().Is4() || !a.Addr().IsPrivate():
		return fmt.Errorf("%v is no private IPv4 address with the length of its network, such as 192.168.83.1/24", a)
	case a.Bits() < 8 || a.Bits() > 30:
		return fmt.Errorf("a network of %d bits has no room for machines, or too much: 8 to 30 will do", a.Bits())
	case a.Addr() == a.Masked().Addr() || a.Addr() == last(a):
		return fmt.Errorf("%v is the network's own address, and not one in it", a.Addr())
	}
	return nil
}

// Up makes the bridge, or changes what there is of it to what cfg says; a second time
// it changes nothing. It removes what it has made when it fails. Connections of
// machines that the new rules forbid end.
func Up(cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	if err := needRoot(cfg.Name, "up", "set up"); err != nil {
		return err
	}
	// Before anything is changed.
	if err := checkFree(cfg); err != nil {
		return err
	}
	var undo undoList
	host, err := openRecord(cfg.Dir, &undo)
	if err != nil {
		undo.run()
		return err
	}
	defer host.close()
	defer undo.run()
	// The rules first, since nothing is to pass without them.
	if err := upRules(cfg, &undo); err != nil {
		return err
	}
	if err := upForwarding(host, &undo); err != nil {
		return err
	}
	if err := upLink(cfg, &undo); err != nil {
		return err
	}
	if err := upTaps(cfg, &undo); err != nil {
		return err
	}
	undo.forget()
	return nil
}

// Down removes the bridge with its ports and rules and puts the host's settings back;
// there may be none. Machines on it lose their network. It says what it has left as it
// is, and why, in a line; "" for nothing.
func Down(cfg Config) (left string, err error) {
	if err := needRoot(cfg.Name, "down", "remove"); err != nil {
		return "", err
	}
	host, err := readRecord(cfg.Dir)
	if err != nil {
		return "", err
	}
	if host != nil {
		defer host.close()
	}
	// Each step is taken whatever became of the others; the rules go last.
	err = errors.Join(downTaps(cfg), downLink(cfg))
	left, forwardErr := downForwarding(host)
	err = errors.Join(err, forwardErr, downRules())
	if err == nil && host != nil {
		err = host.remove()
	}
	return left, err
}

// Current returns cfg as the bridge is now, whatever Up was told: its address, and
// what it lets pass. The error wraps fs.ErrNotExist when there is none. It needs no
// root.
func Current(cfg Config) (Config, error) {
	link, err := ownBridge(cfg.Name)
	if err != nil {
		return cfg, err
	}
	if link == nil {
		return cfg, fault.New(fault.BridgeMissing, fault.Args{"bridge": cfg.Name}, "there is no bridge %s: %w", cfg.Name, fs.ErrNotExist)
	}
	if err := parseMark(link.Attrs().Alias, &cfg); err != nil {
		return cfg, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	addrs, err := addresses(link)
	if err != nil {
		return cfg, err
	}
	if len(addrs) == 0 {
		return cfg, fault.New(fault.BridgeWithoutAddress, fault.Args{"bridge": cfg.Name}, "the bridge %s has no address any more", cfg.Name)
	}
	cfg.Address = addrs[0]
	return cfg, nil
}

// mark is the alias of a link that is ours, beginning with markPrefix. It is in the
// kernel, which everybody can ask, so that a lost file is no harm.
const markPrefix = "mayfly "

func (c Config) mark() string {
	return fmt.Sprintf(markPrefix+"isolate=%t allow-lan=%t", c.Isolate, c.AllowLAN)
}

func parseMark(alias string, c *Config) error {
	if _, err := fmt.Sscanf(alias, markPrefix+"isolate=%t allow-lan=%t", &c.Isolate, &c.AllowLAN); err != nil {
		return fmt.Errorf("it says of itself %q, which is not mayfly's", alias)
	}
	return nil
}

// undoList are the ways back from what was done, in that order.
type undoList []func()

func (u *undoList) add(f func()) { *u = append(*u, f) }

func (u *undoList) run() {
	for i := len(*u) - 1; i >= 0; i-- {
		(*u)[i]()
	}
}

// forget makes what was done last.
func (u *undoList) forget() { *u = nil }

// last returns the last address of a network of IPv4.
func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := range a {
		host := min(max(8*(i+1)-p.Bits(), 0), 8)
		a[i] |= byte(1<<host - 1)
	}
	return netip.AddrFrom4(a)
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
}
