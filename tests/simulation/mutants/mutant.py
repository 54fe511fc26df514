"""A bug that is planted to see that the simulation bites: one mistake that such a daemon can have.

Bugs are substituted by tests, for as long as a context is open, and are never a switch in the product.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from unittest.mock import patch

Plant: TypeAlias = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Bug:
    """The mistake in words, and the promises by whose breach it has to be found; a run ends at the first."""

    name: str
    promises: tuple[str, ...]
    plant: Plant

    @contextmanager
    def planted(self) -> Iterator[None]:
        """It is in the product as long as this context is open."""
        with ExitStack() as stack:
            self.plant(stack)
            yield


def swap(stack: ExitStack, owner: object, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of the original in its place, until the stack is unwound."""
    put(stack, owner, name, make(getattr(owner, name)))


def put(stack: ExitStack, owner: object, name: str, value: object) -> None:
    """Put this in the place of an attribute, until the stack is unwound."""
    stack.enter_context(patch.object(owner, name, value))
