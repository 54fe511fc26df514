"""`allocsync plan`: what would be sent, and nothing is."""

import asyncio
from pathlib import Path

import click

from allocsync import errors
from allocsync.cli import change_limit_check, live_state, output, review
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.selection import select
from allocsync.desired.loader import Loaded, load
from allocsync.model.escaping import as_text
from allocsync.planning import plan as planning
from allocsync.planning import rendering
from allocsync.runtime.wiring import open_api
from allocsync.settings.model import Settings


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there is something to update.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the plan to a file, too, for `apply --plan`.",
)
@setting_options(
    "api_url", "desired", "mode", "max_changes_percent", "canary", "concurrency_max", "bulk", "state_dir"
)
@click.pass_context
def plan(
    context: click.Context,
    flags: Flags,
    ids: tuple[str, ...],
    as_json: bool,
    detailed_exitcode: bool,
    out: Path | None,
) -> int:
    """Compare what is live with what is desired and show what an apply would send.

    Where the daemon would hold the files because they change too much, the plan says so.
    """
    settings = settings_from(context, flags, existing=("desired",))
    loaded = load(settings.desired, default_mode=settings.mode)
    made, how = asyncio.run(_plan(settings, loaded, ids))
    as_values = {**rendering.as_json(made), "not_sent": _not_sent(made)}
    if out is not None:
        output.write_file(out, as_values)
    ruling = None if ids else change_limit_check.ruling_of(settings, loaded.generation)
    held = ruling.reason if ruling else ""
    if as_json:
        output.write_json({**as_values, "awaiting_approval": held or None})
    else:
        output.write_lines(rendering.text(made, read_how=how, files=loaded.generation.files))
        if made.updates:
            words = ["allocsync apply --plan-id", made.digest[: review.LEAST_DIGITS], *ids]
            output.write_lines([rendering.Line(f"Apply exactly this with: {' '.join(words)}")])
        if held:
            output.write_lines([rendering.Line(f"The daemon would wait: {held}.", rendering.Tone.BAD)])
    counts = made.counts
    if counts[planning.Verdict.FAILING] or loaded.problems:
        return errors.EXIT_ERROR
    return errors.EXIT_CHANGES if detailed_exitcode and made.updates else errors.EXIT_FINE


async def _plan(settings: Settings, loaded: Loaded, ids: tuple[str, ...]) -> tuple[planning.Plan, str]:
    generation = select(loaded.generation, ids)
    async with open_api(settings) as api:
        snapshots, how = await live_state.read(api, list(generation.allocations), settings)
    return planning.plan(generation, snapshots), how


def _not_sent(made: planning.Plan) -> list[dict[str, object]]:
    """For programs: each allocation that is not in sync and for which nothing would be sent, and why."""
    return [
        {
            "id": step.id,
            "verdict": step.verdict.value,
            "reason": step.reason,
            "source": step.source,
            "changes": [
                {"field": change.field, "live": as_text(change.live), "desired": change.desired}
                for change in step.changes
            ],
        }
        for step in made.steps
        if step.verdict not in {planning.Verdict.IN_SYNC, planning.Verdict.UPDATE}
    ]
