"""The text of one file, and the locations in it.

The rule: an offset is a number of characters from the beginning of the file, and becomes a line and a
column, both counted from 1, only for a message. Lines end where editors end them (LF, CRLF, CR), not where
YAML 1.1 does as well (NEL, LS, PS), so that an editor shows the same numbers. A location is always inside
the file.

Left out: what the text means (`desired.yaml_parser`), and reading the bytes (`desired.files`).
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property

from allocsync.errors import Problem
from allocsync.model.escaping import escape, shorten

_LINE_END = re.compile(r"\r\n|\r|\n")
# Not allowed in YAML. Searched for here, because libyaml gives the position of such a character in bytes.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EXCERPT_LENGTH = 60
_ID_LENGTH = 8
_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (  # longest first: UTF-32-LE begins as UTF-16-LE does
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


class SourceText:
    """The text of a file, whose name in messages is `file`."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(end.end() for end in _LINE_END.finditer(self.text))]

    def line(self, offset: int) -> int:
        """The line of an offset, counted from 1."""
        return bisect_right(self._line_starts, offset)

    def place(self, offset: int) -> str:
        """`file:line:column` of an offset."""
        line, column = self.position(offset)
        return f"{self.file}:{line}:{column}"

    def problem(self, offset: int, keys: Iterable[str], message: str) -> Problem:
        """Make a problem at an offset; `keys` are the path of mapping keys to it."""
        line, column = self.position(offset)
        return Problem(self.file, line, column, path(keys), message)

    def position(self, offset: int) -> tuple[int, int]:
        """The line and column of an offset, counted from 1; an offset outside the file is moved inside."""
        inside = min(max(offset, 0), len(self.text))
        line = self.line(inside)
        return line, inside - self._line_starts[line - 1] + 1


def decode(file: str, data: bytes) -> SourceText | Problem:
    """Decode UTF-8, with or without a byte order mark.

    Returns a problem with its location if the data is not UTF-8 or has a character that YAML does not allow.
    """
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
        f"{name} is not allowed in YAML; remove it, or write it as an escape in double quotes",
    )


def path(keys: Iterable[str]) -> str:
    """The path of keys for messages, escaped, with ids shortened: `allocations.7b0c4c5e….urls.vanity`."""
    parts = [excerpt(key) for key in keys]
    if len(parts) > 1 and parts[0] == "allocations":
        parts[1] = shorten(parts[1], _ID_LENGTH)
    return ".".join(parts)


def excerpt(value: str) -> str:
    """The beginning of a piece of the file, escaped, for a message."""
    return escape(shorten(value, _EXCERPT_LENGTH))
