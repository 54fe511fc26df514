"""Ids that are easily confused: they differ only in case or in how their accents are encoded.

The rule: somebody who declares one of two such ids may mean the other, and a server may treat them as one.
So one set of files never has both.

Left out: what is wrong with an id by itself (`desired.schema`), and the locations of the two ids
(`desired.loader`).
"""

import unicodedata

from allocsync.desired import schema


def fold(key: str) -> str:
    """Normalize an id: two ids with the same result are easily confused."""
    if key.isascii():
        lower = key.lower()
        return key if lower == key else lower  # keeps one string in memory, not two
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())


def describe_difference(one: str, other: str) -> str:
    """Describe how two ids differ that `fold` makes equal."""
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return "how its accents are written" if same else "upper and lower case"


class DeclarableIds:
    """Decides, for one id after the other, whether one file can declare it together with those before."""

    def __init__(self) -> None:
        self._ids_by_fold: dict[str, str] = {}

    def problem(self, key: str) -> str:
        """Why the id cannot be declared, by itself or beside the ids before; an empty text if it can."""
        problem = schema.id_problem(key)
        if problem:
            return problem
        first = self._ids_by_fold.setdefault(fold(key), key)
        return "" if first == key else f"it differs from {first} only in {describe_difference(key, first)}"
