"""Loading a path in a test, and what comes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from allocsync.desired.load import Loaded, load
from allocsync.errors import DesiredError
from allocsync.planning.model import Desired, Mode

Write: TypeAlias = Callable[..., Path]
Messages: TypeAlias = Callable[[str | bytes], list[str]]
Single: TypeAlias = Callable[[str], Desired]

HEAD = "apiVersion: allocsync/v1\n"
BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))
REJECTED_WHOLE = (
    "alias allocations_ api_ defaults document duplicate id_dots id_empty id_too id_with indent only tab tag"
)


def loaded_from(path: Path) -> Loaded:
    return load(path, default_mode=Mode.ENFORCE)


def problems_of(path: Path) -> list[str]:
    with pytest.raises(DesiredError) as caught:
        loaded_from(path)
    return [str(problem) for problem in caught.value.problems]
