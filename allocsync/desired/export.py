"""Writes live allocations as desired state YAML, from values alone. Pure.

The rule: the loader reads back exactly the live values. Text is quoted wherever YAML could take it for
another type. What cannot be declared (a status that only the server sets, a value that is not text, an id
that no file may contain) becomes a comment with the reason.

Left out: fetching live state and writing the file (`cli.commands.export`).
"""

from collections.abc import Callable, Iterable, Iterator

from allocsync.model.cloud import DECLARABLE, UNDECLARABLE_STATUSES, Cloud, Json, field_value
from allocsync.model.escaping import escape, shorten, visible

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_FIRST = _LETTERS | frozenset("0123456789")
_UUID_HYPHENS = 4
_INSIDE = _LETTERS | frozenset("0123456789._/:@+-")
# Words that YAML parsers or readers may take for something other than text.
_RESERVED_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_COMMENT_LENGTH = 100


def declarations(
    clouds: Iterable[Cloud], *, id_problem: Callable[[str], str], max_characters: int
) -> Iterator[str]:
    """The lines, without line breaks, of one document that declares these clouds, sorted by id.

    `id_problem` is called with each id in that order; it returns why the id cannot be declared, or an empty
    text. A value may have at most `max_characters`. What cannot be declared becomes a comment that says why.
    """
    yield "apiVersion: allocsync/v1"
    by_id = {str(cloud.get("id")): cloud for cloud in clouds}
    yield "allocations:" if by_id else "allocations: {}"
    declared = False
    for key in sorted(by_id):
        wrong = id_problem(key)
        lines = [] if wrong else list(_allocation_lines(by_id[key], max_characters))
        if any(not line.lstrip().startswith("#") for line in lines):
            declared = True
            yield f"  {to_scalar(key)}:"
            yield from lines
        else:
            yield f"  # {_as_comment(key)}: {wrong or 'no field of it can be declared'}"
            yield from lines
    if by_id and not declared:
        yield "  {}"


def to_scalar(text: str) -> str:
    """Write the text as a YAML scalar, in double quotes unless it is plainly text."""
    # A UUID that begins with a digit is not a number and, with its four hyphens, not a date.
    begins = text[:1] in _LETTERS or text.count("-") == _UUID_HYPHENS
    plain = (
        begins
        and set(text) <= _INSIDE
        and text[:1] in _FIRST
        and not text.endswith(":")
        and text.lower() not in _RESERVED_WORDS
    )
    if plain:
        return text
    # The escapes that Python writes mean the same in double-quoted YAML.
    return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _allocation_lines(cloud: Cloud, max_characters: int) -> Iterator[str]:
    """The lines of one allocation; nested mappings in the order of DECLARABLE."""
    parents: tuple[str, ...] = ()
    for name in DECLARABLE:
        value = field_value(cloud, name)
        if value is None:
            continue
        *above, last = name.split(".")
        why = _undeclarable_reason(name, value, max_characters)
        if why:
            yield f"    # {name} is {_as_comment(value)}: {why}"
            continue
        for depth, parent in enumerate(above):
            if parents[: depth + 1] != tuple(above[: depth + 1]):
                yield f"{'  ' * (depth + 2)}{parent}:"
        parents = tuple(above)
        yield f"{'  ' * (len(above) + 2)}{last}: {to_scalar(str(value))}"


def _undeclarable_reason(name: str, value: Json, max_characters: int) -> str:
    if not isinstance(value, str):
        return "only text can be declared"
    if len(value) > max_characters:
        return f"more than {max_characters:,} characters cannot be declared"
    if name.endswith((".status", ".cloud")) and value in UNDECLARABLE_STATUSES:
        return "only the server sets it"
    return ""


def _as_comment(value: Json) -> str:
    return shorten(visible(value), _COMMENT_LENGTH)
