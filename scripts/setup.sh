#!/bin/sh
# Install what mayfly needs of the distribution and is missing.
#
#   scripts/setup.sh run     what running machines needs
#   scripts/setup.sh test    that, and what the tests need
#
# Says what it installs and why. Changes nothing, and asks the network nothing,
# when nothing is missing.
set -eu

usage() {
	echo "usage: scripts/setup.sh run|test" >&2
	exit 2
}

say() {
	echo "setup: $*" >&2
}

[ $# -eq 1 ] || usage
case $1 in
run | test) purpose=$1 ;;
*) usage ;;
esac

[ "$(uname -s)" = Linux ] || {
	say "mayfly runs on Linux only"
	exit 1
}

# Package, a file or program that shows that it is there, why.
needs() {
	cat <<'EOF'
qemu-system-x86 qemu-system-x86_64 runs the machines
mmdebstrap mmdebstrap builds the images
uidmap newuidmap lets a normal user build images
e2fsprogs mkfs.ext4 makes the machines' disks
debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg verifies what the images are built of
EOF
	[ "$purpose" = test ] || return 0
	cat <<'EOF'
erofs-utils fsck.erofs reads back the images in tests
cpio cpio reads back the initial file system in tests
binutils as assembles the test guest anew in tests
procps ps finds leftover processes in tests
systemd systemd-analyze reads and runs the units in tests
openssh-server /usr/sbin/sshd serves git over SSH in tests
openssh-client ssh logs in to machines in tests
rsync rsync copies to machines by SSH in tests
curl curl asks the servers of tests
gcc gcc links the race detector into tests
libc6-dev /usr/include/stdio.h links the race detector into tests
npm npm fetches the coding agents that tests run
tmux tmux is the terminal of coding agents in tests
nix-bin nix evaluates definitions of machines in tests
EOF
}

# present reports whether a program, or the file of that name, is there. System
# programs are not in a normal user's PATH on Debian.
present() {
	case $1 in
	/*) [ -e "$1" ] || [ -e "${1%.gpg}.pgp" ] ;; # the keyring's name since Debian 13
	*) (PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null) ;;
	esac
}

# It is the program that matters, not who installed it; so this asks no package
# manager, takes milliseconds and works on any distribution.
missing=
while read -r package shows why; do
	if ! present "$shows"; then
		say "$package is missing: $why"
		missing="$missing $package"
	fi
done <<EOF
$(needs)
EOF

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		say "not root, and sudo is not installed; as root, run: $*"
		exit 1
	fi
}

if [ -n "$missing" ]; then
	if ! command -v apt-get >/dev/null; then
		say "this is no Debian or Ubuntu: install the packages above under your distribution's names, then try again"
		exit 1
	fi
	say "installing with apt:$missing"
	as_root apt-get -qq -o DPkg::Lock::Timeout=300 update
	# The names contain no blanks, the list is meant to be split.
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install $missing >/dev/null
fi

# What follows is advice: machines run without it, or the user has to decide.
if ! command -v npm >/dev/null; then
	say "npm is not installed; only images with a coding agent need it: apt-get install npm"
fi

if [ "$(id -u)" -ne 0 ]; then
	user=$(id -un)
	for file in /etc/subuid /etc/subgid; do
		if ! grep -qsE "^($user|$(id -u)):" "$file"; then
			# Behind the last range that anybody has.
			first=$(cat /etc/subuid /etc/subgid 2>/dev/null |
				awk -F: 'BEGIN { n = 100000 } $2 + $3 > n { n = $2 + $3 } END { print n }')
			range=$first-$((first + 65535))
			say "$user has no subordinate ids, which building images needs: sudo usermod --add-subuids $range --add-subgids $range $user"
			break
		fi
	done
	if [ -e /dev/kvm ] && ! [ -w /dev/kvm ]; then
		fix="sudo chmod 666 /dev/kvm"
		case $(stat -Lc %A:%G /dev/kvm) in
		????rw*:root) ;;
		????rw*:*) fix="sudo usermod -aG $(stat -Lc %G /dev/kvm) $user, then log in again" ;;
		esac
		say "machines are several times slower without /dev/kvm: $fix"
	fi
fi
