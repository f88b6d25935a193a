package review

import "testing"

var gitCases = []evalCase{
	{change: Change{Path: ".git/hooks/post-checkout", New: file("#!/bin/sh\n")}, class: Runs, rules: []string{"git-hook"}},
	{change: Change{Path: "a/.GIT/hooks/post-checkout", New: file("#!/bin/sh\n")}, class: Runs, rules: []string{"git-hook"}},
}

func TestGit(t *testing.T) { evaluate(t, gitCases) }
