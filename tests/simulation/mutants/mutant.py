"""Mutants: deliberate bugs in the product that show whether the simulation would find them.

The rules: a mutant replaces a function or an attribute of the product while a context is open, and is never a
switch in the product. What it replaces is given as the object itself, so that mypy and the interpreter see
the name and a rename cannot detach the mutant; its replacement has the signature of the original.

Left out: the mutants themselves (`mutants`, `journal_mutants`).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ParamSpec, TypeAlias, TypeVar
from unittest.mock import patch

P = ParamSpec("P")
T = TypeVar("T")
Plant: TypeAlias = Callable[[ExitStack], None]


class DetachedMutantError(Exception):
    """What a mutant would replace is not where the product looks it up."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: its name, the promises one of which it has to break first, and how it is planted.

    A run ends at the first broken promise, so a mutant that can break several names all of them.
    """

    name: str
    promises: tuple[str, ...]
    plant: Plant

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Keep the bug in the product while the context is open.

        Raises:
            DetachedMutantError: the product does not have what the mutant replaces.
        """
        with ExitStack() as stack:
            self.plant(stack)
            yield


def replace_function(
    stack: ExitStack,
    original: Callable[P, T],
    replacement: Callable[P, T],
    *,
    imported_by: ModuleType | None = None,
) -> None:
    """Replace a function or method until the stack is closed.

    It is replaced in the module or class that defines it, or, if `imported_by` is given, in the module that
    imported it by name.

    Raises:
        DetachedMutantError: that module or class has another object under this name, or none.
    """
    _replace(stack, original, replacement, imported_by)


def replace_slot(stack: ExitStack, original: object, replacement: property) -> None:
    """Replace an attribute of a class with slots, given as `Class.attribute`, until the stack is closed.

    Raises:
        DetachedMutantError: the attribute is not a slot of its class.
    """
    _replace(stack, original, replacement, None)


def _replace(stack: ExitStack, original: Any, replacement: object, imported_by: ModuleType | None) -> None:  # noqa: ANN401 - a function or a slot
    name = getattr(original, "__name__", "")
    owner = _owner_of(original) if imported_by is None else imported_by
    if not name or vars(owner).get(name) is not original:
        raise DetachedMutantError(f"{owner!r} has no {name or original!r} that is {original!r}")
    stack.enter_context(patch.object(owner, name, replacement))


def _owner_of(original: Any) -> Any:  # noqa: ANN401 - a module or a class
    """The class or module that defines a function or a slot."""
    if (owner := getattr(original, "__objclass__", None)) is not None:
        return owner
    path = getattr(original, "__qualname__", "").split(".")[:-1]
    owner = sys.modules.get(getattr(original, "__module__", ""))
    for part in path:
        owner = getattr(owner, part, None)
    if owner is None:
        raise DetachedMutantError(f"{original!r} belongs to no module or class that can be found")
    return owner
