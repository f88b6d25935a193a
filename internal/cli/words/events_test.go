package words

import (
	"testing"

	"github.com/mayfly-vm/mayfly"
)

// A machine's remark is told in its own words, with the next command where that is known.
func TestMachineNotes(t *testing.T) {
	for _, tt := range []struct {
		code string
		args map[string]string
		want string
	}{
		{"machine", map[string]string{"text": "a guest's \x1b[31mwords"}, "a guest's ?[31mwords"},
		{"template-damaged", map[string]string{"text": "it is damaged; it is made anew", "reason": "it is damaged"}, "it is damaged; it is made anew"},
		{"of-a-later-version", map[string]string{"text": "its words"}, "its words"},
		{"of-a-later-version", nil, "of-a-later-version"},
		{"systemd-degraded", map[string]string{"text": "in the machine failed: x.service", "name": "m", "units": "x.service"},
			"in the machine failed: x.service; look with: mayfly exec m -- systemctl status"},
		{"systemd-slow", map[string]string{"text": "systemd has not started everything within 2m0s", "name": "m", "timeout": "2m0s"},
			"systemd has not started everything within 2m0s; look with: mayfly exec m -- systemctl list-jobs"},
		{"share-owner", map[string]string{"text": "/srv belongs to user 0", "source": "/srv", "uid": "1000", "gid": "100", "owner": "0"},
			"/srv belongs to user 0 (chown -R 1000:100 /srv)"},
	} {
		if got := Event(mayfly.Event{Kind: mayfly.EventNote, Code: tt.code, Args: tt.args}); got != tt.want {
			t.Errorf("Event(%s, %q) = %q; want %q", tt.code, tt.args, got, tt.want)
		}
	}
}
