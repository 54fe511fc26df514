"""`allocsync validate`: judge the desired state offline, every mistake at once."""

from pathlib import Path

import click

from allocsync import errors
from allocsync.cli import output
from allocsync.desired import reading
from allocsync.desired.load import Examined, examine
from allocsync.planning.model import Mode
from allocsync.planning.render import count


@click.command()
@click.argument("path", type=click.Path(path_type=Path), required=False, envvar="ALLOCSYNC_DESIRED")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.ENFORCE.value,
    envvar="ALLOCSYNC_MODE",
    help="Mode of allocations that name none; it is part of the generation's digest. [ALLOCSYNC_MODE]",
)
def validate(path: Path | None, as_json: bool, mode: str) -> int:
    """Check the desired state at PATH (a file or a directory); default ALLOCSYNC_DESIRED.

    Reads only files, changes nothing, and exits with 1 when there is anything wrong.
    """
    if path is None:
        raise click.UsageError("which files? Give PATH, or set ALLOCSYNC_DESIRED.")
    examined = examine(reading.read(path), default_mode=Mode(mode))
    if as_json:
        output.write_json(_as_json(examined))
    else:
        for line in _lines(path, examined):
            click.echo(line)
    return errors.EXIT_ERROR if examined.problems else errors.EXIT_FINE


def _lines(path: Path, examined: Examined) -> list[str]:
    if examined.loaded and not examined.problems:
        generation = examined.loaded.generation
        declared = f"{count(len(generation.allocations), 'allocation')} in {count(generation.files, 'file')}"
        return [f"{path}: {declared}, nothing wrong. Generation {generation.digest[:8]}."]
    wrong = len({problem.file for problem in examined.problems})
    total = count(max(examined.files, wrong), "file")
    summary = f"{count(len(examined.problems), 'error')} in {wrong:,} of {total}. Nothing was changed."
    return [*map(str, examined.problems), summary]


def _as_json(examined: Examined) -> dict[str, object]:
    generation = examined.loaded.generation if examined.loaded else None
    return {
        "valid": not examined.problems,
        "files": examined.files,
        "allocations": len(generation.allocations) if generation else 0,
        "generation": generation.digest if generation else None,
        "problems": [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "path": problem.path,
                "message": problem.message,
            }
            for problem in examined.problems
        ],
    }
