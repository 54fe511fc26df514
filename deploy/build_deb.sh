#!/usr/bin/env bash
# Builds the Debian package of this tree for a suite: deploy/build_deb.sh bookworm|trixie DIRECTORY
#
# Needs root, mmdebstrap, python3-venv. The wheels are downloaded here, as pip is configured; the package is then built
# without a network, in a root file system of the suite. That is made once, from the mirror that apt of this machine
# uses, and is kept in $XDG_CACHE_HOME/allocsync (~/.cache/allocsync). Remove it to have it made anew.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=$1
into=$(realpath "$2")
case ${suite} in
    bookworm) release=12 minor=11 ;;
    trixie) release=13 minor=13 ;;
    *) echo "${suite}: give bookworm or trixie" >&2 && exit 64 ;;
esac
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' allocsync/__init__.py)

work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT
# Output is shown only after a failure, and without the names of hosts.
quietly() {
    if ! "$@" >"${work}/log" 2>&1 </dev/null; then
        sed -E "s#https?://[^/ ]+#https://…#g; s#host='[^']*'#host=…#g" "${work}/log" | tail -n 40 >&2
        echo "build_deb.sh: failed: $1" >&2
        exit 1
    fi
}

root=$(deploy/suite_root.sh "${suite}" build)

# The source: what git tracks, or everything in an unpacked sdist.
source=${work}/allocsync-${version}
mkdir "${source}"
if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -xf - -C "${source}"
else
    tar --exclude=./.venv -cf - . | tar -xf - -C "${source}"
fi
cp -r deploy/debian "${source}/debian"
[[ ${suite} != bookworm ]] || touch "${source}/debian/in-lib"
when=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y allocsync/__init__.py)}
cat >"${source}/debian/changelog" <<END
allocsync (${version}+deb${release}) ${suite}; urgency=medium

  * Version ${version} for ${suite}.

 -- allocsync developers <allocsync@example.org>  $(date -uRd "@${when}")
END

# The wheels, by the hashes of the locks, for the Python of the suite.
python3 -m venv "${work}/tools"
python3 - >"${work}/build.lock" <<END
import sys
sys.path.insert(0, "deploy")
import bundle
print(bundle.locked(open("requirements-dev.lock").read(), bundle.BUILD_PACKAGES))
END
platforms=()
for glibc in {5..36}; do platforms+=(--platform "manylinux_2_${glibc}_$(uname -m)"); done
for lock in requirements.lock "${work}/build.lock"; do
    quietly "${work}/tools/bin/pip" --disable-pip-version-check download --no-deps --only-binary=:all: \
        --python-version "3.${minor}" --implementation cp --abi "cp3${minor}" --abi abi3 --abi none \
        --platform manylinux2014_"$(uname -m)" "${platforms[@]}" --require-hashes -r "${lock}" -d "${source}/wheels"
done

# -d: build-essential is not there, because nothing is compiled.
# shellcheck disable=SC2016 # expanded inside
quietly unshare --mount --net --fork bash -euc '
    mount --bind "$1" "$2/srv" && mount -t proc proc "$2/proc"
    exec chroot "$2" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="$3" \
        sh -euc "cd /srv/allocsync-*/ && dpkg-buildpackage -d --build=binary --no-sign && cd .. &&
            lintian --fail-on error --allow-root *.changes >lintian.txt 2>&1 || { cat lintian.txt; false; }"
' - "${work}" "${root}" "${when}"
cat "${work}/lintian.txt" >&2
install -m 644 -t "${into}" "${work}"/allocsync_*.deb
echo "${into}/$(basename "${work}"/allocsync_*.deb)"
