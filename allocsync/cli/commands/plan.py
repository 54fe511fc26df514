"""`allocsync plan`: shows what `apply` would send, and sends nothing.

Left out: how a plan is made (`planning.plan`) and formatted (`planning.rendering`).
"""

import asyncio
from pathlib import Path

import click

from allocsync import errors
from allocsync.cli import change_limit_check, live_state, output, reviewed_plan
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
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there is something to update.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the plan to FILE, for `apply --plan`.",
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
    """Show what an apply would send, and send nothing.

    Compares live state with desired state. If the files change so much that the daemon would wait for
    approval, the plan says so. Each ID may be shortened to 8 or more characters with which only one id
    begins.
    """
    settings = settings_from(context, flags, existing=("desired",))
    loaded = load(settings.desired, default_mode=settings.mode)
    current_plan, read_summary = asyncio.run(_plan(settings, loaded, ids))
    document = {**rendering.as_json(current_plan), "not_sent": _not_sent(current_plan)}
    if out is not None:
        output.write_file(out, document)
    change_review = None if ids else change_limit_check.review_changes(settings, loaded.revision)
    awaiting_reason = change_review.reason if change_review else ""
    if as_json:
        output.write_json({**document, "awaiting_approval": awaiting_reason or None})
    else:
        output.write_lines(rendering.text(current_plan, read_how=read_summary, files=loaded.revision.files))
        if current_plan.updates:
            words = [
                "allocsync apply --plan-id",
                current_plan.plan_id[: reviewed_plan.MIN_PLAN_ID_DIGITS],
                *ids,
            ]
            output.write_lines([rendering.Line(f"Apply exactly this with: {' '.join(words)}")])
        if awaiting_reason:
            output.write_lines(
                [rendering.Line(f"The daemon would wait: {awaiting_reason}.", rendering.Tone.BAD)]
            )
    counts = current_plan.counts
    if counts[planning.Verdict.FAILING] or loaded.problems:
        return errors.EXIT_ERROR
    return errors.EXIT_CHANGES if detailed_exitcode and current_plan.updates else errors.EXIT_FINE


async def _plan(settings: Settings, loaded: Loaded, ids: tuple[str, ...]) -> tuple[planning.Plan, str]:
    revision = select(loaded.revision, ids)
    async with open_api(settings) as api:
        snapshots, read_summary = await live_state.read(api, list(revision.allocations), settings)
    return planning.plan(revision, snapshots), read_summary


def _not_sent(current_plan: planning.Plan) -> list[dict[str, object]]:
    """Return, for programs, each allocation that is not in sync and would get no update, with the reason."""
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
        for step in current_plan.steps
        if step.verdict not in {planning.Verdict.IN_SYNC, planning.Verdict.UPDATE}
    ]
