"""What a module leaves out is where it says.

The rule: each name in backticks of a "Left out" paragraph is a module, package or object that exists. It may
be given from the module's own package, from `reconcile`, or from `allocsync`. "(`x`, asked here)" says that
the module itself uses `x`, and "(`x`, asked by `y`)" that `y` does.

Left out: whether the named module really does it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import ROOT

PACKAGE = ROOT / "allocsync"
NAME = re.compile(r"`([a-z_][a-z_0-9]*(?:\.[A-Za-z_]\w*)*)`")
ASKED = re.compile(r"`([a-z_.]+)`,\s+asked\s+(?:here|by\s+`([a-z_.]+)`)")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")


def left_out(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return next((part for part in text.split("\n\n") if part.startswith("Left out:")), "")


def found(name: str, path: Path) -> Path | None:
    """The module or package that a name means in the docstring of this file; None if there is none."""
    bases = [folder for folder in path.parents if PACKAGE in {folder, *folder.parents}]
    for base in [*bases, PACKAGE / "reconcile"]:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            target = base.joinpath(*parts[:length])
            module = target / "__init__.py" if target.is_dir() else target.with_suffix(".py")
            if module.exists() and (length == len(parts) or parts[length] in _defined(module)):
                return module
    return None


def _defined(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def _wrong(path: Path) -> Iterator[str]:
    text = left_out(path)
    for name in NAME.findall(text):
        if found(name, path) is None:
            yield f"{name} is no module"
    for name, by in ASKED.findall(text):
        asker = found(by, path) if by else path
        code = "" if asker is None else asker.read_text(encoding="utf-8").partition('"""\n')[2]
        if name.rpartition(".")[2] not in code:
            yield f"{name} is not used by {by or 'this module'}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_module_leaves_out_is_where_it_says(path: Path) -> None:
    assert list(_wrong(path)) == []


def test_a_name_that_means_nothing_is_found() -> None:
    here = PACKAGE / "reconcile" / "reconciler.py"
    assert found("allocation.read_back", here) == PACKAGE / "reconcile" / "allocation" / "read_back.py"
    assert found("api.client.AllocationClient", here) == PACKAGE / "api" / "client.py"
    assert found("api.client.NoSuchClass", here) is None
    assert found("allocation.no_such_module", here) is None
    assert sum(bool(left_out(path)) for path in MODULES) > 100
