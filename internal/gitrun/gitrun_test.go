package gitrun_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// What git gets of this process's environment, and which configuration holds.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nenv | sort\nfor a; do echo \"arg $a\"; done\n"
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, name := range []string{"GIT_DIR", "GIT_TRACE", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_PARAMETERS", "LD_PRELOAD_NOT", "GIT_CONFIG_GLOBAL"} {
		t.Setenv(name, "/secret/"+name)
	}
	t.Setenv("HOME", "/home/ada")
	for _, tt := range []struct {
		name        string
		cmd         gitrun.Cmd
		with, lacks []string
	}{
		{
			"alone", gitrun.Cmd{Args: []string{"x"}, GitDir: "/q"},
			[]string{"HOME=/nonexistent", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ALLOW_PROTOCOL=none", "arg protocol.allow=never", "arg core.hooksPath=/dev/null", "arg core.fsmonitor=false", "arg --git-dir=/q"},
			[]string{"/secret/", "/home/ada"},
		},
		{
			"configured", gitrun.Cmd{Args: []string{"x"}, Keep: func(n string) bool { return n == "HOME" || n == "GIT_CONFIG_GLOBAL" }},
			[]string{"HOME=/home/ada", "GIT_CONFIG_GLOBAL=/secret/GIT_CONFIG_GLOBAL", "GIT_ALLOW_PROTOCOL=none", "arg core.fsmonitor=false"},
			[]string{"GIT_DIR=", "GIT_TRACE", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_PARAMETERS", "arg --git-dir", "core.excludesFile"},
		},
		{
			"online", gitrun.Cmd{Args: []string{"x"}, Keep: func(n string) bool { return n == "HOME" }, Online: true, Env: []string{"GIT_ALLOW_PROTOCOL=https"}},
			[]string{"HOME=/home/ada", "GIT_ALLOW_PROTOCOL=https", "arg core.hooksPath=/dev/null", "arg protocol.ext.allow=never"},
			[]string{"/secret/", "protocol.allow=never"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := gitrun.Output(t.Context(), tt.cmd, 64<<10)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range tt.with {
				if !strings.Contains(got, w) {
					t.Errorf("git got no %q:\n%s", w, got)
				}
			}
			for _, w := range tt.lacks {
				if strings.Contains(got, w) {
					t.Errorf("git got %q:\n%s", w, got)
				}
			}
		})
	}
}

func TestOutput(t *testing.T) {
	if got, err := gitrun.Output(t.Context(), gitrun.Cmd{Dir: "/", Args: []string{"hash-object", "--stdin"}, Stdin: strings.NewReader("")}, 100); got != "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" || err != nil {
		t.Errorf("Output() = %q, %v", got, err)
	}
	if _, err := gitrun.Output(t.Context(), gitrun.Cmd{Dir: "/", Args: []string{"version"}}, 3); err == nil {
		t.Error("more than 3 bytes were taken")
	}
	err := gitrun.Run(t.Context(), gitrun.Cmd{Dir: "/", GitDir: "/nonexistent", Args: []string{"rev-parse", "HEAD"}})
	if got := gitrun.Reason(err); !gitrun.Failed(err, 128) || !strings.HasPrefix(got, "not a git repository") {
		t.Errorf("Run() = %v, with the reason %q", err, got)
	}
}

// A limited program is held to its bounds, and so is what it starts.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		limits       tool.Limits
	}{
		{"file size", "head -c 100000 /dev/zero >f", tool.Limits{FileSize: 8 << 10}},
		{"memory", "head -c 100000000 /dev/zero | tail -n 1 >/dev/null", tool.Limits{Data: 16 << 20}},
	} {
		c := tool.Cmd{Name: "sh", Args: []string{"-c", tt.script}, Dir: t.TempDir()}
		if err := tool.Run(t.Context(), c); err != nil {
			t.Fatalf("%s without limits: %v", tt.name, err)
		}
		c.Limits = tt.limits
		if _, ok := errors.AsType[*tool.Error](tool.Run(t.Context(), c)); !ok {
			t.Errorf("%s: the limit does not hold", tt.name)
		}
	}
}
