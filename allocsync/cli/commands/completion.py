"""`allocsync completion SHELL`: prints the script with which a shell completes allocsync's command lines."""

import click
from click.shell_completion import get_completion_class

from allocsync.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    For bash: eval "$(allocsync completion bash)"
    """
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise UsageError(f"{shell}: this shell has no completion; give one of {', '.join(SHELLS)}.")
    root = context.find_root().command
    click.echo(completion_class(root, {}, "allocsync", "_ALLOCSYNC_COMPLETE").source())
