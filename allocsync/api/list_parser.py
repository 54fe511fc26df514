"""Read the records of a bulk answer, `{"iterable": [...]}`, one at a time.

The rule: no step is long. One `json.loads` of 50 MB holds the interpreter for more than half a second, even
from another thread; here a window of the answer is decoded, one record read from it, and the window moves on,
so that the event loop gets its turn after a batch of records at the latest. What was read is let go at once.
Numbers stay literals (`wire`). Other top-level keys are read over.

Left out: fetching the bytes (`api.exchange`), threads (`api.client`), and what a record means (`reconcile`).
"""

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from allocsync.api import json_codec
from allocsync.model.cloud import Cloud, Json, NumberLiteral

WINDOW_BYTES = 64 * 1024
_NUMBER_TAIL = 3  # characters after a number's readable part that may still belong to it
_SPACE = re.compile(r"[ \t\r\n]*")


class _NeedsMore(Exception):  # noqa: N818 - a signal inside this module
    """The window ends before the value does."""


class Records:
    """An iterator over the clouds of one bulk answer.

    `next()` raises `wire.WireError` where the answer is not the JSON that it should be; nothing follows then.
    `max_record_bytes` bounds one record, and so the time that one step takes.
    """

    def __init__(self, chunks: Iterable[bytes], *, max_record_bytes: int) -> None:
        self._chunks: deque[bytes | memoryview] = deque(chunk for chunk in chunks if chunk)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._max_record_bytes = max_record_bytes
        self._window = ""
        self._at = 0
        self._clouds = self._read()

    def __iter__(self) -> Iterator[Cloud]:
        return self

    def __next__(self) -> Cloud:
        return next(self._clouds)

    def take(self, count: int) -> tuple[Cloud, ...]:
        """The next `count` clouds; fewer at the end, then none.

        Raises:
            wire.WireError: the answer is malformed here.
        """
        return tuple(islice(self, count))

    def _read(self) -> Iterator[Cloud]:
        arrays = 0
        self._expect("{")
        more = not self._accept("}")
        while more:
            key = self._value()
            self._expect(":")
            if key == "iterable":
                arrays += 1
                yield from self._array()
            else:
                self._value()
            more = self._accept(",")
            if not more:
                self._expect("}")
        if self._peek():
            raise json_codec.WireError("not the JSON of a bulk answer: text after its end")
        if arrays != 1:
            raise json_codec.WireError(f'not the JSON of a bulk answer: {arrays} "iterable" keys')

    def _array(self) -> Iterator[Cloud]:
        self._expect("[")
        if self._accept("]"):
            return
        while True:
            record = self._value()
            if not isinstance(record, Mapping) or not isinstance(record.get("id"), str):
                raise json_codec.WireError("a record that is not an object with an id")
            yield record
            if not self._accept(","):
                self._expect("]")
                return

    def _peek(self) -> str:
        """The next character that is not space; empty at the end."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._grow(WINDOW_BYTES):
                return ""

    def _accept(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _expect(self, character: str) -> None:
        if not self._accept(character):
            what = self._peek() or "its end"
            raise json_codec.WireError(f"not the JSON of a bulk answer: {character} expected, not {what!a}")

    def _value(self) -> Json:
        """The next value; the window grows, twofold each time, until the value fits or is too large."""
        self._peek()
        wanted = WINDOW_BYTES
        while True:
            try:
                return self._value_in_window()
            except _NeedsMore as early:
                left = len(self._window) - self._at
                if left >= self._max_record_bytes or not self._grow(wanted):
                    raise json_codec.WireError(f"{early} (in a value of {left:,} characters)") from early
                wanted *= 2

    def _value_in_window(self) -> Json:
        try:
            value, end = json_codec.load_at(self._window, self._at)
        except json_codec.WireError as error:
            raise _NeedsMore(str(error)) from error
        if isinstance(value, NumberLiteral) and self._chunks and end + _NUMBER_TAIL > len(self._window):
            raise _NeedsMore("a number without an end")  # `1`, `1.`, `1e` and `1e+` may go on
        self._at = end
        return value

    def _grow(self, wanted_bytes: int) -> bool:
        """Move the window: drop what was read, add about so many bytes. False when there are no more."""
        pieces = [self._window[self._at :]]
        added = 0
        while self._chunks and added < wanted_bytes:
            chunk = self._chunks.popleft()
            if len(chunk) > wanted_bytes - added:
                self._chunks.appendleft(memoryview(chunk)[wanted_bytes - added :])
                chunk = memoryview(chunk)[: wanted_bytes - added]
            added += len(chunk)
            pieces.append(self._text(chunk, final=not self._chunks))
        self._window, self._at = "".join(pieces), 0
        return added > 0

    def _text(self, chunk: bytes | memoryview, *, final: bool) -> str:
        try:
            return self._decode(chunk, final)
        except UnicodeDecodeError as error:
            raise json_codec.WireError(f"not UTF-8: {error.reason}") from error
