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

// mergeHosts takes what is new of the hosts that are shown. Each stays in its row: a machine
// that tries other hosts must not get another one under the key that allows it.
func (m *Model) mergeHosts() {
	for _, d := range m.network[m.cursor].Denied {
		same := func(o mayfly.Denied) bool { return o.Host == d.Host && o.Port == d.Port }
		if i := slices.IndexFunc(m.hosts, same); i >= 0 {
			m.hosts[i] = d
		} else if len(m.hosts) < mostHosts {
			m.hosts = append(m.hosts, d)
		}
	}
}

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
	case "y":
		if m.scroll >= len(m.hosts) {
			break
		}
		rule, ok := allowRule(m.hosts[m.scroll])
		if !ok {
			m.Say("that is no single public host: mayfly policy %s allow HOST", m.cursor)
			break
		}
		return Action{Kind: Allow, Names: []string{m.cursor}, Rule: rule}
	}
	return Action{}
}

// allowRule returns the rule that lets a machine reach exactly what it was refused. The
// machine has chosen the name: one that would be a pattern, or something else than a host,
// is none, nor is an address of a network that is not public.
func allowRule(d mayfly.Denied) (string, bool) {
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
		return "", []shown{{plain, m.cursor + " was refused nothing; egress is " + termsafe.Line(st.Egress)}}
	}
	first := max(min(m.scroll-rows+1, len(m.hosts)-rows), 0)
	for i, d := range m.hosts[first:min(first+rows, len(m.hosts))] {
		lead, look, host := " ", plain, termsafe.Line(d.Host)
		if d.Port != 0 {
			host = mayfly.Rule{Host: host, Port: d.Port}.String()
		}
		switch {
		case allowed(st, d):
			host += "  (allowed now)"
		case d.Needless != "":
			host += "  (" + termsafe.Line(d.Needless) + " does not need it)"
		}
		if first+i == m.scroll {
			lead, look = ">", reversed
		}
		body = append(body, shown{look, fmt.Sprintf("%s%6d  %s", lead, d.Count, host)})
	}
	return "  TIMES  HOST THAT " + m.cursor + " WAS REFUSED", body
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
