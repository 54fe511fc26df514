"""`allocsync validate`: is this desired state right? Answered from the files alone, without a network."""

from pathlib import Path

import click

from allocsync import errors
from allocsync.cli import output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.desired import reading
from allocsync.desired.load import Loaded, load_files
from allocsync.errors import DesiredError, Problem
from allocsync.planning.model import Mode
from allocsync.planning.render import Line, Tone, count


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@setting_options("desired", "mode")
@click.pass_context
def validate(context: click.Context, flags: Flags, path: Path | None, as_json: bool) -> int:
    """Check the desired state at PATH (default: the one of the settings) without asking any server."""
    settings = settings_from(context, flags)
    files = reading.read(path or settings.desired)
    loaded, problems = _load(files, settings.mode)
    if as_json:
        output.write_json(_as_json(loaded, problems, len(files.files)))
    elif problems:
        wrong = len({problem.file for problem in problems})
        total = count(max(len(files.files), wrong), "file")
        summary = f"{count(len(problems), 'error')} in {wrong} of {total}. Nothing was changed."
        output.write_lines([*(Line(str(problem)) for problem in problems), Line(summary, Tone.BAD)])
    elif loaded is not None:
        generation = loaded.generation
        text = f"{count(len(generation.allocations), 'allocation')} in {count(generation.files, 'file')}"
        output.write_lines([Line(f"{text}: all valid. Generation {generation.digest[:8]}.", Tone.GOOD)])
    return errors.EXIT_ERROR if problems else errors.EXIT_FINE


def _load(files: reading.FileSet, mode: Mode) -> tuple[Loaded | None, tuple[Problem, ...]]:
    try:
        loaded = load_files(files, default_mode=mode)
    except DesiredError as error:
        return None, error.problems
    return loaded, loaded.problems


def _as_json(loaded: Loaded | None, problems: tuple[Problem, ...], files: int) -> dict[str, object]:
    return {
        "valid": not problems,
        "files": files,
        "allocations": len(loaded.generation.allocations) if loaded else 0,
        "generation": loaded.generation.digest if loaded else None,
        "problems": [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "path": problem.path,
                "message": problem.message,
            }
            for problem in problems
        ],
    }
