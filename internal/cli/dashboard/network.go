package dashboard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// mostHosts bounds what is listed of one machine.
const mostHosts = 1000

// openNetwork shows the hosts that the chosen machine was refused, and asks for news of them.
func (m *Model) openNetwork() Action {
	m.mode, m.scroll, m.hosts = modeNetwork, 0, nil
	m.mergeHosts()
	m.looked[m.cursor] = words.DeniedCount(m.network[m.cursor])
	return Action{Kind: Look, Names: []string{m.cursor}}
}

// host is one that is shown of a machine.
type host struct {
	mayfly.Denied
	asked bool // connections wait for an answer about it
}

// mergeHosts takes what is new of the hosts that are shown, those first that wait for an
// answer. Each stays in its row: a machine that tries other hosts must not get another one
// under the key that allows it.
func (m *Model) mergeHosts() {
	take := func(h host) {
		same := func(o host) bool { return o.Host == h.Host && o.Port == h.Port }
		if i := slices.IndexFunc(m.hosts, same); i >= 0 {
			m.hosts[i] = h
		} else if len(m.hosts) < mostHosts {
			m.hosts = append(m.hosts, h)
		}
	}
	for i := range m.hosts {
		m.hosts[i].asked = false
	}
	st := m.network[m.cursor]
	for _, q := range st.Questions {
		take(host{mayfly.Denied{Host: q.Host, Port: q.Port, Count: q.Connections}, true})
	}
	for _, d := range st.Denied {
		asked := slices.ContainsFunc(st.Questions, func(q mayfly.Question) bool { return q.Host == d.Host && q.Port == d.Port })
		take(host{d, asked})
	}
}

// hostKeys are the keys that decide about a host.
var hostKeys = map[string]Verb{"y": Allow, "o": AllowOnce, "w": Always, "d": Deny}

// pressNetwork takes a key while the refused hosts of a machine are shown.
func (m *Model) pressNetwork(key string) Action {
	switch key {
	case "esc", "q", "n", "backspace":
		m.mode = modeList
	case "up", "k":
		m.scroll = max(m.scroll-1, 0)
	case "down", "j":
		m.scroll = max(min(m.scroll+1, len(m.hosts)-1), 0)
	case "?":
		m.mode, m.scroll = modeHelp, 0
	}
	verb, ok := hostKeys[key]
	if !ok || m.scroll >= len(m.hosts) {
		return Action{}
	}
	h := m.hosts[m.scroll]
	rule, ok := hostRule(h.Denied)
	switch {
	case !ok:
		m.Say("that is no single public host: mayfly policy %s allow HOST", m.cursor)
	case verb == AllowOnce && !h.asked:
		m.Say("no connection to %s waits", rule)
	case verb == Always && !m.infos[m.cursor].Defined:
		m.Say("%s has no file: y allows it, and --allow %s in the next run", m.cursor, rule)
	case verb == Always:
		m.mode, m.asked = modeConfirm, Action{Kind: Policy, Names: []string{m.cursor}, Rule: rule, Verb: verb}
		// The end of a name says whose it is.
		before, behind := "write into the file of "+m.cursor+": allow ", "? y/n"
		m.question = before + lastCells(rule, max(m.cols-width(before+behind), 1)) + behind
	default:
		return Action{Kind: Policy, Names: []string{m.cursor}, Rule: rule, Verb: verb}
	}
	return Action{}
}

// hostRule returns the rule for exactly what a machine was refused, or asks for. The
// machine has chosen the name: one that would be a pattern, or something else than a host,
// is none, nor is an address of a network that is not public.
func hostRule(d mayfly.Denied) (string, bool) {
	if _, err := netip.ParseAddr(d.Host); err != nil && !strings.Contains(d.Host, ".") || strings.Contains(d.Host, "*") {
		return "", false
	}
	text := mayfly.Rule{Host: d.Host, Port: d.Port}.String()
	r, err := mayfly.ParseRule(text)
	ok := err == nil && r.Host == d.Host && r.Port == d.Port && len(r.Methods)+len(r.Paths) == 0 && !r.Private && !r.Passthrough
	return text, ok && termsafe.Is(text)
}

// networkBody lists what a machine was refused.
func (m *Model) networkBody(rows int) (header string, body []shown) {
	st, ok := m.network[m.cursor]
	switch {
	case !ok:
		return "", []shown{{plain, "asking…"}}
	case len(m.hosts) == 0:
		return "", []shown{{plain, m.cursor + " was refused nothing, and asks for nothing; egress is " + termsafe.Line(st.Egress)}}
	}
	first := max(min(m.scroll-rows+1, len(m.hosts)-rows), 0)
	for i, h := range m.hosts[first:min(first+rows, len(m.hosts))] {
		lead, look := " ", plain
		switch {
		case first+i == m.scroll:
			lead, look = ">", reversed
		case h.asked:
			look = strong
		}
		text := fmt.Sprintf("%s%6d  ", lead, h.Count)
		// The end of a name says whose it is: what there is no room for is its beginning.
		text += lastCells(hostPort(h.Host, h.Port), m.cols-width(text))
		remark := ""
		switch {
		case h.asked:
			remark = "  (waits for you)"
		case allowed(st, h.Denied):
			remark = "  (allowed now)"
		case h.Needless != "":
			remark = "  (" + termsafe.Line(h.Needless) + " does not need it)"
		}
		if width(text+remark) <= m.cols {
			text += remark
		}
		body = append(body, shown{look, text})
	}
	return "  TIMES  HOST THAT " + m.cursor + " ASKS FOR, OR WAS REFUSED", body
}

// hostPort is a host of the guest's words with its port, if it has one.
func hostPort(name string, port int) string {
	name = termsafe.Line(name)
	if port == 0 {
		return name
	}
	return mayfly.Rule{Host: name, Port: port}.String()
}

// allowed reports whether a machine may reach now what it was refused.
func allowed(st mayfly.NetworkState, d mayfly.Denied) bool {
	for _, r := range st.Allow {
		if r.Host == d.Host && (r.Port == d.Port || r.Port == 0 && (d.Port == 80 || d.Port == 443)) {
			return true
		}
	}
	return false
}

// networkDetail says what a machine may reach.
func (m *Model) networkDetail() string {
	st := m.network[m.cursor]
	text := fmt.Sprintf("%s: egress %s, %s", m.cursor, words.Dash(termsafe.Line(st.Egress)), plural(len(st.Allow), "rule"))
	if st.MoreDenied > 0 {
		text += fmt.Sprintf(", %d more refusals", st.MoreDenied)
	}
	return text
}
