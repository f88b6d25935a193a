#!/bin/sh
# Shows what mayfly does, on the current directory: doctor, one machine, one
# command. Called by make run once everything is installed and built.
set -eu

mayfly=bin/mayfly

# A QEMU that is good enough, where the distribution's is not.
"$mayfly" doctor --fix >/dev/null || { "$mayfly" doctor; exit 1; }

echo
echo "\$ mayfly run --discard -- sh -c 'uname -sr; id -un; echo hello >greeting.txt; git status --short'"
"$mayfly" run --discard -- sh -c 'uname -sr; id -un; echo hello >greeting.txt; git status --short'
echo
echo "That was a machine of its own. What it changed is discarded. Next:"
echo "  cd to a project, then  $PWD/$mayfly run -- bash"
