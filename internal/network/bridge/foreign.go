package bridge

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// foreignChain is a base chain of somebody else's with its rules.
type foreignChain struct {
	*nftables.Chain
	rules []*nftables.Rule
}

// foreignChains returns the base chains of others at a hook, for the packets of IPv4.
func foreignChains(hook nftables.ChainHook) ([]foreignChain, error) {
	conn := &nftables.Conn{}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	var found []foreignChain
	for _, c := range chains {
		family := c.Table.Family
		if family != nftables.TableFamilyIPv4 && family != nftables.TableFamilyINet ||
			family == nftables.TableFamilyINet && c.Table.Name == tableName || c.Hooknum == nil || *c.Hooknum != hook {
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if errors.Is(err, unix.ENOENT) {
			continue // it went away
		}
		if err != nil {
			return nil, fmt.Errorf("list the rules of nftables: %w", err)
		}
		found = append(found, foreignChain{c, rules})
	}
	return found, nil
}

// otherForwarder returns who else has the host pass packets on, by the NAT that goes
// with it; "" for nobody.
func otherForwarder() (string, error) {
	chains, err := foreignChains(*nftables.ChainHookPostrouting)
	for _, c := range chains {
		if c.Type == nftables.ChainTypeNAT && len(c.rules) > 0 {
			return "the table " + c.Table.Name + " of nftables", err
		}
	}
	return "", err
}

// blockers returns the tables of others that drop what is forwarded and do not know
// the bridge. What we accept does not pass them.
func blockers(bridge string) ([]string, error) {
	chains, err := foreignChains(*nftables.ChainHookForward)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range chains {
		if c.Type != nftables.ChainTypeFilter || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		named, err := namesDevice(c.Table, bridge)
		if err != nil {
			return nil, err
		}
		if !named {
			names = append(names, c.Table.Name+" "+c.Name)
		}
	}
	return names, nil
}

// namesDevice reports whether some rule of a table is about an interface: that of
// somebody who has made room for us.
func namesDevice(t *nftables.Table, name string) (bool, error) {
	conn := &nftables.Conn{}
	chains, err := conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return false, fmt.Errorf("list the chains of nftables: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name != t.Name {
			continue
		}
		rules, err := conn.GetRules(t, c)
		if err != nil {
			return false, fmt.Errorf("list the rules of nftables: %w", err)
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				// iptables compares the name with its NUL, nft all 16 bytes.
				if cmp, ok := e.(*expr.Cmp); ok && string(bytes.TrimRight(cmp.Data, "\x00")) == name {
					return true, nil
				}
			}
		}
	}
	return false, nil
}
