package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestShareDevice(t *testing.T) {
	sys := t.TempDir()
	for i, tag := range []string{"share0", "share1"} {
		dir := filepath.Join(sys, "fs/virtiofs", string(rune('0'+i)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tag"), []byte(tag+"\n"), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../../devices/pci0000:00/0000:00:06."+string(rune('0'+i))+"/virtio1"+string(rune('0'+i)), filepath.Join(dir, "device")); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := shareDevice(sys, "share1"); got != "virtio11" || err != nil {
		t.Errorf("shareDevice(share1) = %q, %v; want virtio11", got, err)
	}
	if got, err := shareDevice(sys, "share"); err == nil {
		t.Errorf("shareDevice(share) = %q; want an error", got)
	}
}
