package dashboard

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// The looks of lines, as SGR has them. All that they say is in the text, too.
const (
	plain    = "0"
	strong   = "0;1"
	faint    = "0;2"
	heading  = "0;4"
	reversed = "0;7"
)

// shown is one row of the screen.
type shown struct{ look, text string }

// Draw draws the screen on g, which has its size.
func (m *Model) Draw(g *grid.Grid) {
	var b bytes.Buffer
	for y, s := range m.screen() {
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[%sm%s\x1b[0m", y+1, s.look, cells(s.text, m.cols))
	}
	g.Write(b.Bytes())
}

// layout is which rows there are.
type layout struct {
	title, header, detail, keys bool
	body                        int
}

func (m *Model) layout() layout {
	l := layout{title: m.rows >= 3, header: m.rows >= 5, detail: m.rows >= 4, keys: m.rows >= 2 || m.mode == modeFilter || m.mode == modeConfirm}
	l.body = m.rows
	for _, there := range []bool{l.title, l.header, l.detail, l.keys} {
		if there {
			l.body--
		}
	}
	return l
}

// screen returns as many rows as the screen has.
func (m *Model) screen() []shown {
	l := m.layout()
	var header string
	var body []shown
	switch m.mode {
	case modeHelp:
		body = m.helpBody()
	case modeNetwork:
		header, body = m.networkBody(l.body)
	default:
		header, body = m.listBody(l.body)
	}
	var out []shown
	if l.title {
		out = append(out, shown{strong, m.title()})
	}
	if l.header {
		out = append(out, shown{heading, header})
	}
	for y := range l.body {
		if y < len(body) {
			out = append(out, body[y])
		} else {
			out = append(out, shown{plain, ""})
		}
	}
	if l.detail {
		out = append(out, shown{plain, m.detail()})
	}
	if l.keys {
		out = append(out, m.keys())
	}
	return out
}

// title counts the machines.
func (m *Model) title() string {
	if !m.known {
		return "mayfly top"
	}
	var counts [len(marks)]int
	var cpu float64
	var memory int64
	for name := range m.infos {
		counts[m.status[name].rank]++
		cpu += m.usage[name].CPU
		memory += m.usage[name].Memory
	}
	parts := []string{plural(len(m.infos), "machine")}
	for rank, what := range []string{"waiting", "in trouble", "working", "done", "idle", "dead", "stopped"} {
		if counts[rank] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[rank], what))
		}
	}
	left, right := "mayfly top: "+strings.Join(parts, ", "), ""
	if len(m.usage) > 0 {
		right = fmt.Sprintf("CPU %.0f%%  memory %s", cpu*100, size(memory))
	}
	if gap := m.cols - width(left) - width(right); gap >= 2 {
		return left + strings.Repeat(" ", gap) + right
	}
	return left
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// column is one of the list.
type column struct {
	title string
	most  int  // cells
	right bool // what is a number
	cell  func(m *Model, name string) string
}

// columns are those of the list, in their order. The last takes what is left.
var columns = []column{
	{"NAME", 24, false, func(m *Model, name string) string { return name }},
	{"AGENT", 12, false, (*Model).agent},
	{"STATE", 16, false, func(m *Model, name string) string { return m.status[name].word }},
	{"AGE", 5, true, (*Model).age},
	{"FILES", 6, true, (*Model).files},
	{"DENIED", 6, true, (*Model).denials},
	{"CPU", 5, true, (*Model).cpu},
	{"MEM", 5, true, func(m *Model, name string) string { return size(m.usage[name].Memory) }},
	{"DISK", 5, true, (*Model).disk},
	{"SAYS", 1 << 16, false, func(m *Model, name string) string { return m.status[name].line }},
}

// dropped are columns that make room on a narrow screen, those that are missed least first.
var dropped = []string{"DISK", "MEM", "CPU", "FILES", "AGE", "AGENT", "DENIED"}

// lastColumn is how many cells the last column has, where it is shown.
const lastColumn = 10

func (m *Model) agent(name string) string {
	st := m.status[name]
	if st.more > 0 {
		return fmt.Sprintf("%s +%d", st.session, st.more)
	}
	return st.session
}

func (m *Model) age(name string) string {
	st := m.status[name]
	if st.rank >= rankDead {
		return ""
	}
	text := age(m.now.Sub(st.since))
	if st.least {
		text += "+"
	}
	return text
}

