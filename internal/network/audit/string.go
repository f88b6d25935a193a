package audit

import (
	"fmt"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// String returns the event on one line for people, fit to be printed: names in it are the
// guest's words.
func (e Event) String() string {
	words := []string{e.Time.Local().Format(time.TimeOnly)}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if e.Verdict != "" {
		add("%-5s", e.Verdict)
	} else {
		add("%-5s", e.Kind)
	}
	if e.Proto != "" {
		add("%s", e.Proto)
	}
	if e.Kind == Name {
		words[len(words)-1] = "dns " + e.Proto
	}
	if e.Method != "" {
		add("%s", e.Method)
	}
	host := e.Name
	if host == "" {
		host = e.Addr
	}
	if e.Port != 0 {
		host = fmt.Sprintf("%s:%d", host, e.Port)
	}
	if host += e.Path; host != "" {
		add("%s", host)
	}
	if e.Status != 0 {
		add("%d", e.Status)
	}
	if e.Up > 0 || e.Down > 0 {
		add("up %d, down %d bytes", e.Up, e.Down)
	}
	if e.Millis > 0 {
		add("in %d ms", e.Millis)
	}
	if len(e.Secrets) > 0 {
		add("with %s", strings.Join(e.Secrets, ", "))
	}
	if e.Rule != "" {
		add("[%s]", e.Rule)
	}
	if e.Reason != "" {
		add("%s", e.Reason)
	}
	if len(e.Samples) > 0 {
		add("such as %s", strings.Join(e.Samples, ", "))
	}
	if e.Count > 1 {
		add("(%d times)", e.Count)
	}
	return termsafe.Line(strings.Join(words, " "))
}
