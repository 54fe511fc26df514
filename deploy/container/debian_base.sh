#!/usr/bin/env bash
# Makes the two images that deploy/container/Containerfile starts from, out of the packages of a Debian suite, for
# places where no base image can be pulled:
#
#   debian_base.sh SUITE RUN.tar BUILD.tar
#
# RUN.tar is what the image runs on: Python with its libraries, certificates and time zones; no shell and no package
# manager. BUILD.tar is what it is built with: a shell, and Python with venv. `podman import RUN.tar NAME` makes an image
# of each, for BASE and BUILD_BASE.
#
# Runs as root on Debian, needs mmdebstrap, and takes packages from the mirror of this machine.
set -euo pipefail

suite=$1 run=$2 build=$3
# shellcheck disable=SC2016 # apt expands it
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
if [[ -z ${mirror} ]]; then
    echo "no list of a Debian mirror is on this machine: apt-get update" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf --one-file-system "${work}"' EXIT

# The output is shown only if a step fails, and without the names of hosts.
quietly() {
    if ! "$@" </dev/null >"${work}/log" 2>&1; then
        sed -E 's#https?://[^/ ]+#https://…#g' "${work}/log" | tail -n 30 >&2
        return 1
    fi
}

# `extract` unpacks packages without running their scripts, so that none needs a shell. What the scripts would do and
# allocsync needs is done here: the links of a merged /usr, the bundle of certificates, the bytecode of Python's own
# library, and where names of hosts are looked up.
# shellcheck disable=SC2016
links='cd "$1" && mkdir usr && for each in bin sbin lib lib64; do mkdir "usr/$each" && ln -s "usr/$each" "$each"; done'
compile='import compileall, py_compile, sysconfig
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(sysconfig.get_path("stdlib"), quiet=1, invalidation_mode=mode)'
unused='usr/sbin/* usr/bin/tar usr/bin/dpkg* usr/bin/debconf* usr/bin/openssl usr/bin/update-alternatives
    usr/share/locale usr/share/man usr/share/info var/log/*'
# mmdebstrap gives the hooks their $1.
# shellcheck disable=SC2016
quietly mmdebstrap --mode=root --variant=extract --include=python3,ca-certificates,tzdata \
    --setup-hook="${links}" \
    --extract-hook='cd "$1" && cat usr/share/ca-certificates/mozilla/*.crt >etc/ssl/certs/ca-certificates.crt' \
    --extract-hook='echo "hosts: files dns" >"$1/etc/nsswitch.conf"' \
    --extract-hook="chroot \"\$1\" python3 -c '${compile}'" \
    --extract-hook="cd \"\$1\" && rm -rf ${unused//$'\n'/ }" \
    "${suite}" "${run}" "deb ${mirror} ${suite} main"
quietly mmdebstrap --mode=root --variant=extract --include=python3-venv,dash,coreutils,findutils \
    --setup-hook="${links}" "${suite}" "${build}" "deb ${mirror} ${suite} main"
