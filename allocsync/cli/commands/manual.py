"""`allocsync manual`: prints the man page, generated from the help texts so that the two cannot differ."""

from collections.abc import Iterator

import click

from allocsync import __version__, errors
from allocsync.settings.loader import CONFIG_VARIABLE, DEFAULT_FILE

_EXIT_CODES = (
    (errors.EXIT_FINE, "Success."),
    (errors.EXIT_ERROR, "The command failed, or only a part of it succeeded."),
    (errors.EXIT_CHANGES, "With --detailed-exitcode: success, and there are changes."),
    (errors.EXIT_USAGE, "The command line is wrong."),
    (errors.EXIT_CONFIGURATION, "The settings are wrong."),
    (errors.EXIT_INTERRUPTED, "Interrupted (Ctrl-C), as a shell reports it."),
)


@click.command()
@click.pass_context
def manual(context: click.Context) -> None:
    """Print the manual page.

    To read it: allocsync manual | man -l -
    """
    click.echo("\n".join(_format_page(context.find_root())))


def _format_page(root: click.Context) -> Iterator[str]:
    yield f'.TH ALLOCSYNC 1 "" "allocsync {__version__}" "User Commands"'
    yield from (".SH NAME", _escape_roff(f"allocsync - {_lower_first(root.command.get_short_help_str(200))}"))
    yield from (
        ".SH SYNOPSIS",
        r"\fBallocsync\fR [\fB\-\-config\fR \fIFILE\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]",
    )
    yield ".SH OPTIONS"
    yield from _format_options(root)
    yield ".SH COMMANDS"
    for name, context in _subcommands(root):
        pieces = " ".join(context.command.collect_usage_pieces(context))
        yield from (
            f".SS {_escape_roff(name)} {_escape_roff(pieces)}",
            _escape_roff(context.command.help or ""),
        )
        yield from _format_options(context)
    yield ".SH EXIT STATUS"
    for code, meaning in _EXIT_CODES:
        yield from (".TP", f".B {code}", _escape_roff(meaning))
    yield ".SH ENVIRONMENT"
    yield from (
        ".TP",
        f".B {CONFIG_VARIABLE}",
        _escape_roff(f"The settings file, if --config is not given. Default: {DEFAULT_FILE}, if it exists."),
    )
    yield from (
        ".TP",
        ".B ALLOCSYNC_*",
        _escape_roff("Settings; the help of each option names its variable."),
    )


def _subcommands(root: click.Context) -> Iterator[tuple[str, click.Context]]:
    group = root.command
    if isinstance(group, click.Group):
        for name in sorted(group.list_commands(root)):
            command = group.get_command(root, name)
            if command is not None:
                yield name, click.Context(command, info_name=name, parent=root)


def _format_options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield from (".TP", rf"\fB{_escape_roff(record[0])}\fR", _escape_roff(record[1]))


def _lower_first(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".")


def _escape_roff(text: str) -> str:
    """Escape text so that roff prints it literally."""
    flat = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{flat}" if flat.startswith(".") else flat
