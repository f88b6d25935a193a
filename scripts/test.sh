#!/usr/bin/env bash
# Run all checks and tests, with real machines. Called by make test once
# everything is installed and built.
#
# Goes on after a failure, to show all of them; the exit code is 1 then.
set -u
cd "$(dirname "$0")/.."

go=${GO:-go}
began=$SECONDS
failed=

step() {
	local name=$1 start=$SECONDS
	shift
	echo "test: $name" >&2
	if "$@"; then
		echo "test: $name: ok, $((SECONDS - start)) s" >&2
	else
		echo "test: $name: FAILED, $((SECONDS - start)) s" >&2
		failed="$failed, $name"
	fi
}

# What takes minutes the first time is not counted against any test, and shows
# its progress. The agents' image holds the default one.
images() {
	bin/mayfly doctor --fix &&
		bin/mayfly image build --no-detect &&
		bin/mayfly image build --no-detect --profile claude,codex,opencode &&
		bin/mayfly image build --no-detect --profile docker
}

# Packages whose tests start machines, or build images, are tested one after
# the other: together they would only wait for each other and for the CPUs.
machines=$(grep -rlE 'env\.NeedVM|vm\.(Lock|New)' --include='*_test.go' cmd internal test | xargs -n 1 dirname | sort -u | sed 's|^|./|')
others=$("$go" list -f '{{.Dir}}' ./... | sed "s|^$PWD|.|" | grep -vxF "$machines")

step images images
step check make --no-print-directory check
# The lists are meant to be split.
# shellcheck disable=SC2086
step "packages without machines" "$go" test -race -timeout 5m $others
# shellcheck disable=SC2086
step "packages with machines" env MAYFLY_TEST_VM=1 "$go" test -race -p 1 -timeout 45m $machines

if [ -n "$failed" ]; then
	echo "test: FAILED after $((SECONDS - began)) s: ${failed#, }" >&2
	exit 1
fi
echo "test: all passed in $((SECONDS - began)) s" >&2
