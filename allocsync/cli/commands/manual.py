"""`allocsync manual`: the man page, made of what --help says, so that the two cannot disagree."""

from collections.abc import Iterator

import click

from allocsync import __version__, errors
from allocsync.settings.loader import CONFIG_VARIABLE

_EXITS = (
    (errors.EXIT_FINE, "Fine."),
    (errors.EXIT_ERROR, "What was asked for could not be done, or not all of it."),
    (errors.EXIT_CHANGES, "With --detailed-exitcode: fine, and there are changes."),
    (errors.EXIT_USAGE, "The command line is wrong."),
    (errors.EXIT_CONFIGURATION, "The settings are wrong."),
    (errors.EXIT_INTERRUPTED, "Interrupted (Ctrl-C), as a shell says it."),
)


@click.command()
@click.pass_context
def manual(context: click.Context) -> None:
    """Print the manual page; to read it: allocsync manual | man -l -."""
    click.echo("\n".join(_page(context.find_root())))


def _page(root: click.Context) -> Iterator[str]:
    yield f'.TH ALLOCSYNC 1 "" "allocsync {__version__}" "User Commands"'
    yield from (".SH NAME", _text(f"allocsync - {_lower(root.command.get_short_help_str(200))}"))
    yield from (
        ".SH SYNOPSIS",
        r"\fBallocsync\fR [\fB\-\-config\fR \fIFILE\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]",
    )
    yield ".SH OPTIONS"
    yield from _options(root)
    yield ".SH COMMANDS"
    for name, context in _commands(root):
        pieces = " ".join(context.command.collect_usage_pieces(context))
        yield from (f".SS {_text(name)} {_text(pieces)}", _text(context.command.help or ""))
        yield from _options(context)
    yield ".SH EXIT STATUS"
    for code, meaning in _EXITS:
        yield from (".TP", f".B {code}", _text(meaning))
    yield ".SH ENVIRONMENT"
    yield from (".TP", f".B {CONFIG_VARIABLE}", _text("The settings file, where --config is not given."))
    yield from (".TP", ".B ALLOCSYNC_*", _text("Settings; each option that is one names its variable."))


def _commands(root: click.Context) -> Iterator[tuple[str, click.Context]]:
    group = root.command
    if isinstance(group, click.Group):
        for name in sorted(group.list_commands(root)):
            command = group.get_command(root, name)
            if command is not None:
                yield name, click.Context(command, info_name=name, parent=root)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield from (".TP", rf"\fB{_text(record[0])}\fR", _text(record[1]))


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".")


def _text(text: str) -> str:
    """Text as roff takes it to the letter."""
    flat = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{flat}" if flat.startswith(".") else flat
