"""Ids that only a machine can tell apart: they differ in case, or in how their accents are written.

The rule: whoever declares one of two such ids may mean the other, and a server may take both for one; so they
never stand in one set together.

Left out: what is wrong with an id by itself (`desired.schema`), and where the two stand (`desired.load`).
"""

import unicodedata

from allocsync.desired import schema


def folded(key: str) -> str:
    """Give the same for two ids that a person, or a server, may take for one."""
    if key.isascii():
        lower = key.lower()
        return key if lower == key else lower  # one text in memory, not two
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())


def difference(one: str, other: str) -> str:
    """In what two ids differ that are folded alike."""
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return "how its accents are written" if same else "upper and lower case"


class DeclarableIds:
    """Ids of one set, asked for one after the other: which of them a file can declare together."""

    def __init__(self) -> None:
        self._alike: dict[str, str] = {}

    def wrong(self, key: str) -> str:
        """What is wrong with an id, by itself or beside those asked for before; empty where nothing is."""
        wrong = schema.wrong_id(key)
        if wrong:
            return wrong
        alike = self._alike.setdefault(folded(key), key)
        return "" if alike == key else f"it differs from {alike} only in {difference(key, alike)}"
