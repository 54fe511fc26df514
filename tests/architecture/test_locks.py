"""The lock files are complete: every package is pinned by hash, no host is named, and versions agree."""

import re
import tomllib
from pathlib import Path

import pytest

LOCKS = ("requirements.lock", "requirements-dev.lock")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def _pins(root: Path, lock: str) -> dict[str, str]:
    return {
        _normalise(name): version for name, version in PIN.findall((root / lock).read_text(encoding="utf-8"))
    }


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host(root: Path, lock: str) -> None:
    text = (root / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(root: Path, lock: str) -> None:
    entries = re.split(r"^(?=[a-zA-Z])", (root / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)
    pinned = [entry for entry in entries if PIN.match(entry)]
    assert pinned
    assert [entry.splitlines()[0] for entry in pinned if "--hash=sha256:" not in entry] == []


def test_tests_use_the_versions_that_are_shipped(root: Path) -> None:
    shipped, tested = (_pins(root, lock) for lock in LOCKS)
    assert shipped.items() <= tested.items()


def test_every_dependency_is_locked(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = {
        LOCKS[0]: project["dependencies"],
        LOCKS[1]: project["dependencies"] + project["optional-dependencies"]["dev"],
    }
    for lock, dependencies in expected.items():
        names = {_normalise(re.split(r"[<>=!~ \[]", dependency)[0]) for dependency in dependencies}
        assert names <= _pins(root, lock).keys(), lock
