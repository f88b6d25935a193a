package supervisor

import (
	"log/slog"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// A guest can write what it is given, and never so much that the host's file system has no
// room left for anybody else. What is taken away is said.
func TestDiskBound(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		asked, total, free, want int64
	}{
		{0, 1000 * gib, 500 * gib, plan.DefaultDisk},
		{16 * gib, 1000 * gib, 500 * gib, 16 * gib},
		{64 * gib, 1000 * gib, 500 * gib, 64 * gib},
		{0, 1000 * gib, 120 * gib, 20 * gib}, // a tenth stays free
		{0, 30 * gib, 10*gib + 1, 5 * gib},   // 5 GiB stay free
		{0, 30 * gib, 10*gib - 1, 5*gib - plan.DiskStep},
		{16 * gib, 30 * gib, 10 * gib, 5 * gib},
		{2 * gib, 30 * gib, 10 * gib, 2 * gib},
		{0, gib, gib / 2, plan.MinDisk}, // less is no disk; its machine is paused when there is no room
		{0, gib, 0, plan.MinDisk},
	} {
		heard := &recorder{}
		s := &supervisor{events: newEvents(heard), log: slog.New(slog.DiscardHandler), measure: func(string) (diskspace.Usage, error) {
			return diskspace.Usage{Total: tt.total, Free: tt.free}, nil
		}}
		s.plan.Disk = tt.asked
		got := s.diskBound()
		if got != tt.want {
			t.Errorf("diskBound() of %d with %d of %d bytes free = %d; want %d", tt.asked, tt.free, tt.total, got, tt.want)
		}
		less := tt.want < max(tt.asked, 0) || tt.asked == 0 && tt.want < plan.DefaultDisk
		all := heard.all()
		if less != (len(all) == 1) || less && (all[0].Code != control.NoteDiskLess || all[0].Args["bytes"] == "") {
			t.Errorf("diskBound() of %d said %+v; want a note: %v", tt.asked, all, less)
		}
	}
}
