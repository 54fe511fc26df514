"""Loads desired state in tests, and lists the files of the corpus of mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from allocsync.desired.loader import Loaded, load
from allocsync.errors import DesiredError
from allocsync.model.desired_state import Desired, Mode

Write: TypeAlias = Callable[..., Path]
Messages: TypeAlias = Callable[[str | bytes], list[str]]
Single: TypeAlias = Callable[[str], Desired]

HEAD = "apiVersion: allocsync/v1\n"
BAD = sorted((Path(__file__).parents[1] / "unit" / "desired" / "bad").glob("*.yaml"))
# Each of these has mistakes inside one allocation only; every other file rejects the whole set.
QUARANTINED = frozenset(
    {
        "crlf",
        "date_for_a_status",
        "declares_nothing",
        "half_written_id",
        "half_written_value",
        "id_inside_the_body",
        "list_for_a_value",
        "merged_mistake",
        "misspelt_by_case",
        "mode_a_list",
        "mode_misspelt",
        "nested_under_the_wrong_field",
        "norway",
        "null_allocation",
        "null_field",
        "number_for_a_status",
        "old_line_ends",
        "servers_fields",
        "status_a_text",
        "status_misspelt",
        "status_pending",
        "urls_a_list",
    }
)


def loaded_from(path: Path) -> Loaded:
    return load(path, default_mode=Mode.ENFORCE)


def problems_of(path: Path) -> list[str]:
    with pytest.raises(DesiredError) as caught:
        loaded_from(path)
    return [str(problem) for problem in caught.value.problems]
