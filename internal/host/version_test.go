package host

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	tests := []struct {
		in   string
		want Version
		ok   bool
	}{
		{"10.0.2", Version{10, 0, 2}, true},
		{"10.0.2+ds-2+deb13u1~bpo12+1", Version{10, 0, 2}, true},
		{"8.2.0-rc1", Version{8, 2, 0}, true},
		{"9.2", Version{9, 2, 0}, true},
		{"", Version{}, false},
		{"10", Version{}, false},
		{"v10.0", Version{}, false},
		{"99999999999999999999.1.1", Version{}, false},
	}
	for _, tt := range tests {
		got, err := ParseVersion(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("ParseVersion(%q) = %v, %v; want %v, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

func TestParseVersionOutput(t *testing.T) {
	tests := []struct {
		in   string
		want Version
	}{
		{"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) …\n", Version{7, 2, 22}},
		{"warning: something\nQEMU emulator version 9.2.50 (v9.2.0-1-gabc)\n", Version{9, 2, 50}},
		{"bash: no\n", Version{}},
	}
	for _, tt := range tests {
		got, err := parseVersionOutput(tt.in)
		if got != tt.want || (err == nil) == got.IsZero() {
			t.Errorf("parseVersionOutput(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestTCGSafe(t *testing.T) {
	for v, want := range map[Version]bool{
		{}: false, {6, 2, 0}: false, {7, 2, 22}: false, {8, 0, 5}: false, {8, 1, 0}: false,
		{8, 1, 1}: true, {8, 2, 2}: true, {10, 0, 2}: true,
	} {
		if got := v.TCGSafe(); got != want {
			t.Errorf("%v.TCGSafe() = %v; want %v", v, got, want)
		}
		if got := v.TCGUnsafeReason(); (got == "") != want || !want && !strings.Contains(got, v.String()) {
			t.Errorf("%v.TCGUnsafeReason() = %q", v, got)
		}
	}
}

func TestVersionJSON(t *testing.T) {
	for _, want := range []Version{{}, {10, 0, 2}} {
		b, err := json.Marshal(QEMU{Version: want})
		if err != nil {
			t.Fatal(err)
		}
		var got QEMU
		if err := json.Unmarshal(b, &got); err != nil || got.Version != want {
			t.Errorf("%s becomes %v, %v; want %v", b, got.Version, err, want)
		}
	}
	var q QEMU
	if err := json.Unmarshal([]byte(`{"version": "new"}`), &q); err == nil {
		t.Error(`Unmarshal of the version "new" = nil; want an error`)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("10.0.2")
	f.Add("bogomips: 4200.00\nflags: constant_tsc nonstop_tsc\n")
	f.Add("MemTotal: 1 kB\nID=\"debian\"\nme:100000:65536\n")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := ParseVersion(text); err == nil {
			if again, err := ParseVersion(v.String()); err != nil || again != v {
				t.Errorf("ParseVersion(%q) = %v, %v; want %v", v, again, err, v)
			}
		}
		if khz := parseCPUInfo(text).tscKHz; khz < 0 {
			t.Errorf("tscKHz = %d", khz)
		}
		for key, n := range parseMemInfo(text) {
			if n < 0 {
				t.Errorf("%s = %d", key, n)
			}
		}
		parseOSRelease(text)
		if next := nextSubID(text); next < 100000 {
			t.Errorf("nextSubID = %d", next)
		}
		hasSubIDs(text, User{Name: "me"})
	})
}
