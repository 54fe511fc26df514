#!/usr/bin/env bash
# Prints the path of a root file system of a Debian suite, and makes it first if there is none:
# deploy/suite_root.sh bookworm|trixie build|run
#
# Needs root and mmdebstrap. `build` has what builds a package; `run` boots with systemd and has Python, nothing more.
# It is kept in $XDG_CACHE_HOME/allocsync (~/.cache/allocsync). The mirror is the one that apt of this machine uses.
set -euo pipefail

suite=$1
purpose=$2
case ${purpose} in
    build) packages=python3,python3-venv,debhelper,dpkg-dev,make,lintian ;;
    run) packages=systemd,systemd-sysv,dbus,python3,procps ;;
    *) exit 64 ;;
esac
root=${XDG_CACHE_HOME:-${HOME}/.cache}/allocsync/${purpose}-root-${suite}
mkdir -p "$(dirname "${root}")"
exec 9>"${root}.lock"
flock 9
if [[ ! -d ${root} ]]; then
    # shellcheck disable=SC2016 # apt expands it
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    rm -rf "${root}.part"
    if ! mmdebstrap --quiet --variant=minbase --include="${packages}" "${suite}" "${root}.part" "${mirror}" \
        >"${root}.log" 2>&1 </dev/null; then
        sed -E 's#https?://[^/ ]+#https://…#g' "${root}.log" | tail -n 20 >&2
        echo "suite_root.sh: no root file system of ${suite} could be made" >&2
        exit 1
    fi
    mv "${root}.part" "${root}"
fi
echo "${root}"
