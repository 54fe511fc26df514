"""The command line: one file a command, each imported only when it is asked for.

The rule: this module imports click and nothing heavier, so that `allocsync --version` answers at once; an
error that a user can act on is printed as `allocsync: …` without a traceback and becomes an exit code. An
interrupt (Ctrl-C) ends it by the signal itself, so that a shell ends the script around it, too.
"""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn, TypeVar, cast

import click

from allocsync import __version__, errors

E = TypeVar("E", bound=BaseException)
# Each is a module here, and in it a command of the same name.
COMMANDS = (
    "run",
    "plan",
    "apply",
    "validate",
    "status",
    "explain",
    "approve",
    "pause",
    "resume",
    "history",
    "export",
    "schema",
    "serve",
    "demo",
    "completion",
    "manual",
)


class _Commands(click.Group):
    """A group that imports a command when it is named, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"allocsync.cli.commands.{cmd_name}")
        return cast("click.Command", getattr(module, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was named; it is imported now, and an interrupt is its own affair."""
        found = super().resolve_command(ctx, args)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see `__main__`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="allocsync")
@click.option("--config", "config_file", type=click.Path(), help="Settings file (YAML).")
@click.pass_context
def allocsync(ctx: click.Context, config_file: str | None) -> None:
    """Keep the allocations behind an Allocation API the way a YAML file says they should be."""
    ctx.obj = config_file


def main() -> NoReturn:
    """Run the command line and exit: 0 fine, 1 error, 2 changes (when asked), 64 usage, 78 configuration."""
    try:
        result = allocsync.main(standalone_mode=False)
        _end_by_interrupts()  # all is done and said
    except (click.exceptions.Abort, KeyboardInterrupt):
        _interrupted()
    except click.ClickException as error:
        error.show()
        sys.exit(errors.EXIT_USAGE)
    except errors.AllocsyncError as error:
        sys.exit(_say(error))
    except OSError as error:
        sys.exit(_unwritable(error))
    except BaseExceptionGroup as group:
        unwritable, rest = group.split(OSError)
        if unwritable is not None and rest is None:
            sys.exit(_unwritable(next(_flat(unwritable))))
        # A task group wraps what a user can act on; anything else in it is a bug and shows as one.
        actionable, rest = group.split(errors.AllocsyncError)
        if actionable is None or rest is not None:
            raise
        sys.exit(max(_say(error) for error in _flat(actionable)))
    sys.exit(result if isinstance(result, int) else errors.EXIT_FINE)


def _end_by_interrupts() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupted() -> NoReturn:
    _end_by_interrupts()
    click.echo("allocsync: interrupted", err=True)
    with suppress(OSError):
        sys.stdout.flush()
    signal.raise_signal(signal.SIGINT)
    sys.exit(errors.EXIT_INTERRUPTED)  # where the signal is blocked


def _say(error: errors.AllocsyncError) -> int:
    for line in str(error).splitlines():
        click.echo(f"allocsync: {line}", err=True)
    return error.exit_code


def _unwritable(error: OSError) -> int:
    """Standard output is gone or full: say so if anybody listens. Anything else is a bug and shows as one."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC):
        raise error
    # What is still buffered would fail again when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.ENOSPC:
        click.echo("allocsync: standard output cannot be written: no space left", err=True)
    return errors.EXIT_ERROR


def _flat(group: BaseExceptionGroup[E]) -> Iterator[E]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error
