"""How commands print: data to standard output, colour and progress to a terminal only.

The rule: colour repeats what the words say and never carries a meaning of its own; NO_COLOR is honoured.

Left out: errors and exit codes (`cli.root`), and the lines of a plan (`planning.rendering`).
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
from allocsync.model.escaping import visible
from allocsync.model.public_json import SCHEMA
from allocsync.planning.rendering import Line, Tone

_COLOURS = {Tone.GOOD: "green", Tone.WAIT: "yellow", Tone.BAD: "red"}


def write_lines(lines: Iterable[Line]) -> None:
    """Print lines to standard output, in colour if that is a terminal."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        text = (
            click.style(line.text, fg=_COLOURS.get(line.tone), dim=line.tone is Tone.DIM)
            if colour
            else line.text
        )
        click.echo(text, color=colour)


def with_suggestions(error: str, suggestions: Iterable[object]) -> str:
    """Return the message that a name was not found, and below it the ids that begin like the name, if any."""
    names = [f"  {visible(str(name))}" for name in suggestions]
    heading = ["Ids that begin alike:"] if names else []
    return "\n".join([visible(error), *heading, *names])


def write_json(value: Mapping[str, object]) -> None:
    """Print one JSON object to standard output, with the version of its shape as `schema`."""
    click.echo(json.dumps({"schema": SCHEMA, **value}, indent=2))


def write_file(file: Path, value: Mapping[str, object]) -> None:
    """Write one JSON object to a file, as `write_text` does.

    Raises:
        AllocsyncError: the file cannot be written.
    """
    write_text(file, json.dumps(value, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Replace a regular file as a whole or not at all; write a terminal, a pipe or a device directly.

    A symbolic link stays, and the file that it leads to is written.

    Raises:
        AllocsyncError: the file cannot be written.
    """
    try:
        if file.exists() and not file.is_file():
            file.write_text(text, encoding="utf-8")
        else:
            atomic_file.write(file.resolve(), text.encode())
    except OSError as error:
        raise AllocsyncError(f"{file}: cannot be written: {(error.strerror or 'unknown').lower()}") from error


class Progress(Protocol):
    """Updates a progress line."""

    def __call__(self, *, done: int, total: int, note: str) -> None:
        """Show that `done` of `total` items are finished, with a note beside the bar."""


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Show a progress line on standard error while the context lasts, and erase it at the end.

    Yields a function that updates the line; it does nothing if standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield _show_nothing
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


def _show_nothing(*, done: int, total: int, note: str) -> None:
    """Stand in for a progress line where there is no terminal."""
