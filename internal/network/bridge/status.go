package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Status is what there is of the bridge. Fields are only added: it is an API.
type Status struct {
	Name     string       `json:"name"`
	Up       bool         `json:"up"`      // with its address, and set up
	Address  netip.Prefix `json:"address"` // of the host on it
	Isolate  bool         `json:"isolate"`
	AllowLAN bool         `json:"allow_lan"`

	Rules      string   `json:"rules"`      // "present", "missing", or "unknown" to whom the kernel does not say
	Forwarding bool     `json:"forwarding"` // of the host as a whole
	Uplinks    []string `json:"uplinks"`    // interfaces of default routes
	Taps       []Tap    `json:"taps"`

	// Problems keep machines from reaching the internet, or let them reach
	// more than they should.
	Problems []Problem `json:"-"`
}

// Problem is one line, and whether Up cures what it says.
type Problem struct {
	Text string
	ByUp bool
}

// Tap is a port of the bridge.
type Tap struct {
	Name    string `json:"name"`
	Machine string `json:"machine,omitempty"` // of root's, which makes a port for each
	Owner   uint32 `json:"owner"`             // the user; 0 for root
	InUse   bool   `json:"in_use"`
}

// The states of the rules.
const (
	RulesPresent = "present"
	RulesMissing = "missing"
	RulesUnknown = "unknown"
)

// Inspect returns what there is of the bridge. It needs no root, and is told less
// without.
func Inspect(cfg Config) (Status, error) {
	s := Status{Name: cfg.Name, Rules: RulesUnknown, Uplinks: []string{}, Taps: []Tap{}, Problems: []Problem{}}
	link, err := ownBridge(cfg.Name)
	if err != nil {
		return s, err
	}
	value, err := readSysctl(forwarding)
	if err != nil {
		return s, err
	}
	s.Forwarding = value == "1"
	if err := s.findUplinks(cfg); err != nil {
		return s, err
	}
	if err := s.findTaps(cfg); err != nil {
		return s, err
	}
	if link != nil {
		if cfg, err = Current(cfg); err != nil {
			s.curable("%v", err)
		} else {
			s.Address, s.Isolate, s.AllowLAN = cfg.Address, cfg.Isolate, cfg.AllowLAN
			s.Up = link.Attrs().Flags&net.FlagUp != 0
		}
	}
	if hasNetAdmin() {
		if err := s.checkRules(cfg); err != nil {
			return s, err
		}
	}
	if link != nil {
		if !s.Up {
			s.curable("the bridge is down")
		}
		if !s.Forwarding {
			s.curable("this computer does not forward packets")
		}
	}
	return s, nil
}

func (s *Status) problem(format string, args ...any) {
	s.Problems = append(s.Problems, Problem{Text: fmt.Sprintf(format, args...)})
}

// curable adds a problem that Up cures.
func (s *Status) curable(format string, args ...any) {
	s.Problems = append(s.Problems, Problem{Text: fmt.Sprintf(format, args...), ByUp: true})
}

// findUplinks finds the interfaces by which machines reach the internet.
func (s *Status) findUplinks(cfg Config) error {
	list, err := routes()
	if err != nil {
		return err
	}
	for _, r := range list {
		// An absent destination is everything, in some versions of netlink.
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
			continue
		}
		ways := []int{r.LinkIndex}
		for _, hop := range r.MultiPath {
			ways = append(ways, hop.LinkIndex)
		}
		for _, index := range ways {
			link, err := netlink.LinkByIndex(index)
			if err != nil {
				continue // 0, or it went away
			}
			if name := link.Attrs().Name; name != cfg.Name && !slices.Contains(s.Uplinks, name) {
				s.Uplinks = append(s.Uplinks, name)
			}
		}
	}
	return nil
}

func (s *Status) findTaps(cfg Config) error {
	taps, err := ownTaps(cfg)
	if err != nil {
		return err
	}
	for _, tap := range taps {
		t := Tap{Name: tap.Name, InUse: inUse(tap)}
		if tap.NonPersist {
			t.Machine = strings.TrimPrefix(tap.Alias, markPrefix+"machine ")
		} else {
			t.Owner = tap.Owner
		}
		s.Taps = append(s.Taps, t)
	}
	return nil
}

// checkRules looks at our rules, and at those of others that stand in the way.
func (s *Status) checkRules(cfg Config) error {
	ok, err := hasRules()
	if err != nil {
		return err
	}
	s.Rules = RulesMissing
	if ok {
		s.Rules = RulesPresent
	}
	if s.Address.IsValid() && !ok {
		s.curable("the rules are gone, and this computer is open to its machines")
		return nil
	}
	if !s.Address.IsValid() {
		return nil
	}
	names, err := blockers(cfg.Name)
	if err != nil {
		return err
	}
	for _, name := range names {
		s.problem("the firewall of this computer (%s) drops what machines send: %s", name, wayThrough(name, cfg.Name))
	}
	uncovered, err := uncoveredNetworks(cfg)
	if err != nil {
		return err
	}
	for _, n := range uncovered {
		s.curable("the network %v (%s) was attached later, and machines reach it", n.Prefix, n.link)
	}
	return nil
}

// wayThrough returns the command that has somebody's chain let machines pass.
func wayThrough(chain, bridge string) string {
	if chain != "filter FORWARD" {
		return "have it accept what comes from " + bridge + ", and what is established to it"
	}
	// That of iptables, which Docker, ufw and others share.
	return fmt.Sprintf("sudo iptables -I FORWARD -i %s -j ACCEPT && sudo iptables -I FORWARD -o %s -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", bridge, bridge)
}
