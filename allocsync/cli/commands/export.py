"""`allocsync export`: print live state as a desired state, as a first version of the files or to compare.

The rule: an export is complete or there is none. A name is read as a whole id first; only if the API
answers 410 is the list read to find the id that begins with it.

Left out: how a declaration is written (`desired.export`).
"""

import asyncio
from pathlib import Path

import click

from allocsync.api.client import AllocationClient
from allocsync.cli import live_state, output
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.output import with_suggestions
from allocsync.desired.export import declarations
from allocsync.desired.schema import MAX_TEXT_LENGTH
from allocsync.desired.similar_ids import DeclarableIds
from allocsync.errors import AllocsyncError, BulkUnavailable
from allocsync.model.api_answers import Failed, Live, Missing, Snapshot
from allocsync.model.cloud import Cloud
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId, NotFound, find
from allocsync.runtime.wiring import open_api
from allocsync.settings.model import Settings


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE, whole or not at all."
)
@setting_options("api_url", "concurrency_max", "bulk")
@click.pass_context
def export(context: click.Context, flags: Flags, ids: tuple[str, ...], out: Path | None) -> None:
    """Print live state as a desired state that declares it.

    Prints the allocations with these IDs, or all of them. Each ID may be shortened to 8 or more characters
    with which only one id begins.
    """
    settings = settings_from(context, flags)
    clouds = asyncio.run(_read(settings, [AllocationId(name) for name in dict.fromkeys(ids)]))
    text = (
        "\n".join(declarations(clouds, id_problem=DeclarableIds().problem, max_characters=MAX_TEXT_LENGTH))
        + "\n"
    )
    if out is None:
        click.echo(text, nl=False)
    else:
        output.write_text(out, text)


async def _read(settings: Settings, names: list[AllocationId]) -> list[Cloud]:
    async with open_api(settings) as api:
        if not names:
            return await _read_all(api)
        snapshots, _ = await live_state.read(api, names, settings)
        problems = [
            f"{visible(name)}: {snapshot.reason}"
            for name, snapshot in snapshots.items()
            if isinstance(snapshot, Failed)
        ]
        missing = [name for name in names if isinstance(snapshots[name], Missing)]
        if missing:
            problems += await _resolve_prefixes(api, missing, snapshots, use_list=settings.bulk != "off")
    if problems:
        raise AllocsyncError("\n".join([*problems, "Nothing was exported."]))
    return [snapshot.cloud for snapshot in snapshots.values() if isinstance(snapshot, Live)]


async def _resolve_prefixes(
    api: AllocationClient,
    names: list[AllocationId],
    snapshots: dict[AllocationId, Snapshot],
    *,
    use_list: bool,
) -> list[str]:
    """Read the list and add to `snapshots` the allocation of each name that is a prefix.

    Returns a message for each name that matches no allocation, or more than one.
    """
    why = "the setting `bulk` is off"
    try:
        listed = (
            {AllocationId(str(listed.cloud.get("id"))): listed async for listed in api.list()}
            if use_list
            else None
        )
    except BulkUnavailable as error:
        listed, why = None, str(error)
    if listed is None:
        return [
            f"{visible(name)}: 410: there is no such allocation. A prefix of an id needs the list, and {why}"
            for name in names
        ]
    problems = []
    ids = listed.keys() - set(names)  # the API answered 410 to these, whatever the list says
    for name in names:
        match find(name, ids, among="live"):
            case NotFound() as result:
                problems.append(with_suggestions(result.why, result.suggestions))
            case found:
                snapshots[found] = listed[found]
    return problems


async def _read_all(api: AllocationClient) -> list[Cloud]:
    try:
        return [listed.cloud async for listed in api.list()]
    except BulkUnavailable as error:
        hint = "" if error.supported else " Name the allocations: allocsync export ID..."
        raise AllocsyncError(
            f"the list of all allocations cannot be read: {error}. Nothing was exported.{hint}"
        ) from error
