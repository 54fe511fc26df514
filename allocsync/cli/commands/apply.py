"""`allocsync apply`: one pass over everything, until all is settled or the deadline, and an exact report."""

import asyncio
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

import click

from allocsync import errors
from allocsync.cli import live_state, output, review
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.selection import select
from allocsync.desired.loader import load
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Generation
from allocsync.model.escaping import visible
from allocsync.model.ids import AllocationId
from allocsync.planning import plan as planning
from allocsync.planning.rendering import Line, Tone, count
from allocsync.reconcile import events
from allocsync.reconcile.controller import Loop
from allocsync.reconcile.ports import Api
from allocsync.reconcile.status.controller_status import AllocationStatus
from allocsync.runtime import state_lock
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import build_loop, open_api, open_journal
from allocsync.settings.model import Settings
from allocsync.web import serializers

REFRESH_SECONDS = 0.1
_DONE = {"applied", "applied_partial", "late_applied"}  # what a read says of an update that did something
FEW = 20  # so few are read one by one, without asking for everything


@dataclass(slots=True)
class Tally:
    """What was done, told by the loop's events."""

    confirmed: set[AllocationId] = field(default_factory=set)  # after an unknown outcome
    updates: int = 0
    unknown: int = 0
    _intended: dict[AllocationId, int] = field(default_factory=dict)  # the sequence of the newest update
    _accepted: dict[int, AllocationId] = field(default_factory=dict)  # and these were not found out to be not

    @property
    def updated(self) -> set[AllocationId]:
        """Those that an update has changed, for all that is known."""
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
                if outcome in _DONE and sequence not in self._accepted:
                    self.confirmed.add(allocation)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be applied: whether somebody has approved it, and whether it is all that is declared."""

    generation: Generation
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
    help="Seconds after which the report says what is not settled.",
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
    """Bring live state in line once, and say exactly what was and was not applied.

    Files that change more than the change limit allows await approval, as in the daemon; no canary goes first
    here. A plan id or a plan file is an approval, and so is naming the allocations.
    """
    reviewed = review.review_of(plan_id, plan_file)
    settings = settings_from(context, flags, existing=("desired",)).model_copy(update={"canary": 0})
    loaded = load(settings.desired, default_mode=settings.mode)
    generation = select(loaded.generation, ids)
    if len(generation.allocations) <= FEW and settings.bulk == "auto":
        settings = settings.model_copy(update={"bulk": "off"})
    tally = Tally()
    with state_lock.held(settings.state_dir, command="apply"):
        wish = Wish(generation, approved=bool(reviewed or ids), whole=not ids)
        rows, held = asyncio.run(_apply(settings, wish, tally, deadline_seconds, reviewed))
    if as_json:
        output.write_json({**_as_json(rows, tally), "awaiting_approval": held or None})
    else:
        output.write_lines(_report(rows, tally))
    if held:
        raise errors.AllocsyncError(
            f"{held}.\nTo apply it from here: read `allocsync plan`, then `allocsync apply --plan-id ID`."
        )
    in_sync = all(row.condition is Condition.IN_SYNC for row in rows)
    return errors.EXIT_FINE if in_sync else errors.EXIT_ERROR


async def _apply(
    settings: Settings,
    wish: Wish,
    tally: Tally,
    deadline_seconds: float,
    reviewed: review.Review | None,
) -> tuple[list[AllocationStatus], str]:
    clock, generation = SystemClock(), wish.generation
    async with open_journal(settings, clock) as (journal, restored), open_api(settings) as client:
        if restored.gap:
            click.echo(f"{visible(restored.gap)}; nothing is sent for a while", err=True)
        api: Api = client
        if reviewed is not None:
            snapshots, _ = await live_state.read(client, list(generation.allocations), settings)
            plan = planning.plan(generation, snapshots)
            review.check(reviewed, plan)
            api = review.Reviewed(client, generation, plan)
        loop = build_loop(settings, api=api, clock=clock, observer=tally, journal=journal, restored=restored)
        journal.on_change = lambda problem: _journal_changed(loop, problem)
        return await _run(loop, wish, tally, deadline_seconds)


def _journal_changed(loop: Loop, problem: str | None) -> None:
    """Say that nothing can be sent, or go on."""
    if problem is None:
        loop.journal_works()
    else:
        click.echo(f"the journal cannot be written: {visible(problem)}; nothing is sent without it", err=True)


async def _run(
    loop: Loop, wish: Wish, tally: Tally, deadline_seconds: float
) -> tuple[list[AllocationStatus], str]:
    async with asyncio.TaskGroup() as group:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _interrupted, loop)
        loop.adopt(wish.generation, approved=wish.approved, whole=wish.whole)
        running = group.create_task(loop.run())
        try:
            async with asyncio.timeout(deadline_seconds):
                await _watch(loop, tally)
        except TimeoutError:
            pass  # the report says what is not settled
        loop.stop()
        await running
        loop.conclude()
        return list(loop.allocations()), loop.status().held_reason


def _interrupted(loop: Loop) -> None:
    """Send nothing more; what is under way is waited for, and the report says the rest."""
    flying = sum(loop.status().in_flight.values())
    click.echo(f"interrupted: nothing more is sent; {count(flying, 'request')} under way", err=True)
    loop.stop()


async def _watch(loop: Loop, tally: Tally) -> None:
    with output.progress("updating") as show:
        while not loop.settled() and not (status := loop.status()).stopping:
            total = sum(status.conditions.values())
            done = total - status.conditions[Condition.PENDING] - status.conditions[Condition.OUTCOME_UNKNOWN]
            share = 100 * tally.unknown / tally.updates if tally.updates else 0.0
            flying = sum(status.in_flight.values())
            show(done=done, total=total, note=f"in flight {flying}   unknown outcomes {share:.1f} %")
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
    rest = "".join(f", {len(found):,} {_word(condition)}" for condition, found in by_condition.items())
    lines = [Line(f"{summary}){rest}.", Tone.BAD if by_condition else Tone.GOOD)]
    for condition, found in by_condition.items():
        lines.extend(
            Line(f"  {_word(condition):<10}  {visible(row.id)}  {visible(row.reason)}", Tone.BAD)
            for row in found
        )
    if unknown := by_condition.get(Condition.OUTCOME_UNKNOWN):
        lines.append(Line(f"`allocsync apply {unknown[0].id}` settles an unknown outcome by reading first."))
    return lines


def _word(condition: Condition) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", condition.value).lower()
