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

# beside begins a step that needs no machine and has no deadlines, with what the other steps
# leave of the CPUs; together waits for all of them and prints what they said.
besides=$(mktemp -d)
trap 'rm -rf "$besides"' EXIT
beside() {
	# Its standard error is where it says how it ended.
	(
		renice -n 19 "$BASHPID" >/dev/null 2>&1
		failed=
		step "$@" >"$besides/$1" 2>&1
		[ -z "$failed" ]
	) &
	running="$running $!:$1"
}
running=

together() {
	local one
	for one in $running; do
		wait "${one%%:*}" || failed="$failed, ${one#*:}"
		cat "$besides/${one#*:}" >&2
	done
	running=
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
# longest of them, test, is the last by its name. They are not watched for races: that
# makes every command of mayfly several times as slow, and what they have of tests
# without machines runs before, watched, with all other packages. Package test has none.
# Without C they are confined as the program is that users get.
machines=$(grep -rlE 'env\.NeedVM|vm\.(Lock|New)' --include='*_test.go' . | xargs -n 1 dirname | sort -u)
units=$("$go" list -f '{{.Dir}}' ./... | sed "s|^$PWD|.|" | grep -vxF ./test)

step format format
beside vet "$go" vet ./...
beside staticcheck "$go" tool -modfile=tools/go.mod staticcheck ./...
# The lists are meant to be split.
# shellcheck disable=SC2086
step "tests without machines" "$go" test $race -timeout 5m $units
if [ "$1" = all ]; then
	step images images
	# shellcheck disable=SC2086
	step "packages with machines" env MAYFLY_TEST_VM=1 CGO_ENABLED=0 "$go" test -p 1 -timeout 60m $machines
fi
together

if [ -n "$failed" ]; then
	echo "test: FAILED after $((SECONDS - began)) s: ${failed#, }" >&2
	exit 1
fi
echo "test: all passed in $((SECONDS - began)) s" >&2
