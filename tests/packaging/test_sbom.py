"""The bill of materials that `make sbom` writes."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import allocsync
from tests.packaging.conftest import ROOT

TIME, SHOWN = "1700000000", "2023-11-14T22:13:20Z"


def _write(lock: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    return subprocess.run(
        [sys.executable, ROOT / "deploy/sbom.py", lock],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def _components(document: str) -> list[Any]:
    found: list[Any] = json.loads(document)["components"]
    return found


def test_it_lists_what_the_lock_pins() -> None:
    lock = ROOT / "requirements.lock"
    lines = lock.read_text(encoding="utf-8").splitlines()
    pins = sorted(line.split()[0] for line in lines if "==" in line and not line.startswith((" ", "#")))
    listed = _components(_write(lock))
    assert len(pins) > 20
    assert [f"{each['name']}=={each['version']}" for each in listed] == pins
    assert [each["purl"] for each in listed] == [f"pkg:pypi/{pin.replace('==', '@')}" for pin in pins]


def test_it_is_a_document_of_cyclonedx_about_this_version() -> None:
    document = json.loads(_write(ROOT / "requirements.lock"))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    about = document["metadata"]["component"]
    assert (about["name"], about["version"]) == ("allocsync", allocsync.__version__)
    assert document["dependencies"] == [
        {"ref": about["bom-ref"], "dependsOn": [each["bom-ref"] for each in document["components"]]}
    ]


def test_the_same_lock_gives_the_same_bytes_and_a_time_only_if_one_is_given() -> None:
    lock = ROOT / "requirements.lock"
    assert _write(lock) == _write(lock)
    assert "timestamp" not in _write(lock)
    assert json.loads(_write(lock, SOURCE_DATE_EPOCH=TIME))["metadata"]["timestamp"] == SHOWN


@pytest.mark.parametrize(
    ("name", "listed", "licence"),
    [
        ("attrs==0.1", "attrs", None),  # the installed version is another one
        ("No.such_package==2.0", "no-such-package", None),
        (f"attrs=={version('attrs')}", "attrs", "MIT"),
    ],
)
def test_it_states_a_licence_only_if_the_installed_version_does(
    tmp_path: Path, name: str, listed: str, licence: str | None
) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"{name} \\\n    --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    (component,) = _components(_write(lock))
    assert component["name"] == listed
    assert component.get("licenses") == (None if licence is None else [{"expression": licence}])