func (m *Model) files(name string) string {
	c, ok := m.changes[name]
	switch {
	case !ok:
		return ""
	case c.counting:
		return "…"
	}
	return fmt.Sprint(c.count)
}

func (m *Model) denials(name string) string {
	if n := m.denied(name); n > 0 {
		return fmt.Sprint(n)
	}
	return ""
}

func (m *Model) cpu(name string) string {
	u, ok := m.usage[name]
	if !ok {
		return ""
	}
	return fmt.Sprintf("%.0f%%", u.CPU*100)
}

func (m *Model) disk(name string) string {
	if u, ok := m.usage[name]; ok {
		return size(u.Disk)
	}
	return size(m.infos[name].DiskUsed)
}

// listBody returns the list of machines in so many rows.
func (m *Model) listBody(rows int) (header string, body []shown) {
	if len(m.listed) == 0 {
		m.top = 0
		switch {
		case !m.known:
			return "", []shown{{plain, "reading…"}}
		case m.filter != "":
			return "", []shown{{plain, "no machine matches " + m.filter}}
		}
		return "", []shown{{plain, "no machines; mayfly run or mayfly new makes one"}}
	}
	at := 0
	for i, name := range m.listed {
		if name == m.cursor {
			at = i
		}
	}
	m.top = max(min(m.top, at, len(m.listed)-rows), at-rows+1, 0)
	end := min(m.top+rows, len(m.listed))
	all, widths := m.fit(m.listed[m.top:end])
	line := func(lead string, cell func(c column) string) string {
		var b strings.Builder
		b.WriteString(lead)
		for i, c := range all {
			text := cell(c)
			if n := widths[i] - width(text); c.right && n > 0 {
				text = strings.Repeat(" ", n) + text
			}
			b.WriteString(" " + cells(text, widths[i]))
		}
		return b.String()
	}
	header = line("   ", func(c column) string { return c.title })
	for _, name := range m.listed[m.top:end] {
		st, look := m.status[name], plain
		lead := []byte{' ', ' ', st.mark}
		if m.marked[name] {
			lead[1] = '='
		}
		switch {
		case name == m.cursor:
			lead[0], look = '>', reversed
		case st.rank == rankWaits:
			look = strong
		case st.rank >= rankDead:
			look = faint
		}
		body = append(body, shown{look, line(string(lead), func(c column) string { return c.cell(m, name) })})
	}
	return header, body
}

// fit returns the columns that there is room for, and how wide each is.
func (m *Model) fit(names []string) (all []column, widths []int) {
	const lead = 3
	used := lead
	for _, c := range columns[:len(columns)-1] {
		w := width(c.title)
		for _, name := range names {
			w = max(w, width(c.cell(m, name)))
		}
		all, widths = append(all, c), append(widths, min(w, c.most))
		used += 1 + widths[len(widths)-1]
	}
	drop := func(title string) {
		if i := slices.IndexFunc(all, func(c column) bool { return c.title == title }); i >= 0 {
			used -= 1 + widths[i]
			all, widths = slices.Delete(all, i, i+1), slices.Delete(widths, i, i+1)
		}
	}
	for _, title := range dropped {
		if used > m.cols {
			drop(title)
		}
	}
	// What an agent says is worth more than what its disk takes.
	if i := len(widths) - 1; i >= 0 && used+1+lastColumn > m.cols && used+lastColumn-widths[i] <= m.cols {
		drop(dropped[0])
	}
	if left := m.cols - used - 1; left >= lastColumn {
		all, widths = append(all, columns[len(columns)-1]), append(widths, left)
	}
	return all, widths
}

