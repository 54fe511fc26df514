"""Writes the software bill of materials of allocsync, CycloneDX 1.5 as JSON, from the lock file.

    python deploy/sbom.py requirements.lock > allocsync.cdx.json

The rules: it lists what the lock pins, with version, package URL and the licence that the installed
distribution states. The same lock and environment give the same bytes: there is no serial number, and the
time is that of SOURCE_DATE_EPOCH (seconds since 1970) or left out.

Left out: hashes, which are in the lock; Python and the packages of a base image, which a scanner reads from
the image; which package needs which.
"""

import json
import os
import re
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

VERSION = re.compile(r'^__version__ = "(?P<version>[^"]+)"$', re.MULTILINE)
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)


def _component(name: str, version: str) -> dict[str, Any]:
    name = re.sub(r"[-_.]+", "-", name).lower()
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        **_licences(name, version),
        "purl": purl,
    }


def _licences(name: str, version: str) -> dict[str, Any]:
    """Return the licence as the installed distribution states it, if it is that version."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return {}
    if found.version != version or "License-Expression" not in found.metadata:
        return {}
    return {"licenses": [{"expression": found.metadata["License-Expression"]}]}


def bill_of_materials(lock: str, version: str, epoch: int | None) -> dict[str, Any]:
    """Return the document for the text of a lock, a version of allocsync and a time in seconds since 1970."""
    pinned = [_component(each["name"], each["version"]) for each in PINNED.finditer(lock)]
    root = f"pkg:pypi/allocsync@{version}"
    time = (
        {}
        if epoch is None
        else {"timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            **time,
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "allocsync",
                "version": version,
                "licenses": [{"expression": "Apache-2.0"}],
                "purl": root,
            },
        },
        "components": sorted(pinned, key=lambda each: str(each["bom-ref"])),
        "dependencies": [{"ref": root, "dependsOn": sorted(str(each["bom-ref"]) for each in pinned)}],
    }


def main() -> None:
    """Write the bill of materials of the lock that the command line names to standard output."""
    source = Path(__file__).resolve().parents[1] / "allocsync" / "__init__.py"
    version = VERSION.search(source.read_text(encoding="utf-8"))
    if version is None:
        raise SystemExit(f"{source}: no version found")
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    lock = Path(sys.argv[1]).read_text(encoding="utf-8")
    document = bill_of_materials(lock, version["version"], None if epoch is None else int(epoch))
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
