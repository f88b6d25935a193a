#!/usr/bin/env bash
# Run checks and tests.
#
#   scripts/test.sh check    format, vet, staticcheck, and the packages whose tests
#                            start no machine; a few minutes
#   scripts/test.sh all      that, and the packages with machines
#
# Goes on after a failure, to show all of them; the exit code is 1 then. Called by
# make, once everything is installed and built.
set -u
cd "$(dirname "$0")/.."

case "$*" in
check | all) ;;
*)
	echo "usage: scripts/test.sh check|all" >&2
	exit 2
	;;
esac

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

format() {
	local files
	files=$(gofmt -l .) && [ -z "$files" ] || {
		echo "not as gofmt writes it: ${files//$'\n'/ }" >&2
		return 1
	}
}

# The profiles of all coding agents, from their table.
agents=$(sed -n 's/.*Name: "\([a-z-]*\)", Title: .*/\1/p' internal/codingagent/table.go | paste -sd,)

# What takes minutes the first time is not counted against any test, and shows
# its progress. The agents' image holds the default one.
images() {
	bin/mayfly doctor --fix &&
		bin/mayfly image build --no-detect &&
		bin/mayfly image build --no-detect --profile "$agents" &&
		bin/mayfly image build --no-detect --profile docker
}

# What unpacks archives, and shares nothing between goroutines, takes five times as long
# when it is watched for races. All else is.
race="-race"
for quiet in compress/... bufio github.com/klauspost/compress/... github.com/ulikunitz/xz/... github.com/pierrec/lz4/v4/...; do
	race="$race -gcflags=$quiet=-race=false"
done

# Packages whose tests start machines, or build images, are tested one after
# the other: together they would only wait for each other and for the CPUs. The
# longest of them, test, is the last by its name.
machines=$(grep -rlE 'env\.NeedVM|vm\.(Lock|New)' --include='*_test.go' . | xargs -n 1 dirname | sort -u)
others=$("$go" list -f '{{.Dir}}' ./... | sed "s|^$PWD|.|" | grep -vxF "$machines")

step format format
step vet "$go" vet ./...
step staticcheck "$go" tool -modfile=tools/go.mod staticcheck ./...
# The lists are meant to be split.
# shellcheck disable=SC2086
step "packages without machines" "$go" test $race -timeout 5m $others
if [ "$1" = all ]; then
	step images images
	# shellcheck disable=SC2086
	step "packages with machines" env MAYFLY_TEST_VM=1 "$go" test $race -p 1 -timeout 60m $machines
fi

if [ -n "$failed" ]; then
	echo "test: FAILED after $((SECONDS - began)) s: ${failed#, }" >&2
	exit 1
fi
echo "test: all passed in $((SECONDS - began)) s" >&2
