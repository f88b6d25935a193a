package config

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/tomledit"
)

func TestAllowIn(t *testing.T) {
	rules := []Rule{{Host: "a.example"}, {Host: "b.example", Port: 8443}, {Host: "nas.example", Port: 22, Private: true}, {Host: "2606:4700::1", Port: 22}}
	const head = "version = 1\n# what it may reach\n[network]\negress = \"ask\" # asks\n"
	// What is there already is not there twice, in whatever form.
	in := head + "allow = [\n\t{ host = \"a.example\" }, # mine\n]\n"
	const want = head + "allow = [\n\t{ host = \"a.example\" }, # mine\n\t\"b.example:8443\",\n" +
		"\t{ host = \"nas.example\", port = 22, private = true },\n\t\"[2606:4700::1]:22\",\n]\n"
	got, err := AllowIn(File{Path: "f", Data: []byte(in)}, append(rules, rules[1], Rule{Host: "nas.example", Port: 22, Private: true}))
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
		t.Fatalf("AllowIn: %v (-want +got)\n%s", err, diff)
	}
	again, err := AllowIn(File{Path: "f", Data: got}, rules)
	if string(again) != want || err != nil {
		t.Errorf("AllowIn of what it wrote = %q, %v", again, err)
	}
	if got, want := AllowLine(rules[:3]), `allow = ["a.example", "b.example:8443", { host = "nas.example", port = 22, private = true }]`; got != want {
		t.Errorf("AllowLine = %s; want %s", got, want)
	}
	for _, bad := range []string{"version = 1\nnetwork = { egress = \"ask\" }\n"} {
		if got, err := AllowIn(File{Path: "f", Data: []byte(bad)}, rules); !errors.Is(err, tomledit.ErrShape) {
			t.Errorf("AllowIn(%q) = %q, %v; want ErrShape", bad, got, err)
		}
	}
	if got, err := AllowIn(File{Path: "f", Data: []byte("version = 7\n")}, rules); err == nil {
		t.Errorf("AllowIn of another version = %q", got)
	}
}
