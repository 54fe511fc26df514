"""Where commands print. Data goes to standard output; colour and progress only to a terminal.

The rule: colour repeats what the words say and never says it alone; NO_COLOR is honoured.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click

from allocsync import atomic_file
from allocsync.errors import AllocsyncError
from allocsync.model.public_json import SCHEMA
from allocsync.planning.rendering import Line, Tone

_COLOURS = {Tone.GOOD: "green", Tone.WAIT: "yellow", Tone.BAD: "red"}


def write_lines(lines: Iterable[Line]) -> None:
    """Print lines, in colour on a terminal."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        text = (
            click.style(line.text, fg=_COLOURS.get(line.tone), dim=line.tone is Tone.DIM)
            if colour
            else line.text
        )
        click.echo(text, color=colour)


def write_json(value: Mapping[str, object]) -> None:
    """Print one JSON object, with the version of its shape as `schema`."""
    click.echo(json.dumps({"schema": SCHEMA, **value}, indent=2))


def write_file(file: Path, value: Mapping[str, object]) -> None:
    """Write one JSON object to a file; see `write_text`."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text to a file, whole or not at all; to a terminal or a pipe as it comes.

    Raises:
        AllocsyncError: it cannot be written.
    """
    try:
        if file.exists() and not file.is_file():
            file.write_text(text, encoding="utf-8")
        else:
            atomic_file.write(file.resolve(), text.encode())
    except OSError as error:
        raise AllocsyncError(f"{file}: cannot be written: {(error.strerror or 'unknown').lower()}") from error


class Progress(Protocol):
    """A line that shows how far an apply is."""

    def __call__(self, *, done: int, total: int, note: str) -> None:
        """Show it."""


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A progress line on standard error while the context lasts; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, note="")

        def show(*, done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield show


def _silent(*, done: int, total: int, note: str) -> None:
    """Show nothing: there is no terminal."""
