"""Parses the list (`GET /allocations`), `{"iterable": [...]}`, one record at a time.

The rules:
- No step takes long. `json.loads` of 50 MB would block the interpreter for more than half a second, even in
  another thread. Here only a window of the text is decoded, records are parsed from it one at a time, and the
  window moves on, so that the event loop can run between two batches.
- A chunk is freed as soon as it is decoded.
- Numbers stay literals (`api.json_codec`). Other top-level keys are skipped.

Left out: receiving the bytes (`api.transport`), threads (`api.client`), and what a record means
(`reconcile.resync`).
"""

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from allocsync.api import json_codec
from allocsync.model.cloud import Cloud, Json, NumberLiteral

WINDOW_BYTES = 64 * 1024
# A number with fewer characters after it in the window may be cut off: of `1e+5`, `1e+` is parsed as `1`.
_NUMBER_TAIL = 3
_SPACE = re.compile(r"[ \t\r\n]*")


class _NeedMoreInput(Exception):  # noqa: N818 - a signal, caught in this module
    """The window ends before the value does."""


class ListParser:
    """An iterator over the clouds of one list.

    `chunks` is the body of the response. `max_record_bytes` limits the size of one record, and so the time of
    one step; the limit is approximate, because the window doubles and is measured in characters. `next()`
    raises `json_codec.CodecError` where the body is malformed; no cloud follows after that.
    """

    def __init__(self, chunks: Iterable[bytes], *, max_record_bytes: int) -> None:
        self._chunks: deque[bytes | memoryview] = deque(chunk for chunk in chunks if chunk)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._max_record_bytes = max_record_bytes
        self._window = ""
        self._position = 0
        self._clouds = self._parse()

    def __iter__(self) -> Iterator[Cloud]:
        return self

    def __next__(self) -> Cloud:
        return next(self._clouds)

    def take(self, count: int) -> tuple[Cloud, ...]:
        """Return the next `count` clouds, or fewer at the end of the list.

        Raises:
            json_codec.CodecError: the body is malformed here.
        """
        return tuple(islice(self, count))

    def _parse(self) -> Iterator[Cloud]:
        array_count = 0
        self._expect("{")
        more = not self._accept("}")
        while more:
            key = self._parse_value()
            self._expect(":")
            if key == "iterable":
                array_count += 1
                yield from self._parse_array()
            else:
                self._parse_value()
            more = self._accept(",")
            if not more:
                self._expect("}")
        if self._peek():
            raise json_codec.CodecError("not a list of allocations: text after its end")
        if array_count != 1:
            raise json_codec.CodecError(f'not a list of allocations: {array_count} "iterable" keys')

    def _parse_array(self) -> Iterator[Cloud]:
        self._expect("[")
        if self._accept("]"):
            return
        while True:
            record = self._parse_value()
            if not isinstance(record, Mapping) or not isinstance(record.get("id"), str):
                raise json_codec.CodecError("a record that is not an object with an id")
            yield record
            if not self._accept(","):
                self._expect("]")
                return

    def _peek(self) -> str:
        """Return the next character that is not white space (it stays unread); an empty text at the end."""
        while True:
            match = _SPACE.match(self._window, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._window):
                return self._window[self._position]
            if not self._advance_window(WINDOW_BYTES):
                return ""

    def _accept(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._position += 1
        return True

    def _expect(self, character: str) -> None:
        if not self._accept(character):
            found = self._peek() or "its end"
            raise json_codec.CodecError(f"not a list of allocations: {character} expected, not {found!a}")

    def _parse_value(self) -> Json:
        """Parse the next value. The window doubles until the value fits or is too large."""
        self._peek()
        wanted = WINDOW_BYTES
        while True:
            try:
                return self._parse_value_in_window()
            except _NeedMoreInput as early:
                left = len(self._window) - self._position
                if left >= self._max_record_bytes or not self._advance_window(wanted):
                    raise json_codec.CodecError(f"{early} (in a value of {left:,} characters)") from early
                wanted *= 2

    def _parse_value_in_window(self) -> Json:
        try:
            value, end = json_codec.load_at(self._window, self._position)
        except json_codec.CodecError as error:
            raise _NeedMoreInput(str(error)) from error
        if isinstance(value, NumberLiteral) and self._chunks and end + _NUMBER_TAIL > len(self._window):
            raise _NeedMoreInput("a number without an end")
        self._position = end
        return value

    def _advance_window(self, wanted_bytes: int) -> bool:
        """Drop what was parsed and decode about `wanted_bytes` more. Returns False at the end of the body."""
        pieces = [self._window[self._position :]]
        added = 0
        while self._chunks and added < wanted_bytes:
            chunk = self._chunks.popleft()
            if len(chunk) > wanted_bytes - added:
                self._chunks.appendleft(memoryview(chunk)[wanted_bytes - added :])
                chunk = memoryview(chunk)[: wanted_bytes - added]
            added += len(chunk)
            pieces.append(self._decode_chunk(chunk, final=not self._chunks))
        self._window, self._position = "".join(pieces), 0
        return added > 0

    def _decode_chunk(self, chunk: bytes | memoryview, *, final: bool) -> str:
        try:
            return self._decode(chunk, final)
        except UnicodeDecodeError as error:
            raise json_codec.CodecError(f"not UTF-8: {error.reason}") from error
