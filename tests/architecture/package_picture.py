"""Draws which package uses which, from the imports: the pictures in allocsync/README.md.

The rule: a package stands above everything that it imports, so each arrow points down; an import that points
up would move the picture, and import-linter refuses it.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.support.documents import ROOT

PACKAGE = ROOT / "allocsync"


def packages() -> str:
    """The packages of allocsync."""
    return _picture(_uses("allocsync", PACKAGE, _parts(PACKAGE)))


def reconcile_packages() -> str:
    """The folders and modules of reconcile."""
    folder = PACKAGE / "reconcile"
    return _picture(_uses("allocsync.reconcile", folder, _parts(folder)))


def _parts(folder: Path) -> list[str]:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("_"))
    return [path.stem for path in entries if path.suffix == ".py" or (path / "__init__.py").exists()]


def _uses(prefix: str, folder: Path, parts: Iterable[str]) -> dict[str, set[str]]:
    names = list(parts)
    uses: dict[str, set[str]] = {}
    for part in names:
        file, inside = folder / f"{part}.py", folder / part
        files = [file] if file.exists() else sorted(inside.rglob("*.py"))
        imported = {name for path in files for name in _imports(path)}
        uses[part] = {
            other
            for other in names
            if other != part and any(f"{name}.".startswith(f"{prefix}.{other}.") for name in imported)
        }
    return uses


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _floor(part: str, uses: Mapping[str, set[str]]) -> int:
    return 1 + max((_floor(other, uses) for other in uses[part]), default=-1)


def _picture(uses: Mapping[str, set[str]]) -> str:
    floors: dict[int, list[str]] = {}
    for part in uses:
        floors.setdefault(_floor(part, uses), []).append(part)
    width = max(map(len, uses))
    lines = []
    for floor in sorted(floors, reverse=True):
        for part in sorted(floors[floor]):
            # What is used through another one is left out, so that the arrows can be followed.
            used = sorted(_direct(part, uses), key=lambda other: (-_floor(other, uses), other))
            arrow = f" → {', '.join(used)}" if used else ""
            lines.append(f"{floor}  {part.ljust(width) if used else part}{arrow}")
    return "\n".join(["```text", *lines, "```"])


def _direct(part: str, uses: Mapping[str, set[str]]) -> set[str]:
    return {
        other
        for other in uses[part]
        if not any(other in _below(between, uses) for between in uses[part] - {other})
    }


def _below(part: str, uses: Mapping[str, set[str]]) -> set[str]:
    return uses[part].union(*(_below(other, uses) for other in uses[part]))
