package cli

import (
	"io"
	"os"
	"testing"
)

// Commands that are about no machine run also where the user has no home directory.
func TestWithoutClient(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, tt := range []struct {
		args []string
		ok   bool
	}{
		{[]string{"version"}, true},
		{[]string{"image"}, true},
		{[]string{"skill", "print"}, true},
		{[]string{"completion", "bash"}, true},
		{[]string{"help", "ls"}, true},
		{[]string{"__complete", "stop", ""}, true},
		{[]string{"ls"}, false},
	} {
		a := &app{Streams: Streams{Out: null, Err: null}, getenv: func(string) string { return "" }}
		root := a.rootCommand()
		root.SetArgs(tt.args)
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		if err := root.Execute(); (err == nil) != tt.ok {
			t.Errorf("mayfly %v: %v; want success %v", tt.args, err, tt.ok)
		}
	}
}
