"""`allocsync apply`: updates what differs until everything is settled, and reports the result.

The rule: the report says what is known. An update whose outcome is unknown is neither called applied nor
called failed, and an interrupted apply reports as a finished one does.

Left out: the check against a reviewed plan (`cli.reviewed_plan`), and every decision about updates
(`reconcile`).
"""

import asyncio
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

import click

from allocsync import errors
from allocsync.cli import live_state, output, reviewed_plan
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.selection import select
from allocsync.desired.loader import load
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Revision
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId
from allocsync.planning import plan as planning
from allocsync.planning.rendering import Line, Tone, count
from allocsync.reconcile import events
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.ports import Api
from allocsync.reconcile.status.controller_status import AllocationStatus
from allocsync.runtime import state_lock
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import build_controller, open_api, open_journal
from allocsync.settings.model import Settings
from allocsync.web import serializers

REFRESH_SECONDS = 0.1
# Outcomes of update_settled that say that the update changed something.
_APPLIED_OUTCOMES = {"applied", "applied_partial", "late_applied"}


@dataclass(slots=True)
class Tally:
    """Counts what the apply has done, from the controller's events; an instance is an Observer.

    `confirmed` has the allocations with an update of unknown outcome that a read has shown to be applied.
    `updates` is the number of updates that were sent. `unknown` is how many of them had an unknown outcome
    when their request ended; a read that settles one later does not lower it.
    """

    confirmed: set[AllocationId] = field(default_factory=set)
    updates: int = 0
    unknown: int = 0
    # By allocation: the journal sequence of its newest update.
    _intended: dict[AllocationId, int] = field(default_factory=dict)
    # By sequence: updates that were accepted and that no read has shown to be not applied.
    _accepted: dict[int, AllocationId] = field(default_factory=dict)

    @property
    def updated(self) -> set[AllocationId]:
        """Allocations that an update has changed, as far as is known."""
        return self.confirmed | {*self._accepted.values()}

    def __call__(self, event: events.Event) -> None:
        """Count one event."""
        match event:
            case events.UpdateIntended(allocation=allocation, sequence=sequence):
                self._intended[allocation] = sequence
            case events.UpdateFinished(allocation=allocation, outcome=outcome):
                self.updates += outcome != "not_sent"
                self.unknown += outcome == "unknown"
                if outcome == "accepted":
                    self._accepted[self._intended[allocation]] = allocation
            case events.UpdateSettled(sequence=sequence, outcome="not_applied"):
                self._accepted.pop(sequence, None)
            case events.UpdateSettled(allocation=allocation, sequence=sequence, outcome=outcome):
                if outcome in _APPLIED_OUTCOMES and sequence not in self._accepted:
                    self.confirmed.add(allocation)


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """What to apply.

    If `approved`, the change limit does not hold the revision. `whole` says that the revision has all
    declared allocations, and not only those that the command line names.
    """

    revision: Revision
    approved: bool
    whole: bool


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--deadline",
    "deadline_seconds",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    default=300.0,
    show_default=True,
    help="Stop after so many seconds and report what is not settled.",
)
@click.option("--plan-id", help="Apply only if what would be sent has this plan id, as `plan` shows it.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Apply only if what would be sent is what `plan --out FILE` wrote.",
)
@setting_options(
    *("api_url", "desired", "mode", "max_changes_percent", "concurrency_max", "bulk", "settle_seconds"),
    "state_dir",
)
@click.pass_context
def apply(
    context: click.Context,
    flags: Flags,
    ids: tuple[str, ...],
    as_json: bool,
    deadline_seconds: float,
    plan_id: str | None,
    plan_file: Path | None,
) -> int:
    """Bring live state in line once, and report exactly.

    The report says of every allocation whether it is in sync, and of every update whether it was applied.

    Files that change more than the change limit allows await approval, as in the daemon; canaries are not
    used here. A plan id (--plan-id), a plan file (--plan) or the IDs of the allocations are an approval.
    Each ID may be shortened to 8 or more characters with which only one id begins.
    """
    reviewed = reviewed_plan.load_review(plan_id, plan_file)
    settings = settings_from(context, flags, existing=("desired",)).model_copy(update={"canary": 0})
    loaded = load(settings.desired, default_mode=settings.mode)
    revision = select(loaded.revision, ids)
    if len(revision.allocations) <= live_state.ONE_BY_ONE_MAX and settings.bulk == "auto":
        settings = settings.model_copy(update={"bulk": "off"})
    tally = Tally()
    with state_lock.acquire(settings.state_dir, command="apply"):
        request = ApplyRequest(revision, approved=bool(reviewed or ids), whole=not ids)
        rows, awaiting_reason = asyncio.run(_apply(settings, request, tally, deadline_seconds, reviewed))
    if as_json:
        output.write_json({**_as_json(rows, tally), "awaiting_approval": awaiting_reason or None})
    else:
        output.write_lines(_report(rows, tally))
    if awaiting_reason:
        raise errors.AllocsyncError(
            f"{awaiting_reason}.\nTo apply it from here: review `allocsync plan`, then run "
            "`allocsync apply --plan-id ID` with its plan id."
        )
    in_sync = all(row.condition is Condition.IN_SYNC for row in rows)
    return errors.EXIT_FINE if in_sync else errors.EXIT_ERROR


