"""What the server saw and did, one JSON object a line; what tests and people judge by.

The rule: one line for each POST with `n id received_at applied_at changed body_sha256 answer`, written when
its fate is known: a late application is a line when it lands. `n` is the order of arrival. With everything
asked for there are lines for reads, for the other writer and for faults too, told apart by `op`, and the
lines of POSTs also say when they were answered and what they carried.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from allocsync.api import wire

Record = dict[str, Any]
POST_KEYS = ("n", "id", "received_at", "applied_at", "changed", "body_sha256", "answer")


class RequestLog:
    """Keeps the records in memory for whoever runs the server in-process, and writes them to a file."""

    def __init__(self, file: Path | None, *, everything: bool, wall: Callable[[], float]) -> None:
        self.everything = everything
        self.wall = wall
        self.records: list[Record] = []
        self._file: TextIO | None = file.open("a", encoding="ascii") if file else None

    def post(self, record: Record) -> None:
        """One POST whose fate is known."""
        self._write(
            {"op": "update", **record} if self.everything else {key: record[key] for key in POST_KEYS}
        )

    def other(self, op: str, **record: Any) -> None:  # noqa: ANN401 - JSON of any shape
        """Something else than a POST; only when everything is asked for."""
        if self.everything:
            self._write({"op": op, **record})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, record: Record) -> None:
        self.records.append(record)
        if self._file is not None:
            self._file.write(wire.dumps(_numbers(record)).decode() + "\n")
            self._file.flush()


def _numbers(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape
    """Python's own numbers as literals, since the wire format only knows those."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return wire.number(value)
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value
