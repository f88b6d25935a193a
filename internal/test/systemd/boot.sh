#!/bin/sh
# The first process of the namespaces becomes systemd.
#
#   boot.sh SYSTEMD-DIRECTORY CGROUP-NAME MACHINE-ID < lines of: mount point, type, options
#
# It is started in new mount, PID, UTS, IPC and network namespaces. What it
# mounts is seen there alone, and nothing of the computer's is written to.
set -eu

if [ "${4-}" != inside ]; then
	mount --make-rprivate /
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir /run/mayfly-test
	cat >/run/mayfly-test/cgroups
	while read -r at type options; do
		echo 0 >"$at/$2/cgroup.procs"
	done </run/mayfly-test/cgroups
	# The group that a process is in becomes the root of its namespace.
	exec unshare --cgroup /bin/sh "$0" "$1" "$2" "$3" inside
fi

mount -t proc -o nosuid,nodev,noexec proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys

# systemd makes directories in /dev, and writes to the console.
mkdir /run/mayfly-test/dev
mount -t tmpfs -o mode=755 tmpfs /run/mayfly-test/dev
(
	cd /run/mayfly-test/dev
	for node in null zero full random urandom tty kvm net/tun; do
		[ -e "/dev/$node" ] || continue
		mkdir -p "$(dirname "$node")"
		: >"$node"
		mount --bind "/dev/$node" "$node"
	done
	mkdir pts shm
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts pts
	mount -t tmpfs -o mode=1777 tmpfs shm
	ln -s pts/ptmx ptmx
	ln -s /proc/self/fd fd
	ln -s null console
	ln -s null kmsg
)
mount --rbind /run/mayfly-test/dev /dev

while read -r at type options; do
	case $at in
	/sys/fs/cgroup) ;;
	/sys/fs/cgroup/*) # below a directory that only holds them
		if ! [ -e /run/mayfly-test/legacy ]; then
			: >/run/mayfly-test/legacy
			mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
		fi
		mkdir "$at"
		;;
	esac
	mount -t "$type" ${options:+-o "$options"} "$type" "$at"
done </run/mayfly-test/cgroups

for dir in /etc/systemd /var/lib/systemd /var/log/journal; do
	[ ! -d $dir ] || mount -t tmpfs -o mode=755 tmpfs $dir
done
mkdir /etc/systemd/system /etc/systemd/user
printf '[Journal]\nStorage=volatile\nForwardToWall=no\nReadKMsg=no\nRateLimitIntervalSec=0\n' >/etc/systemd/journald.conf
echo "$3" >/run/mayfly-test/machine-id
mount --bind /run/mayfly-test/machine-id /etc/machine-id

# The least that there is to be for other units to be as they always are.
units=/run/mayfly-test/units
mkdir -p $units /run/mayfly-test/none
for target in sysinit basic shutdown sockets timers multi-user network network-online nss-user-lookup; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $target >$units/$target.target
done
printf '[Unit]\nDescription=default\nWants=multi-user.target timers.target\nRequires=systemd-journald.socket\n' >$units/default.target
cat >$units/systemd-journald.socket <<X
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/systemd/journal/stdout
ListenDatagram=/run/systemd/journal/socket
PassCredentials=yes
ReceiveBuffer=8M
X
cat >$units/systemd-journald.service <<X
[Unit]
DefaultDependencies=no
Requires=systemd-journald.socket
[Service]
Type=notify
ExecStart=$1/systemd-journald
StandardOutput=null
X
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=mayfly-test \
	SYSTEMD_UNIT_PATH=/etc/systemd/system:$units \
	SYSTEMD_GENERATOR_PATH=/run/mayfly-test/none \
	SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/mayfly-test/none \
	"$1/systemd" --system --show-status=no
