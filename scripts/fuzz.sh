#!/usr/bin/env bash
# Fuzz, one target after the other.
#
#   FUZZTIME=10m scripts/fuzz.sh [REGEXP]    those whose PACKAGE.NAME matches
#
# What go finds on the way stays in its cache, and begins the next run. An input that fails
# is written below its package's testdata, for the test of the repair. The exit code is 1 then.
set -u
cd "$(dirname "$0")/.."

go=${GO:-go}
time=${FUZZTIME:-1m}
wanted=${1:-.}
failed=

log=$(mktemp)
trap 'rm -f "$log"' EXIT
while read -r dir name; do
	[[ "${dir#./}.$name" =~ $wanted ]] || continue
	"$go" test -run='^$' -fuzz="^$name\$" -fuzztime="$time" -parallel="${FUZZPARALLEL:-1}" "$dir" >"$log" 2>&1
	code=$?
	last=$(grep '^fuzz: elapsed' "$log" | tail -n 1)
	if [ $code -eq 0 ]; then
		echo "fuzz: ${dir#./}.$name: ok, ${last#fuzz: }"
	else
		cat "$log"
		echo "fuzz: ${dir#./}.$name: FAILED"
		failed=1
	fi
done < <(git ls-files -co --exclude-standard '*_test.go' | xargs grep -Ho '^func Fuzz[A-Za-z0-9]*' | sed 's|\(.*\)/[^/]*:func |./\1 |' | sort)
[ -z "$failed" ]
