"""`allocsync export`: live state as a desired state, to begin with or to compare."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import click

from allocsync.api.client import AllocationClient
from allocsync.cli import live_state, output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.desired.export import declarations
from allocsync.desired.schema import MAX_TEXT_LENGTH
from allocsync.desired.similar_ids import DeclarableIds
from allocsync.errors import AllocsyncError, BulkUnavailable
from allocsync.model.api_answers import Failed, Live, Snapshot
from allocsync.model.cloud import Cloud
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId
from allocsync.runtime.wiring import open_api
from allocsync.settings.model import Settings


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file, whole or not at all."
)
@setting_options("api_url", "concurrency_max", "bulk")
@click.pass_context
def export(context: click.Context, flags: Flags, ids: tuple[str, ...], out: Path | None) -> None:
    """Print the live state of each ID, or of everything, as a desired state that declares it."""
    settings = settings_from(context, flags)
    clouds = asyncio.run(_read(settings, [AllocationId(key) for key in dict.fromkeys(ids)]))
    text = (
        "\n".join(declarations(clouds, id_problem=DeclarableIds().problem, max_characters=MAX_TEXT_LENGTH))
        + "\n"
    )
    if out is None:
        click.echo(text, nl=False)
    else:
        output.write_text(out, text)


async def _read(settings: Settings, ids: list[AllocationId]) -> list[Cloud]:
    async with open_api(settings) as api:
        if not ids:
            return await _everything(api)
        snapshots, _ = await live_state.read(api, ids, settings)
    problems = [_problem(key, snapshot) for key, snapshot in snapshots.items()]
    wrong = [problem for problem in problems if problem]
    if wrong:
        raise AllocsyncError("\n".join([*wrong, "Nothing was exported."]))
    return _clouds(snapshots)


async def _everything(api: AllocationClient) -> list[Cloud]:
    try:
        return [cloud async for cloud in api.list()]
    except BulkUnavailable as error:
        hint = "" if error.supported else " Name the allocations: allocsync export ID..."
        raise AllocsyncError(
            f"everything cannot be read in one request: {error}. Nothing was exported.{hint}"
        ) from error


def _problem(key: AllocationId, snapshot: Snapshot) -> str:
    if isinstance(snapshot, Live):
        return ""
    why = snapshot.reason if isinstance(snapshot, Failed) else "410: there is none"
    return f"{visible(key)}: {why}"


def _clouds(snapshots: Mapping[AllocationId, Snapshot]) -> list[Cloud]:
    return [snapshot.cloud for snapshot in snapshots.values() if isinstance(snapshot, Live)]
