"""`allocsync validate`: checks the settings and the files of the desired state without the API.

The rule: it lists every mistake, also if both the settings and the files have some.

Left out: the checks (`desired.loader`, `settings.loader`).
"""

from pathlib import Path

import click

from allocsync import errors
from allocsync.cli import output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.desired import files
from allocsync.desired.loader import Examined, examine
from allocsync.planning.rendering import count
from allocsync.settings.model import Settings


@click.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@setting_options("mode")
@click.pass_context
def validate(context: click.Context, flags: Flags, path: Path | None, as_json: bool) -> int:
    """Check the settings and the desired state, offline.

    PATH is a file or a directory with the desired state; default ALLOCSYNC_DESIRED.

    Reads only files and changes nothing. Exits with 1 if the desired state has mistakes, and with 78 if a
    setting is wrong.
    """
    settings, settings_error = Settings(), None
    try:
        settings = settings_from(context, flags)
    except errors.SettingsError as error:
        settings_error = error  # raised at the end, so that mistakes in the files are listed too
    if path is not None or settings_error is None:
        desired = settings.desired if path is None else path
        examined = examine(files.read(desired), default_mode=settings.mode)
        if as_json:
            output.write_json(_as_json(examined))
        else:
            for line in _format_result(desired, examined):
                click.echo(line)
        if settings_error is None:
            return errors.EXIT_ERROR if examined.problems else errors.EXIT_FINE
    raise settings_error


def _format_result(path: Path, examined: Examined) -> list[str]:
    if examined.loaded and not examined.problems:
        revision = examined.loaded.revision
        declared = f"{count(len(revision.allocations), 'allocation')} in {count(revision.files, 'file')}"
        return [f"{path}: {declared}, no mistakes. Revision {revision.id[:8]}."]
    wrong_files = len({problem.file for problem in examined.problems})
    total = count(max(examined.files, wrong_files), "file")
    summary = f"{count(len(examined.problems), 'error')} in {wrong_files:,} of {total}. Nothing was changed."
    return [*map(str, examined.problems), summary]


def _as_json(examined: Examined) -> dict[str, object]:
    revision = examined.loaded.revision if examined.loaded else None
    return {
        "valid": not examined.problems,
        "files": examined.files,
        "allocations": len(revision.allocations) if revision else 0,
        "revision": revision.id if revision else None,
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
