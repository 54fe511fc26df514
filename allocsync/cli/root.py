"""The command `allocsync`: finds the subcommand, imports it, and turns errors into messages and exit codes.

The rules: this module imports click and nothing heavier, so that `allocsync --version` answers at once. An
error that a user can act on is printed as `allocsync: …` without a traceback and becomes an exit code. An
interrupt (Ctrl-C) ends the process by the signal itself, so that a shell ends the surrounding script too.

Left out: the subcommands (`cli.commands`), and exit codes (`errors`).
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

from allocsync import __version__, errors, journald

E = TypeVar("E", bound=BaseException)
# Each is a module of `cli.commands` with a command of the same name.
COMMANDS = (
    "run",
    "plan",
    "apply",
    "validate",
    "status",
    "explain",
    "sync",
    "reload",
    "retry",
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
    """A group that imports a subcommand only when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"allocsync.cli.commands.{cmd_name}")
        return cast("click.Command", getattr(module, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the subcommand that was named, then let Python raise KeyboardInterrupt in it on Ctrl-C."""
        found = super().resolve_command(ctx, args)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see `__main__`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="allocsync")
@click.option(
    "--config",
    "config_file",
    type=click.Path(),
    help="Settings file (YAML). Default: /etc/allocsync/allocsync.yaml, if it exists.",
)
@click.pass_context
def allocsync(ctx: click.Context, config_file: str | None) -> None:
    """Keep the allocations behind an Allocation API the way a YAML file says they should be."""
    ctx.obj = config_file


def main() -> NoReturn:
    """Run the command line and exit; `errors` lists the exit codes."""
    try:
        result = allocsync.main(standalone_mode=False)
        _restore_default_interrupt()  # nothing is left to clean up
    except (click.exceptions.Abort, KeyboardInterrupt):
        _exit_interrupted()
    except click.ClickException as error:
        error.show()
        sys.exit(errors.EXIT_USAGE)
    except errors.AllocsyncError as error:
        sys.exit(_print_error(error))
    except OSError as error:
        sys.exit(_exit_code_of_output_error(error))
    except BaseExceptionGroup as group:
        unwritable, rest = group.split(OSError)
        if unwritable is not None and rest is None:
            sys.exit(_exit_code_of_output_error(next(_flatten(unwritable))))
        # A task group wraps errors that a user can act on; any other error in it is a bug and is not hidden.
        actionable, rest = group.split(errors.AllocsyncError)
        if actionable is None or rest is not None:
            raise
        sys.exit(max(_print_error(error) for error in _flatten(actionable)))
    sys.exit(result if isinstance(result, int) else errors.EXIT_FINE)


def _restore_default_interrupt() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _exit_interrupted() -> NoReturn:
    _restore_default_interrupt()
    click.echo("allocsync: interrupted", err=True)
    with suppress(OSError):
        sys.stdout.flush()
    signal.raise_signal(signal.SIGINT)
    sys.exit(errors.EXIT_INTERRUPTED)  # reached only if the signal is blocked


def _print_error(error: errors.AllocsyncError) -> int:
    is_journal = journald.leads_to_journal(sys.stderr, os.environ)
    for line in str(error).splitlines():
        text = f"allocsync: {line}"
        click.echo(journald.with_priority("error", text) if is_journal else text, err=True)
    return error.exit_code


def _exit_code_of_output_error(error: OSError) -> int:
    """Return the exit code if standard output is closed or full; raise any other error again: it is a bug."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC):
        raise error
    # Text that is still buffered would fail again when Python exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.ENOSPC:
        click.echo("allocsync: standard output cannot be written: no space left", err=True)
    return errors.EXIT_ERROR


def _flatten(group: BaseExceptionGroup[E]) -> Iterator[E]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flatten(error)
        else:
            yield error
