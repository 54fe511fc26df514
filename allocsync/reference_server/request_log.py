"""The server's own record of what was asked of it and what it did; what tests and people judge by.

The rule: one line for each POST with `n id received_at applied_at changed body_sha256 answer`, written when
its fate is known and before its answer leaves: a late application is a line when it lands, so that lines
stand in the order of completion and `n` gives the order of arrival, also across restarts on one file. Times
are seconds since the epoch. With everything asked for there are lines for reads, for the other writer and
for faults too, told apart by `op`, and the lines of POSTs also say when they were answered (`answered_at`)
and what they carried (`body`).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from allocsync.api import json_codec
from allocsync.errors import AllocsyncError

Record = dict[str, Any]
POST_KEYS = ("n", "id", "received_at", "applied_at", "changed", "body_sha256", "answer")
# Lines of POSTs begin so, and text in them cannot: a quotation mark in a JSON text has a backslash before it.
_NUMBER = re.compile(rb'^\{(?:"op":"update",)?"n":(\d+),', re.MULTILINE)


class RequestLog:
    """Writes the records to a file, and keeps them in memory for whoever runs the server in-process.

    Raises:
        AllocsyncError: the file cannot be opened.
    """

    def __init__(self, file: Path | None, *, everything: bool, keep: bool, wall: Callable[[], float]) -> None:
        self.everything = everything
        self.records: list[Record] = []
        self._wall = wall
        self._keep = keep
        self._arrivals = 0
        self._file: BinaryIO | None = None
        if file is not None:
            try:
                self._file = self._open(file)
            except OSError as error:
                raise AllocsyncError(f"{file}: the log cannot be opened: {error.strerror}") from error

    def now(self) -> float:
        """Seconds since the epoch, to the microsecond."""
        return round(self._wall(), 6)

    def arrived(self) -> Record:
        """A POST has come: its record, to be filled in and handed to `post` when its fate is known."""
        self._arrivals += 1
        return {
            "n": self._arrivals,
            "id": None,
            "received_at": self.now(),
            "applied_at": None,
            "changed": {},
            "body_sha256": None,
            "answer": "reset",
            "answered_at": None,
            "body": None,
        }

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

    def _open(self, path: Path) -> BinaryIO:
        file = path.open("ab+")
        try:
            file.seek(0)
            written = file.read()
        except BaseException:
            file.close()
            raise
        self._arrivals = max((int(number) for number in _NUMBER.findall(written)), default=0)
        if written and not written.endswith(b"\n"):
            file.write(b"\n")  # the last line was cut off; what follows is not glued to it
            file.flush()
        return file

    def _write(self, record: Record) -> None:
        if self._keep:
            self.records.append(record)
        if self._file is not None:
            self._file.write(json_codec.dumps(_literals(record)) + b"\n")
            self._file.flush()


def _literals(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape
    """Python's own numbers as literals, since the wire format only knows those."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json_codec.number_literal(value)
    if isinstance(value, dict):
        return {key: _literals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literals(item) for item in value]
    return value