// detail is a message, or what there is to say of the chosen machine.
func (m *Model) detail() string {
	info, ok := m.infos[m.cursor]
	switch {
	case m.message != "":
		return m.message
	case m.mode == modeHelp || !ok:
		return ""
	case m.mode == modeNetwork:
		return m.networkDetail()
	}
	st := m.status[m.cursor]
	parts := []string{m.cursor + ": " + st.word}
	if st.session != "" {
		parts[0] = m.cursor + ": " + st.session + " " + st.word
	}
	if st.line != "" {
		parts = append(parts, st.line)
	}
	for _, p := range info.Ports {
		auto := slices.ContainsFunc(info.Listening, func(l mayfly.Listening) bool { return l.Auto && l.Port == p.HostPort })
		if running(info) && p.HostPort != 0 && !auto {
			parts = append(parts, fmt.Sprintf("%s is its port %d", net.JoinHostPort(p.Address, strconv.Itoa(p.HostPort)), p.GuestPort))
		}
	}
	if text := words.ListeningOf(info); text != "" && running(info) {
		parts = append(parts, text)
	}
	if next, _ := words.Next(info); next != "" {
		parts = append(parts, next)
	}
	if info.Workspace != "" {
		parts = append(parts, words.Path(info.Workspace))
	}
	return termsafe.Line(strings.Join(parts, " | "))
}

// keys is the last row: what keys do.
func (m *Model) keys() shown {
	var all []string
	switch m.mode {
	case modeFilter:
		return shown{strong, "/" + m.filter + "_"}
	case modeConfirm:
		return shown{strong, m.question}
	case modeHeld:
		all = []string{"the session has ended by itself", "Ctrl-L goes on"}
	case modeHelp:
		all = []string{"Esc back"}
	case modeNetwork:
		all = []string{"y allow until it ends", "o once", "w always", "d deny", "? help", "Esc back"}
	default:
		all = []string{"Enter attach", "d diff", "a apply", "n net", "s shell", "l logs", "x stop", "? help", "q quit"}
		if m.filter != "" {
			all = append([]string{"/" + m.filter}, all...)
		}
	}
	// The last stay, as far as there is room: they are the way out.
	for len(all) > 1 && width(strings.Join(all, "  ")) > m.cols {
		i := max(len(all)-3, 0)
		all = slices.Delete(all, i, i+1)
	}
	return shown{faint, strings.Join(all, "  ")}
}

// help says what keys and marks mean.
var help = []string{
	"Enter   show the agent's session; Ctrl-] twice comes back here",
	"d  D    list the changes; show the lines that differ",
	"a       apply what is ordinary to your directory, and ask about the rest",
	"n       show hosts that it asks for or was refused: y allows one until the",
	"        machine ends, o allows what waits for an answer, w writes it into",
	"        the machine's file, for later starts, too, d denies",
	"s  l    open a shell; print the console",
	"x       stop the machine, or remove one of mayfly run",
	"c       count the files that it changed",
	"Space   mark machines: d, D, a, x and c are about all of them; Esc unmarks",
	"/       show only machines with this text; Esc shows all",
	"j  k    down, up, as the arrow keys; Page Down, Page Up; G, g for the ends",
	"Ctrl-Z  leave this for a while; Ctrl-L draws it anew; q, Ctrl-C end it",
	"!  waits for you, or is in trouble    *  works      +  is done",
	".  idle, or runs without an agent     -  stopped    x  dead",
	"AGE     how long it is so; with +, at least as long",
	"FILES   changed, when you pressed c",
	"DENIED  connections since you pressed n",
}

func (m *Model) helpBody() (body []shown) {
	for _, text := range help[min(m.scroll, len(help)-1):] {
		body = append(body, shown{plain, text})
	}
	return body
}

// width returns how many cells a text takes.
func width(text string) (n int) {
	for _, r := range text {
		n += grid.Width(r)
	}
	return n
}

// cells returns a text in exactly n cells.
func cells(text string, n int) string {
	w := width(text)
	if w <= n {
		return text + strings.Repeat(" ", n-w)
	}
	if n <= 0 {
		return ""
	}
	w = 0
	for i, r := range text {
		if w += grid.Width(r); w > n-1 {
			w -= grid.Width(r)
			return text[:i] + "…" + strings.Repeat(" ", n-1-w)
		}
	}
	return text
}

// lastCells returns a text, or as much of its end as n cells hold.
func lastCells(text string, n int) string {
	if width(text) <= n {
		return text
	}
	runes := []rune(text)
	w, i := 1, len(runes)
	for i > 0 && w+grid.Width(runes[i-1]) <= n {
		i--
		w += grid.Width(runes[i])
	}
	return "…" + string(runes[i:])
}

// age returns a time in few characters.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// size returns bytes in few characters.
func size(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 1000<<20:
		return fmt.Sprintf("%dM", (n+1<<20-1)>>20)
	}
	return fmt.Sprintf("%.1fG", float64(n)/(1<<30))
}
