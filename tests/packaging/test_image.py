"""The container image, built twice by `make image` on a base without a shell, and run by podman."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import allocsync
from tests.packaging.conftest import require
from tests.support.containers import BUILD_BASE, IMAGE, PROGRAMS, Engine, copy_of_source, engine

pytestmark = [pytest.mark.real, pytest.mark.slow]

SAFE = ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
LABEL = "org.opencontainers.image."
LARGEST_MIB = 120


@pytest.fixture(name="podman")
def _podman() -> Iterator[Engine]:
    for each in PROGRAMS:
        require(each)
    with engine() as found:
        yield found


def _files(podman: Engine, image: str) -> dict[str, tuple[str, int, int, str]]:
    """Return mode, owner, time and hash of each file of an image, by path."""
    root = Path(podman.podman("image", "mount", image).strip())
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = str(path.readlink()).encode()
        elif path.is_file():
            content = path.read_bytes()
        found[f"/{path.relative_to(root)}"] = (
            *(oct(status.st_mode), status.st_uid, int(status.st_mtime)),
            hashlib.sha256(content).hexdigest(),
        )
    podman.podman("image", "unmount", image)
    return found


def test_two_builds_give_the_same_files_and_the_same_image(podman: Engine, tmp_path: Path) -> None:
    for each in ("first", "second"):
        podman.build(copy_of_source(tmp_path / each), f"localhost/{each}", "--no-cache")
    first, second = (_files(podman, f"localhost/{each}") for each in ("first", "second"))
    assert len(first) > 2000
    differ = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    assert differ == []
    assert (
        podman.inspect("image", "localhost/first")["Id"] == podman.inspect("image", "localhost/second")["Id"]
    )


def test_the_image_says_what_it_is_and_needs_no_shell(podman: Engine) -> None:
    image = podman.inspect("image", IMAGE)
    assert image["Config"]["Entrypoint"] == ["allocsync"]
    assert image["Config"]["Cmd"] == ["run"]
    assert image["User"] == "65532:65532"
    assert image["Labels"][LABEL + "version"] == allocsync.__version__
    assert LABEL + "revision" not in image["Labels"]  # unknown in a copy without git
    assert LABEL + "source" not in image["Labels"]
    assert image["Size"] <= LARGEST_MIB * 1024 * 1024
    assert podman.podman("run", *SAFE, IMAGE, "--version") == f"allocsync, version {allocsync.__version__}\n"
    shell = podman.run("podman", "run", *SAFE, "--entrypoint=/bin/sh", IMAGE, "-c", "true")
    assert shell.returncode == 127
    assert (
        podman.podman("run", *SAFE, "--entrypoint=/bin/sh", BUILD_BASE, "-c", "echo a shell") == "a shell\n"
    )


def test_the_image_has_its_bill_of_materials_and_what_that_names(podman: Engine) -> None:
    show = "import pathlib; print(pathlib.Path('/usr/share/doc/allocsync/sbom.cdx.json').read_text())"
    python = ("--entrypoint=/usr/lib/allocsync/bin/python3", IMAGE, "-c")
    stated = json.loads(podman.podman("run", *SAFE, *python, show))
    list_all = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    installed = podman.podman("run", *SAFE, *python, list_all).lower().replace("_", "-").split()
    components = [*stated["components"], stated["metadata"]["component"]]
    assert sorted(installed) == sorted(f"{each['name']}=={each['version']}" for each in components)


def test_the_image_trusts_the_certificates_of_its_base(podman: Engine) -> None:
    count = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(podman.podman("run", *SAFE, "--entrypoint=python3", IMAGE, "-c", count)) > 100


def test_bytecode_is_in_the_image_because_it_cannot_be_written_later(podman: Engine) -> None:
    files = _files(podman, IMAGE)
    sources = {name for name in files if name.endswith(".py") and "/lib/python3." in name}
    compiled = {
        name.replace("/__pycache__", "").rsplit(".", 2)[0] + ".py" for name in files if name.endswith(".pyc")
    }
    assert len(sources) > 1000
    assert sources - compiled == set()
