"""The server's log of requests and of what it did with them, for tests and people to check against.

The rules:
- There is one line for each POST, with `n id received_at applied_at changed body_sha256 answer`. It is
  written when the outcome is known and before the response is sent. If a fault sends the response itself, it
  is written after that; for an update that is applied late, when it is applied. Lines are therefore in the
  order of completion. `n` counts the POSTs in the order of arrival and goes on after a restart with the same
  file.
- Times are wall-clock seconds since the epoch.
- With `log_all` there are also lines for reads, for the other client and for faults, told apart by `op`, and
  the lines of POSTs also have `answered_at` and `body`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from allocsync.api import json_codec
from allocsync.errors import AllocsyncError
from allocsync.model.times import WallTime

Record = dict[str, Any]
POST_KEYS = ("n", "id", "received_at", "applied_at", "changed", "body_sha256", "answer")
# The beginning of a line of a POST. Text inside a line cannot match: its quotation marks are escaped.
_POST_NUMBER = re.compile(rb'^\{(?:"op":"update",)?"n":(\d+),', re.MULTILINE)


class RequestLog:
    """Writes the records to a file, and keeps them in memory if `keep_records` is set.

    `wall` returns the wall-clock time in seconds since the epoch. Without a `file` nothing is written.

    Raises:
        AllocsyncError: the file cannot be opened.
    """

    def __init__(
        self, file: Path | None, *, log_all: bool, keep_records: bool, wall: Callable[[], WallTime]
    ) -> None:
        self.log_all = log_all
        self.records: list[Record] = []
        self._wall = wall
        self._keep_records = keep_records
        self._post_count = 0
        self._file: BinaryIO | None = None
        if file is not None:
            try:
                self._file = self._open(file)
            except OSError as error:
                raise AllocsyncError(f"{file}: the log cannot be opened: {error.strerror}") from error

    def now(self) -> WallTime:
        """Return the wall-clock time in seconds since the epoch, to the microsecond."""
        return WallTime(round(float(self._wall()), 6))

    def begin_post(self) -> Record:
        """Return the record of a POST that has arrived, to be filled in and passed to `write_post`."""
        self._post_count += 1
        return {
            "n": self._post_count,
            "id": None,
            "received_at": self.now(),
            "applied_at": None,
            "changed": {},
            "body_sha256": None,
            "answer": "reset",
            "answered_at": None,
            "body": None,
        }

    def write_post(self, record: Record) -> None:
        """Write the record of a POST whose outcome is known."""
        self._write({"op": "update", **record} if self.log_all else {key: record[key] for key in POST_KEYS})

    def write_event(self, op: str, **record: Any) -> None:  # noqa: ANN401 - JSON of any shape
        """Write a record of anything other than a POST, if `log_all` is set."""
        if self.log_all:
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
        self._post_count = max((int(number) for number in _POST_NUMBER.findall(written)), default=0)
        if written and not written.endswith(b"\n"):
            file.write(b"\n")  # ends a line that was cut off, so that the next one stands alone
            file.flush()
        return file

    def _write(self, record: Record) -> None:
        if self._keep_records:
            self.records.append(record)
        if self._file is not None:
            self._file.write(json_codec.dumps(_to_literals(record)) + b"\n")
            self._file.flush()


def _to_literals(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the value with number literals in place of Python's numbers, which the codec refuses."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json_codec.number_literal(value)
    if isinstance(value, dict):
        return {key: _to_literals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_literals(item) for item in value]
    return value
