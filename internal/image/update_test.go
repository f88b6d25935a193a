package image

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withStatus writes a layer with dpkg's list of one package, and a file that differs.
func withStatus(version, noise string) func(io.Writer) error {
	return func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for name, text := range map[string]string{
			"var/lib/dpkg/status": "Package: jq\nStatus: install ok installed\nVersion: " + version + "\nDescription: x\n Version: no\n\n",
			"var/log/noise":       noise,
		} {
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
				return err
			}
			if _, err := io.WriteString(tw, text); err != nil {
				return err
			}
		}
		return tw.Close()
	}
}

// A part is built anew once, and taken only when a version in it differs.
func TestRefresh(t *testing.T) {
	s := testStore(t)
	r := recipe{Role: RoleBase, Suite: "trixie"}
	made := 0
	build := func(refresh *refresh, version string) string {
		t.Helper()
		b := &builder{Store: s, report: newReporter(nil), refresh: refresh}
		id, err := b.once(t.Context(), r, space{}, func() (string, error) {
			made++
			return s.addLayer(t.Context(), r, withStatus(version, fmt.Sprint(made)))
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	again := func() *refresh { return &refresh{done: make(map[string]string)} }
	first := build(nil, "1.7")
	if id := build(nil, "1.8"); id != first || made != 1 {
		t.Errorf("built %d times without being asked to", made)
	}
	if id := build(again(), "1.7"); id != first || made != 2 {
		t.Errorf("built %d times; the same versions gave another layer", made)
	}
	one := again()
	second := build(one, "1.8")
	if second == first || made != 3 {
		t.Errorf("built %d times; a new version gave the old layer", made)
	}
	if id := build(one, "1.9"); id != second || made != 3 {
		t.Errorf("built %d times; want once for each update", made)
	}
	if id := build(nil, "1.9"); id != second {
		t.Error("the next image does not have what the update built")
	}
	before, err := s.layerVersions(first)
	if err != nil {
		t.Fatal(err)
	}
	after, err := s.layerVersions(second)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Change{{"jq", "1.7", "1.8"}}, compare(before, after)); d != "" {
		t.Errorf("compare (-want +got):\n%s", d)
	}
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus(strings.NewReader("Package: a\nVersion: 1:2.0-1\n\nPackage: b\nDescription: x\n Version: no\nVersion: 3\n"))
	if d := cmp.Diff(map[string]string{"a": "1:2.0-1", "b": "3"}, got); err != nil || d != "" {
		t.Errorf("parseStatus: %v\n%s", err, d)
	}
}

// FuzzParseStatus checks that what is read was written there, and is read again from a list
// of nothing else.
func FuzzParseStatus(f *testing.F) {
	f.Add("Package: a\nStatus: install ok installed\nVersion: 1:2.0-1\n\nPackage: b\nDescription: x\n Version: no\nVersion: 3\n")
	f.Add("Version: 1\n\nPackage: a\n\nVersion: 2\n")
	f.Add("Package: \nVersion: 1\nPackage: a\r\nVersion:2\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseStatus(strings.NewReader(text))
		if err != nil {
			return
		}
		var again strings.Builder
		for name, version := range got {
			if name == "" || !strings.Contains(text, "Package: "+name) || !strings.Contains(text, "Version: "+version) {
				t.Errorf("%q has no package %q %q", text, name, version)
			}
			again.WriteString("Package: " + name + "\nVersion: " + version + "\n\n")
		}
		if strings.Contains(text, "\r") {
			return // at the end of a line it is none of its text
		}
		if d := cmp.Diff(got, mustParse(t, again.String())); d != "" {
			t.Errorf("read again (-before +after):\n%s", d)
		}
	})
}

func mustParse(t *testing.T, text string) map[string]string {
	t.Helper()
	got, err := parseStatus(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return got
}
