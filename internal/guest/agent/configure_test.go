package agent

import (
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	host := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC).UnixNano()
	for off, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: 0, -900 * time.Millisecond: 0, // a request may be under way for so long
		-72 * time.Hour: 72 * time.Hour, 72 * time.Hour: -72 * time.Hour, 1001 * time.Millisecond: -1001 * time.Millisecond,
	} {
		if got := skew(host, host+int64(off)); got != int64(want) {
			t.Errorf("a clock that is off by %v is changed by %v; want %v", off, time.Duration(got), want)
		}
	}
}
