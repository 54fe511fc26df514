"""One file as a disk stores it: what was synced, and what was written since. Pure except for chance.

The rules: a sync makes everything written before it permanent. Of the writes since, a power cut keeps any
subset, in their order, each one whole or torn at the end of a sector. A truncate is kept or lost.

Left out: names and directories (`files`).
"""

import random
from collections.abc import Iterator

SECTOR = 512
# Probabilities that a write survives whole. One of them is drawn for all writes of a file at a power cut, so
# that none, nearly all and all are as common as a mixture.
_KEPT = (0.0, 0.5, 0.9, 1.0)
_TORN = 0.3  # the share of torn writes among the others


class Image:
    """One file.

    `cached` is what a reader sees, `durable` what was synced, `open_count` how often it is open. `pending`
    are the writes since the last sync: (offset, content), or (size, None) for a truncate.
    """

    __slots__ = ("cached", "durable", "open_count", "pending")

    def __init__(self, content: bytes = b"") -> None:
        self.cached = bytearray(content)
        self.durable = bytearray(content)
        self.pending: list[tuple[int, bytes | None]] = []
        self.open_count = 0

    def write(self, offset: int, content: bytes) -> None:
        """Record a write."""
        self.pending.append((offset, content))
        _apply(self.cached, offset, content)

    def truncate(self, size: int) -> None:
        """Record a truncate."""
        self.pending.append((size, None))
        _apply(self.cached, size, None)

    def sync(self) -> None:
        """Make everything written permanent."""
        for write in self.pending:
            _apply(self.durable, *write)
        self.pending.clear()

    def drop_pending(self) -> None:
        """Drop what was written since the last sync: no later sync writes it."""
        self.pending.clear()

    def after_power_cut(self, rng: random.Random) -> bytearray:
        """The contents when the power is back."""
        content = self.durable[:]
        kept = rng.choice(_KEPT)
        for write in self.pending:
            for part in _survivors(*write, kept, rng):
                _apply(content, *part)
        return content


def _survivors(
    offset: int, content: bytes | None, kept: float, rng: random.Random
) -> Iterator[tuple[int, bytes | None]]:
    if rng.random() < kept:
        yield offset, content
    elif content is not None and rng.random() < _TORN:
        first = SECTOR - offset % SECTOR
        if first < len(content):
            cut = rng.randrange(first, len(content), SECTOR)
            yield (offset, content[:cut]) if rng.random() < 0.5 else (offset + cut, content[cut:])


def _apply(image: bytearray, offset: int, content: bytes | None) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    if content is None:
        del image[offset:]
    else:
        image[offset : offset + len(content)] = content
