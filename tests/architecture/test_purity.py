"""The checks find what they are for: violations in a copy of the tree make the real commands fail."""

from pathlib import Path

import pytest

from tests.architecture import purity
from tests.architecture.conftest import Copy

PLANNING = "allocsync/planning/diff.py"
QUEUE = "allocsync/reconcile/scheduling/work_queue.py"


def test_this_project_has_no_problem(root: Path) -> None:
    assert list(purity.problems(root)) == []


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        pytest.param(PLANNING, "import time", "imports time", id="a clock"),
        pytest.param(PLANNING, "import os.path", "imports os.path", id="a submodule"),
        pytest.param(PLANNING, "from os import environ", "imports os", id="by from"),
        pytest.param(PLANNING, "import importlib", "imports importlib", id="importlib"),
        pytest.param(PLANNING, "import random as enum", "imports random", id="by another name"),
        pytest.param(PLANNING, "import yaml", "imports yaml", id="a library"),
        pytest.param(PLANNING, "import allocsync.api", "imports allocsync.api", id="another layer"),
        pytest.param(PLANNING, "from allocsync import journal", "imports allocsync.journal", id="a sibling"),
        pytest.param(PLANNING, "from . import plan", "imports .", id="relative"),
        pytest.param(
            PLANNING, "from dataclasses import sys", "imports dataclasses.sys", id="a borrowed module"
        ),
        pytest.param(PLANNING, "from json import *", "imports json.*", id="a star"),
        pytest.param(QUEUE, "import asyncio", "imports asyncio", id="a loop in a decider"),
        pytest.param(QUEUE, "from time import monotonic", "imports time", id="a clock in a decider"),
        pytest.param(
            QUEUE,
            "from allocsync.reconcile import controller",
            "imports allocsync.reconcile.controller",
            id="upward",
        ),
    ],
)
def test_an_import_that_is_not_allowed_fails_the_check(copy: Copy, file: str, line: str, said: str) -> None:
    copy.prepend_import(file, line)
    result = copy.make("check-architecture")
    assert result.returncode != 0
    assert said in result.stdout
    assert file in result.stdout


@pytest.mark.parametrize(
    "code",
    [
        'open("/etc/hostname")',
        'print("here")',
        "input()",
        '__import__("time")',
        'eval("1")',
        'exec("import os")',
        'compile("1", "", "eval")',
        'globals()["x"] = 1',
        'getattr(model, "x")',
        "__builtins__",
        "[say := print]",
        "model.compare.__globals__",
        "().__class__.__base__.__subclasses__()",
    ],
)
def test_a_forbidden_name_is_found_at_any_depth(code: str) -> None:
    inside = f"def f():\n    return [{code} for _ in ()]\n" if "=" not in code else f"{code}\n"
    assert list(purity.impurities(code, frozenset()))
    assert list(purity.impurities(inside, frozenset()))


@pytest.mark.parametrize("code", ["import json\njson.codecs.open", "import dataclasses as d\nd.sys.modules"])
def test_a_module_borrowed_from_an_allowed_one_is_found(code: str) -> None:
    assert [line for line, _ in purity.impurities(code, purity.PURE_IMPORTS)] == [2]


@pytest.mark.parametrize(
    "code",
    [
        "from collections import abc, deque",
        "import collections.abc\ncollections.abc.Mapping",
        "import json\njson.dumps({})",
        "from hashlib import sha256",
        "from allocsync.planning import diff",
        "def f(opened, prints): return opened.open + prints.time",
    ],
)
def test_the_imports_that_planning_needs_are_allowed(code: str) -> None:
    assert list(purity.impurities(code, purity.PURE_IMPORTS | {"allocsync.planning"})) == []


def test_print_in_planning_fails_the_check(copy: Copy) -> None:
    copy.append(PLANNING, "\nprint(STATUSES)\n")
    result = copy.make("check-architecture")
    assert result.returncode != 0
    assert f"{PLANNING}:" in result.stdout
    assert "print does I/O" in result.stdout


@pytest.mark.parametrize(
    "file", ["allocsync/utils.py", "allocsync/reconcile/manager.py", "tests/common/test_x.py"]
)
def test_a_meaningless_name_fails_the_check(copy: Copy, file: str) -> None:
    (copy.root / file).parent.mkdir(exist_ok=True)
    copy.append(file, '"""Nothing in particular."""\n')
    result = copy.make("check-architecture")
    assert result.returncode != 0
    assert file in result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        pytest.param("allocsync/reconcile/controller.py", "import aiohttp", id="a transport in reconcile"),
        pytest.param(PLANNING, "import allocsync.api.json_codec", id="planning imports a higher layer"),
        pytest.param(
            "allocsync/desired/__init__.py", "from allocsync import journal", id="a package imports a sibling"
        ),
    ],
)
def test_a_broken_layer_fails_the_check(copy: Copy, file: str, line: str) -> None:
    whole = copy.make("check-layers")
    assert whole.returncode == 0, whole.stdout
    if file.endswith("__init__.py"):
        copy.append(file, f"\n{line}\n")
    else:
        copy.prepend_import(file, line)
    result = copy.make("check-layers")
    assert result.returncode != 0
    assert "BROKEN" in result.stdout


@pytest.mark.parametrize(
    ("target", "text"),
    [
        pytest.param(
            "check-types",
            "\n\ndef _untyped(x):  # noqa: ANN001, ANN202\n    return x\n",
            id="mypy",
            marks=pytest.mark.slow,
        ),
        pytest.param("check-lint", '\n\nprint("here")\n', id="ruff"),
        pytest.param("check-format", "\n\nAN_ODD_SPACE  = 1\n", id="format"),
    ],
)
def test_mypy_ruff_and_the_formatter_find_their_problems(copy: Copy, target: str, text: str) -> None:
    copy.append("allocsync/runtime/clock.py", text)
    result = copy.make(target)
    assert result.returncode != 0
    assert "clock.py" in result.stdout


def test_make_check_fails_on_a_clock_in_planning_and_names_the_line(copy: Copy) -> None:
    # Well-formed, typed and used: only the list of imports forbids it.
    copy.prepend_import("allocsync/model/cloud.py", "import time")
    copy.append("allocsync/model/cloud.py", "\n\nSTARTED: float = time.monotonic()\n")
    result = copy.make("check")
    assert result.returncode != 0
    assert "allocsync/model/cloud.py:" in result.stdout
    assert "imports time; allowed here:" in result.stdout
