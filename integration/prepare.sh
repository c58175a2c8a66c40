#!/bin/sh
# Installs the Debian or Ubuntu packages that a purpose needs and this machine lacks; without root it says how.
#
#	prepare.sh build|test|vm
#
# build: to build and run pyocirun.  test: also what its tests and checks use.  vm: what the virtual machine takes.
set -eu

packages="gcc libc6-dev libcap-dev libseccomp-dev python3-dev python3-venv"
vm="e2fsprogs mmdebstrap qemu-system-x86"
case "${1:-build}" in
build) ;;
test) packages="$packages busybox-static clang-format containerd dbus systemd uidmap iproute2 docker.io podman buildah catatonit slirp4netns btrfs-progs xfsprogs containernetworking-plugins patchelf procps $vm" ;;
vm) packages="$packages $vm" ;;
*)
	echo "usage: $0 build|test|vm" >&2
	exit 2
	;;
esac

missing=""
for package in $packages; do
	case "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)" in
	ii*) ;;
	*) missing="$missing $package" ;;
	esac
done

if [ -z "$missing" ]; then
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "pyocirun needs these Debian packages, or what your system calls them:$missing" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "Some system packages are missing. Run this, then try again:" >&2
	echo "    sudo apt-get install --no-install-recommends -y$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# A service must not start because of us: the tests bring up their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
# Debian 13 has docker's client in a package of its own.
case "$missing" in
*docker.io*) if apt-cache show docker-cli >/dev/null 2>&1; then missing="$missing docker-cli"; fi ;;
esac
# shellcheck disable=SC2086
apt-get install --no-install-recommends -y -q $missing
