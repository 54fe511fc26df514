#!/usr/bin/env bash
# Makes the programs that the tests of deploy/kubernetes need: etcd, kube-apiserver and kubectl, in the layout of
# KUBEBUILDER_ASSETS. They come from Debian's archive, because no other mirror is assumed: kube-apiserver 1.20 is built
# from the source package of Debian 12 (in a root file system of its own; nothing is installed on this machine), etcd
# is that of Debian 12, kubectl that of Debian 13.
#
#   kubernetes_assets.sh [DIRECTORY]      default: ~/.cache/allocsync/kubernetes; prints it
#
# Needs root, mmdebstrap, 4 GB of free space and 4 minutes; a complete directory is left as it is.
set -euo pipefail

directory=${1:-${XDG_CACHE_HOME:-${HOME}/.cache}/allocsync/kubernetes}
if [[ -x ${directory}/kubectl && -x ${directory}/kube-apiserver && -x ${directory}/etcd ]]; then
    echo "${directory}"
    exit 0
fi

# shellcheck disable=SC2016 # apt expands it
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
if [[ -z ${mirror} ]]; then
    echo "no list of a Debian mirror is on this machine: apt-get update" >&2
    exit 1
fi

mkdir -p "${directory}"
work=$(mktemp -d "${directory}/work.XXXXXX")
trap 'rm -rf --one-file-system "${work}"' EXIT

# The output is shown only if a step fails, and without the names of hosts.
quietly() {
    if ! "$@" </dev/null >"${work}/log" 2>&1; then
        sed -E 's#https?://[^/ ]+#https://…#g' "${work}/log" | tail -n 30 >&2
        return 1
    fi
}

cat >"${work}/build" <<'INSIDE'
set -eu
cd /build
dpkg-source -x kubernetes_*.dsc kubernetes
mkdir -p go/src/k8s.io
mv kubernetes go/src/k8s.io/kubernetes
# The vendored modules lack a go.mod that today's Go accepts, so GOPATH mode.
export HOME=/build GOPATH=/build/go GO111MODULE=off GOFLAGS= GOPROXY=off CGO_ENABLED=0 PATH="/usr/lib/go/bin:$PATH"
cd go/src/k8s.io/kubernetes
# The vendored reflect2 panics when it iterates over a map under Go 1.18 and newer, so every PATCH would fail.
rm -r vendor/github.com/modern-go/reflect2
cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
rm -f vendor/github.com/modern-go/reflect2/*_test.go
# The source package lacks one generated file, the OpenAPI description that validates what is applied.
go build -o /build/openapi-gen ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
described=$(grep -rl --include='*.go' '+k8s:openapi-gen=true' pkg/apis staging/src/k8s.io |
    grep -v -e testdata -e /test/ -e sample- -e code-generator | xargs -n 1 dirname | sort -u |
    sed -e 's#^staging/src/#k8s.io/kubernetes/vendor/#' -e 't' -e 's#^#k8s.io/kubernetes/#' | paste -sd ,)
/build/openapi-gen --input-dirs "$described" --output-file-base zz_generated.openapi \
    --output-package k8s.io/kubernetes/pkg/generated/openapi \
    --go-header-file hack/boilerplate/boilerplate.generatego.txt --report-filename /build/violations
version=k8s.io/kubernetes/vendor/k8s.io
set --
for package in component-base client-go/pkg; do
    set -- "$@" -X "$version/$package/version.gitVersion=v1.20.2" -X "$version/$package/version.gitMajor=1" \
        -X "$version/$package/version.gitMinor=20"
done
go build -trimpath -ldflags "-s -w $*" -o /build/kube-apiserver ./cmd/kube-apiserver
INSIDE

build_tools=golang-go,dpkg-dev,golang-github-modern-go-reflect2-dev,etcd-server
# mmdebstrap gives the hooks their $1.
# shellcheck disable=SC2016
quietly mmdebstrap --mode=root --variant=apt --include="${build_tools}" \
    --customize-hook='mkdir "$1/build"' \
    --customize-hook='cd "$1/build" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get source --download-only kubernetes' \
    --customize-hook="copy-in '${work}/build' /build" \
    --customize-hook='chroot "$1" sh /build/build' \
    --customize-hook="copy-out /build/kube-apiserver /usr/bin/etcd '${work}'" \
    --customize-hook='rm -r "$1/build"' \
    bookworm "${work}/bookworm" "deb ${mirror} bookworm main" "deb-src ${mirror} bookworm main"
quietly mmdebstrap --mode=root --variant=extract --include=kubernetes-client trixie "${work}/trixie" \
    "deb ${mirror} trixie main"
install "${work}/etcd" "${work}/kube-apiserver" "${work}/trixie/usr/bin/kubectl" "${directory}"
echo "${directory}"
