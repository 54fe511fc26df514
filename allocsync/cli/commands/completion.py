"""`allocsync completion SHELL`: the script that lets a shell complete allocsync's words."""

import click
from click.shell_completion import get_completion_class

from allocsync.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(allocsync completion bash)"."""
    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"{shell}: no completion for this shell; there is one for {', '.join(SHELLS)}.")
    root = context.find_root().command
    click.echo(made(root, {}, "allocsync", "_ALLOCSYNC_COMPLETE").source())
