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

# beside NICE NAME COMMAND… begins a step that has no deadlines, with what the other steps
# leave of the CPUs; together waits for all of them and prints what they said.
besides=$(mktemp -d)
trap 'rm -rf "$besides"' EXIT
beside() {
	local nice=$1
	shift
	# Its standard error is where it says how it ended.
	(
		renice -n "$nice" "$BASHPID" >/dev/null 2>&1
		failed=
		step "$@" >"$besides/$1" 2>&1
		[ -z "$failed" ]
	) &
	running+=("$!:$1")
}
running=()

together() {
	local one
	for one in "${running[@]}"; do
		wait "${one%%:*}" || failed="$failed, ${one#*:}"
		cat "$besides/${one#*:}" >&2
	done
	running=()
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
		bin/mayfly image build --no-detect --profile "$agents" --package tree && # of TestAgentsGoOn
		bin/mayfly image build --no-detect --profile docker
}

# What unpacks archives, and shares nothing between goroutines, takes five times as long
# when it is watched for races. All else is.
race="-race"
for quiet in compress/... bufio github.com/klauspost/compress/... github.com/ulikunitz/xz/... github.com/pierrec/lz4/v4/...; do
	race="$race -gcflags=$quiet=-race=false"
done

# Packages whose tests start machines, or build images, are not watched for races: that
# makes every command of mayfly several times as slow, and what they have of tests
# without machines runs before, watched, with all other packages. Package test has none.
# Without C they are confined as the program is that users get.
#
# They run in two lanes, in each of which one thing is done after the other: a machine
# leaves nearly half of two CPUs unused, and more would only wait for each other. The
# second lane, which yields to the first, has what builds images, and the long tests of
# package test that measure no time and share nothing with others.
builders=$(grep -rlE 'env\.NeedVM|vm\.(Lock|New)' --include='*_test.go' . | xargs -n 1 dirname | sort -u | grep -vxF ./test)
long='^(TestCloneByCopy|TestClonesDiffer|TestGoSource|TestMirrors|TestStates|TestTemplateDamaged)$'
units=$("$go" list -f '{{.Dir}}' ./... | sed "s|^$PWD|.|" | grep -vxF ./test)

with_machines() {
	env MAYFLY_TEST_VM=1 CGO_ENABLED=0 "$go" test -p 1 -timeout 60m "$@"
}

second_lane() {
	export MAYFLY_TEST_LANE=2
	# The list is meant to be split.
	# shellcheck disable=SC2086
	with_machines $builders
	local code=$?
	with_machines -run "$long" ./test && return "$code"
}

step format format
beside 19 vet "$go" vet ./...
beside 19 staticcheck "$go" tool -modfile=tools/go.mod staticcheck ./...
# The list is meant to be split.
# shellcheck disable=SC2086
step "tests without machines" "$go" test $race -timeout 10m $units
# What is watched for races takes several times the memory.
step "memory" "$go" test -timeout 10m -run '^TestMemory' ./internal/cli
if [ "$1" = all ]; then
	step images images
	beside 5 "second lane with machines" second_lane
	step "tests with machines" with_machines -skip "$long" ./test
fi
together

if [ -n "$failed" ]; then
	echo "test: FAILED after $((SECONDS - began)) s: ${failed#, }" >&2
	exit 1
fi
echo "test: all passed in $((SECONDS - began)) s" >&2
