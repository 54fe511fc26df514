"""Traces which modules of allocsync run between two moments, and compares that with a list of stops.

The rule: the trace is of the real thing: real files, the real controller, journal and client, and a reference
server on a socket. Every call of a function counts, in every thread; the server is left out.
"""

import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType

STOP = re.compile(r"^\d+\. \[`(?P<file>[a-z_/]+\.py)`\]\([^)]*\)\s+`(?P<function>[A-Za-z_.]+)`", re.MULTILINE)


@dataclass(slots=True)
class Trace:
    """The calls of functions of allocsync, as module and qualified name, in their order."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    recording: bool = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Record calls while `recording` is set, in this thread and in threads that start in this context."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or not self.recording:
            return
        module = frame.f_globals.get("__name__", "")
        if module.startswith("allocsync.") and ".reference_server" not in module:
            self.calls.append((module, frame.f_code.co_qualname))

    def modules(self) -> list[str]:
        """The modules in the order in which they were entered first."""
        return list(dict.fromkeys(module for module, _ in self.calls))

    def returns(self) -> int:
        """How often a module was entered again after another one had run."""
        seen, number = set[str](), 0
        for before, module in pairwise(["", *(module for module, _ in self.calls)]):
            if module != before:
                number += module in seen
                seen.add(module)
        return number

    def passes(self, walk: Iterable["Stop"]) -> "Stop | None":
        """Look for the stops in the calls, in their order; return the first not found, None if all are."""
        rest = iter(self.calls)
        return next((stop for stop in walk if (stop.module, stop.function) not in rest), None)


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of a walk: a module and the function that the walk passes there."""

    module: str
    function: str


def stops(document: Path, heading: str) -> list[Stop]:
    """The numbered stops below a heading of a document, which names files relative to its own folder."""
    text = document.read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    package = document.parent.name
    return [
        Stop(f"{package}.{match['file'].removesuffix('.py').replace('/', '.')}", match["function"])
        for match in STOP.finditer(section)
    ]
