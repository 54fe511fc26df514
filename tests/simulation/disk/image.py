"""One file as a disk knows it: what is on it for sure, and what was written since. Pure but for chance.

The rules: a sync makes all that was written before it certain; what was written since survives a power cut in
any subset, in its order, each write whole or torn where a sector ends; a truncate happens or does not.

Left out: names and directories (`disk`).
"""

import random
from collections.abc import Iterator

SECTOR = 512
# How likely a write survives whole; one of these holds for all of a file's writes at one power cut, so that
# all, nearly all and none are as common as a mixture.
_KEPT = (0.0, 0.5, 0.9, 1.0)
_TORN = 0.3  # of those that do not


class Image:
    """The file. `cached` is what a reader sees, `durable` what was synced, `openings` how often it is open.

    `pending` are the writes since the last sync: (offset, content), or (size, None) for a truncate.
    """

    __slots__ = ("cached", "durable", "openings", "pending")

    def __init__(self, content: bytes = b"") -> None:
        self.cached = bytearray(content)
        self.durable = bytearray(content)
        self.pending: list[tuple[int, bytes | None]] = []
        self.openings = 0

    def write(self, offset: int, content: bytes) -> None:
        """Note a write."""
        self.pending.append((offset, content))
        _apply(self.cached, offset, content)

    def truncate(self, size: int) -> None:
        """Note a truncate."""
        self.pending.append((size, None))
        _apply(self.cached, size, None)

    def sync(self) -> None:
        """All that was written is certain now."""
        for write in self.pending:
            _apply(self.durable, *write)
        self.pending.clear()

    def forget(self) -> None:
        """What was written since the last sync will never be on the disk, whatever is synced later."""
        self.pending.clear()

    def after_power_cut(self, chance: random.Random) -> bytearray:
        """What is there when the power is back."""
        content = self.durable[:]
        kept = chance.choice(_KEPT)
        for write in self.pending:
            for part in _survivors(*write, kept, chance):
                _apply(content, *part)
        return content


def _survivors(
    offset: int, content: bytes | None, kept: float, chance: random.Random
) -> Iterator[tuple[int, bytes | None]]:
    if chance.random() < kept:
        yield offset, content
    elif content is not None and chance.random() < _TORN:
        first = SECTOR - offset % SECTOR
        if first < len(content):
            cut = chance.randrange(first, len(content), SECTOR)
            yield (offset, content[:cut]) if chance.random() < 0.5 else (offset + cut, content[cut:])


def _apply(image: bytearray, offset: int, content: bytes | None) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    if content is None:
        del image[offset:]
    else:
        image[offset : offset + len(content)] = content
