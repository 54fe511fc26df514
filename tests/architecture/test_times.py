"""Every point in time in `allocsync` carries its clock: it is a `Monotonic` or a `WallTime`, and no float.

The rule: mypy finds a mix-up of clocks only where the types are written. So no name of a point in time is
annotated with `float`, no duration (`…_seconds`) with the type of a clock, and a clock is read only inside
`Monotonic(…)` or `WallTime(…)`.

Left out: what the types allow (`tests/unit/model/test_times.py`), and names that do not say "time".
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import ROOT

TIME = re.compile(
    r"(^|_)(now|wall|at|since|until|before|begun|began|ended|ends|deadlines?|latest|flips|turns)$"
    r"|^last_full_read$"
)
CLOCKS = frozenset({"Monotonic", "WallTime"})
# Calls that read a clock: `time.time()`, `time.monotonic()` and `loop.time()`.
READINGS = frozenset({"time", "monotonic"})


def _annotations(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield each annotated name with its annotation; for a function, what it returns."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                yield name, annotation
            case ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name), annotation=annotation):
                yield name, annotation
            case ast.FunctionDef(name=name, returns=ast.expr() as annotation):
                yield name, annotation
            case ast.AsyncFunctionDef(name=name, returns=ast.expr() as annotation):
                yield name, annotation


def _types(annotation: ast.expr) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(annotation) if isinstance(node, ast.Name))


def _without_clock(tree: ast.AST) -> Iterator[str]:
    """Yield the times that are annotated with `float`, and the durations with the type of a clock."""
    for name, annotation in _annotations(tree):
        types = _types(annotation)
        if ("float" in types and TIME.search(name)) or (types & CLOCKS and name.endswith("seconds")):
            yield name


def _bare_readings(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that read a clock outside `Monotonic(…)` and `WallTime(…)`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    typed = {
        id(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in CLOCKS and call.args
    }
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr in READINGS and id(call) not in typed:
            yield call.lineno


def _modules() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted((ROOT / "allocsync").rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "code",
    [
        "def f(now: float) -> None: ...",
        "def f(*, wall: Callable[[], float]) -> None: ...",
        "next_read_at: float | None = None",
        "self.active_since: float | None = None",
        "until: dict[str, float]",
        "async def blocked_until() -> float: ...",
        "settle_seconds: Monotonic",
    ],
)
def test_a_time_without_its_clock_and_a_duration_with_one_are_found(code: str) -> None:
    assert list(_without_clock(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "def f(now: Monotonic) -> float: ...",
        "settle_seconds: float",
        "format: float",
        "unknowns: list[tuple[Monotonic, float]]",
    ],
)
def test_other_annotations_are_not_reported(code: str) -> None:
    assert not list(_without_clock(ast.parse(code)))


@pytest.mark.parametrize("code", ["time.time() - 1", "x = loop.time()", "Monotonic(time.monotonic() + 1)"])
def test_a_clock_that_is_read_as_a_number_is_found(code: str) -> None:
    assert list(_bare_readings(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["WallTime(time.time()) - 1", "Monotonic(asyncio.get_running_loop().time())"]
)
def test_a_clock_that_is_read_as_a_time_is_not_reported(code: str) -> None:
    assert not list(_bare_readings(ast.parse(code)))


def test_every_point_in_time_has_the_type_of_its_clock() -> None:
    found = [f"{path}: {name}" for path, tree in _modules() for name in _without_clock(tree)]
    assert not found, "\n".join(found)


def test_no_module_reads_a_clock_as_a_number() -> None:
    found = [f"{path}:{line}" for path, tree in _modules() for line in _bare_readings(tree)]
    assert not found, "\n".join(found)
