package words

import (
	"fmt"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Dash stands for an empty cell.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Size prints a number of bytes for people.
func Size(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// Templates says how many templates there are and how large.
func Templates(templates []mayfly.Template) string {
	var bytes int64
	for _, t := range templates {
		bytes += t.Bytes
	}
	if len(templates) == 0 {
		return "-"
	}
	return fmt.Sprintf("%d (%d MiB)", len(templates), bytes>>20)
}

// Path is a path in a cell, as it can be printed.
func Path(path string) string {
	if path == "" {
		return Dash(path)
	}
	return termsafe.Quote(path)
}
