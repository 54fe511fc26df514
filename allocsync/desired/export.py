"""What a file would say to declare live allocations as they are: YAML, made of values alone. Pure.

The rule: what the loader reads of it is what was live, to the letter. Text is quoted wherever YAML could take
it for something else, and whatever cannot be declared (a status that the server passes through, a value that
is no text, an id that no file can hold) is a comment that says so.
"""

import json
from collections.abc import Callable, Iterable, Iterator

from allocsync.model.cloud import DECLARABLE, UNDECLARABLE_STATUSES, Cloud, Json, leaf
from allocsync.model.lossless_json import tagged

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_FIRST = _LETTERS | frozenset("0123456789")
_UUID_HYPHENS = 4
_INSIDE = _LETTERS | frozenset("0123456789._/:@+-")
# Words that YAML, or somebody who reads it, takes for something else than text.
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_BASIC_PLANE = 0x10000
_COMMENT_LENGTH = 100


def declarations(
    clouds: Iterable[Cloud], *, wrong_id: Callable[[str], str], most_characters: int
) -> Iterator[str]:
    """Lines of one document that declares these clouds, sorted by id.

    `wrong_id` is asked of each id in this order: what is wrong with one that cannot be declared, and nothing
    where it can. A value has at most `most_characters`.
    """
    yield "apiVersion: allocsync/v1"
    by_id = {str(cloud.get("id")): cloud for cloud in clouds}
    yield "allocations:" if by_id else "allocations: {}"
    declared = False
    for key in sorted(by_id):
        wrong = wrong_id(key)
        lines = [] if wrong else list(_body(by_id[key], most_characters))
        if any(not line.lstrip().startswith("#") for line in lines):
            declared = True
            yield f"  {scalar(key)}:"
            yield from lines
        else:
            yield f"  # {_comment(key)}: {wrong or 'nothing of it can be declared'}"
            yield from lines
    if by_id and not declared:
        yield "  {}"


def scalar(text: str) -> str:
    """The text as a YAML scalar that is read back as this text."""
    # A uuid that begins with a digit is no number and, with its four hyphens, no date.
    begins = text[:1] in _LETTERS or text.count("-") == _UUID_HYPHENS
    plain = (
        begins
        and set(text) <= _INSIDE
        and text[:1] in _FIRST
        and not text.endswith(":")
        and text.lower() not in _WORDS
    )
    return text if plain else '"' + "".join(map(_escaped, text)) + '"'


def _body(cloud: Cloud, most_characters: int) -> Iterator[str]:
    """The lines of one allocation; nested mappings in the order of DECLARABLE."""
    parents: tuple[str, ...] = ()
    for name in DECLARABLE:
        value = leaf(cloud, name)
        if value is None:
            continue
        *above, last = name.split(".")
        why = _undeclarable(name, value, most_characters)
        if why:
            yield f"    # {name} is {_comment(value)}: {why}"
            continue
        for depth, parent in enumerate(above):
            if parents[: depth + 1] != tuple(above[: depth + 1]):
                yield f"{'  ' * (depth + 2)}{parent}:"
        parents = tuple(above)
        yield f"{'  ' * (len(above) + 2)}{last}: {scalar(str(value))}"


def _undeclarable(name: str, value: Json, most_characters: int) -> str:
    if not isinstance(value, str):
        return "only text can be declared"
    if len(value) > most_characters:
        return f"more than {most_characters:,} characters cannot be declared"
    if name.endswith((".status", ".cloud")) and value in UNDECLARABLE_STATUSES:
        return "the server passes through it"
    return ""


def _comment(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(tagged(value))
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= _COMMENT_LENGTH else shown[:_COMMENT_LENGTH] + "…"


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code < _BASIC_PLANE else f"\\U{code:08x}"