async def _apply(
    settings: Settings,
    request: ApplyRequest,
    tally: Tally,
    deadline_seconds: float,
    reviewed: reviewed_plan.Review | None,
) -> tuple[list[AllocationStatus], str]:
    clock, revision = SystemClock(), request.revision
    async with open_journal(settings, clock) as (journal, restored), open_api(settings) as client:
        if restored.gap:
            click.echo(f"{visible(restored.gap)}; no updates are sent for a while", err=True)
        api: Api = client
        if reviewed is not None:
            snapshots, _ = await live_state.read(client, list(revision.allocations), settings)
            plan = planning.plan(revision, snapshots)
            reviewed_plan.check_unchanged(reviewed, plan)
            api = reviewed_plan.ReviewedApi(client, revision, plan)
        controller = build_controller(
            settings, api=api, clock=clock, observer=tally, journal=journal, restored=restored
        )
        journal.on_change = lambda problem: _report_journal(controller, problem)
        return await _run(controller, request, tally, deadline_seconds)


def _report_journal(controller: Controller, problem: str | None) -> None:
    """Say that the journal cannot be written; resume updates when it can be written again."""
    if problem is None:
        controller.journal_works()
    else:
        click.echo(
            f"the journal cannot be written: {visible(problem)}; no updates are sent meanwhile", err=True
        )


async def _run(
    controller: Controller, request: ApplyRequest, tally: Tally, deadline_seconds: float
) -> tuple[list[AllocationStatus], str]:
    async with asyncio.TaskGroup() as group:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _interrupt, controller)
        controller.activate(request.revision, approved=request.approved, whole=request.whole)
        running = group.create_task(controller.run())
        try:
            async with asyncio.timeout(deadline_seconds):
                await _show_progress(controller, tally)
        except TimeoutError:
            pass  # the report lists what is not settled
        controller.stop()
        await running
        controller.conclude()
        return list(controller.allocations()), controller.status().awaiting_reason


def _interrupt(controller: Controller) -> None:
    """Stop sending; requests in flight are waited for, and the report follows."""
    in_flight = sum(controller.status().in_flight.values())
    click.echo(
        f"interrupted: no more updates are sent; waiting for {count(in_flight, 'request')} in flight",
        err=True,
    )
    controller.stop()


async def _show_progress(controller: Controller, tally: Tally) -> None:
    with output.progress("updating") as show:
        while not controller.settled() and not (status := controller.status()).stopping:
            total = sum(status.conditions.values())
            done = total - status.conditions[Condition.PENDING] - status.conditions[Condition.OUTCOME_UNKNOWN]
            share = 100 * tally.unknown / tally.updates if tally.updates else 0.0
            in_flight = sum(status.in_flight.values())
            show(done=done, total=total, note=f"in flight {in_flight}   unknown outcomes {share:.1f} %")
            await asyncio.sleep(REFRESH_SECONDS)


def _as_json(rows: list[AllocationStatus], tally: Tally) -> dict[str, object]:
    conditions = dict.fromkeys((condition.value for condition in Condition), 0)
    for row in rows:
        conditions[row.condition.value] += 1
    return {
        "conditions": conditions,
        "updated": sorted(tally.updated),
        "confirmed_after_unknown": sorted(tally.confirmed),
        "updates_sent": tally.updates,
        "allocations": [
            {
                "id": row.id,
                "condition": row.condition.value,
                "reason": row.reason,
                "paused": serializers.paused(row.paused),
            }
            for row in rows
        ],
    }


def _report(rows: list[AllocationStatus], tally: Tally) -> list[Line]:
    by_condition: dict[Condition, list[AllocationStatus]] = {}
    for condition in Condition:
        if found := [row for row in rows if row.condition is condition]:
            by_condition[condition] = found
    in_sync = by_condition.pop(Condition.IN_SYNC, [])
    changed = len(tally.updated)
    summary = f"{count(len(rows), 'allocation')}: {len(in_sync):,} in sync ({changed:,} updated"
    if tally.confirmed:
        summary += f", {len(tally.confirmed):,} confirmed by reading after an unknown outcome"
    rest = "".join(
        f", {len(found):,} {_condition_text(condition)}" for condition, found in by_condition.items()
    )
    lines = [Line(f"{summary}){rest}.", Tone.BAD if by_condition else Tone.GOOD)]
    for condition, found in by_condition.items():
        lines.extend(
            Line(f"  {_condition_text(condition):<10}  {visible(row.id)}  {visible(row.reason)}", Tone.BAD)
            for row in found
        )
    if unknown := by_condition.get(Condition.OUTCOME_UNKNOWN):
        lines.append(Line(f"`allocsync apply {unknown[0].id}` reads it back before it sends anything again."))
    return lines


def _condition_text(condition: Condition) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", condition.value).lower()
