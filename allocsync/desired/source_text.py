"""One file's text, and where in it something stands.

The rule: a position is the number of characters before it, and becomes a 1-based line and column only when a
person is told of it. Lines end where editors end them (LF, CRLF, CR), not where YAML 1.1 would (NEL, LS, PS);
so what is counted here is found there. A position always lies inside the file.

Left out: what the text means (`desired.source`) and how its bytes were come by (`desired.reading`).
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property

from allocsync.errors import Problem
from allocsync.model.escaping import visible

_LINE_END = re.compile(r"\r\n|\r|\n")
# What YAML cannot hold: libyaml names the place of such a character in bytes, so it is looked for here.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHOWN_LENGTH = 60
_ID_LENGTH = 8
_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (  # longest first: UTF-32-LE begins as UTF-16-LE does
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


class SourceText:
    """The text of the file that people call `file`."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(end.end() for end in _LINE_END.finditer(self.text))]

    def line(self, at: int) -> int:
        """The 1-based line of a position."""
        return bisect_right(self._line_starts, at)

    def place(self, at: int) -> str:
        """`file:line:column` of a position."""
        line, column = self.position(at)
        return f"{self.file}:{line}:{column}"

    def problem(self, at: int, keys: Iterable[str], message: str) -> Problem:
        """Say what is wrong at a position; `keys` lead to it."""
        line, column = self.position(at)
        return Problem(self.file, line, column, path(keys), message)

    def position(self, at: int) -> tuple[int, int]:
        """The 1-based line and column of a position."""
        inside = min(max(at, 0), len(self.text))
        line = self.line(inside)
        return line, inside - self._line_starts[line - 1] + 1


def decode(file: str, data: bytes) -> SourceText | Problem:
    """Read UTF-8, with or without a byte order mark; otherwise say what is wrong, and where."""
    for mark, encoding in _OTHER_ENCODINGS:
        if data.startswith(mark):
            return Problem(file, 1, 1, "", f"this is {encoding} text; save the file as UTF-8")
    data = data.removeprefix(_UTF8_MARK)
    try:
        source = SourceText(file, data.decode())
    except UnicodeDecodeError as error:
        before = SourceText(file, data[: error.start].decode())
        return before.problem(
            error.start, (), f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        )
    found = _UNPRINTABLE.search(source.text)
    if found is None:
        return source
    name = "a NUL" if found[0] == "\0" else f"the control character U+{ord(found[0]):04X}"
    return source.problem(
        found.start(),
        (),
        f"{name} cannot stand in YAML; remove it, or write it as an escape in double quotes",
    )


def path(keys: Iterable[str]) -> str:
    """`allocations.7b0c4c5e….urls.vanity`: ids shortened, nothing that could steer a terminal."""
    parts = [shown(key) for key in keys]
    if len(parts) > 1 and parts[0] == "allocations" and len(parts[1]) > _ID_LENGTH:
        parts[1] = f"{parts[1][:_ID_LENGTH]}…"
    return ".".join(parts)


def shown(value: str) -> str:
    """A piece of the file on one line of bounded length."""
    text = visible(value[:_SHOWN_LENGTH])
    return f"{text}…" if len(value) > _SHOWN_LENGTH else text
