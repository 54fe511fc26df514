"""A golden journal that is opened again by the product's own code, ten seconds after it was recorded.

The rules: only a copy is opened; the wall clock stands still ten seconds after the recording; the clock of
the process counts from somewhere else than it did then. What is restored can be saved anew into an empty
journal, all of it through the code that saves it at work.

Left out: what is compared (`test_golden_journals`).
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allocsync.journal.database import NAME, JournalFile
from allocsync.journal.entries import CheckpointValue
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord, Restored
from allocsync.planning.change_limit import NO_LIMIT
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.checkpoint import ALLOCATION, WRITES, Checkpoint
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.pause_control import PauseControl
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.rollout.change_review import ChangeReviewer
from allocsync.reconcile.rollout.declarations import ActiveDeclarations
from tests.integration.golden_journals.process import backoff
from tests.integration.golden_journals.projection import Reopened, history, projected, said
from tests.integration.golden_journals.record import RECORDED_AT
from tests.integration.golden_journals.rules import rules_of
from tests.support.scripted_api import ScriptedApi

ALL_ROWS = 100
LAST_ROWS = 5  # of the journal that has more than a thousand
FOLDER = Path(__file__).parent
LATER_SECONDS = 10.0
RECORDED: Mapping[str, float] = json.loads((FOLDER / RECORDED_AT).read_text())


@dataclass(frozen=True, slots=True)
class StoppedClock:
    """Time stands still; `now_seconds` is on the clock of the process."""

    wall_seconds: float
    now_seconds: float = 500.0

    def now(self) -> float:
        return self.now_seconds

    def wall(self) -> float:
        return self.wall_seconds

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


@dataclass(slots=True)
class Saved:
    """A journal that only notes what is to be kept."""

    commit_seconds: float = 0.0
    entries: list[CheckpointValue] = field(default_factory=list)

    async def intent(self, allocation: AllocationId, record: IntentRecord) -> int:
        raise AssertionError(f"nothing is sent: {allocation}, {record}")

    def outcome(self, allocation: AllocationId, intent: int, outcome: str, reason: str) -> None:
        raise AssertionError(f"nothing is found out: {allocation}, {intent}, {outcome}, {reason}")

    def remember(self, key: str, value: object | None) -> None:
        self.entries.append(CheckpointValue(key, value))


def clock_of(name: str) -> StoppedClock:
    """The clock at the time when the journal is opened again."""
    return StoppedClock(RECORDED[name] + LATER_SECONDS)


def copied(name: str, directory: Path) -> Path:
    """A copy of the journal where the product looks for it."""
    directory.mkdir(exist_ok=True)
    return Path(shutil.copyfile(FOLDER / f"{name}.db", directory / NAME))


@contextmanager
def reopened(name: str, directory: Path, journal: Saved | None = None) -> Iterator[Reopened]:
    """The journal and all that is restored from it."""
    clock, rules = clock_of(name), rules_of(name)
    copied(name, directory)
    file, restored = JournalFile.open(directory, wall=clock.wall)
    try:
        checkpoint = Checkpoint(journal or Saved(), clock, rules, restored)
        pauses_of(checkpoint, clock)
        yield Reopened(
            file=file,
            restored=restored,
            checkpoint=checkpoint,
            baseline=_reviewer(checkpoint, rules).baseline,
            in_force=ActiveDeclarations(checkpoint).kept,
            recorded_at=RECORDED[name],
            restored_at=clock.wall(),
            now=clock.now(),
        )
    finally:
        file.close()


def loop_of(name: str, of: Reopened) -> Controller:
    """The whole loop, with all that was in force; it has looked at nothing yet."""
    controller = Controller(
        api=ScriptedApi(keys=()),
        clock=clock_of(name),
        journal=Saved(),
        observer=lambda _event: None,
        rules=rules_of(name),
        limits=dict.fromkeys(Operation, 8),
        backoff=backoff,
        bulk=BulkPolicy.OFF,
        restored=of.restored,
    )
    there = {**of.baseline, **of.in_force}
    wanted = {key: desired for key, desired in there.items() if desired is not None}
    controller.activate(Revision("all that was in force", wanted))
    return controller


def pauses_of(checkpoint: Checkpoint, clock: StoppedClock, *named: AllocationId) -> PauseControl:
    """The pauses, restored; `named` are the allocations that a new pause may name."""
    allocations = {key: checkpoint.allocation(key) for key in named}
    return PauseControl(
        checkpoint=checkpoint,
        clock=clock,
        emit=lambda _event: None,
        allocations=allocations,
        requeue=lambda _allocation: None,
        wake=lambda: None,
    )


def _reviewer(checkpoint: Checkpoint, rules: Parameters) -> ChangeReviewer:
    return ChangeReviewer(
        checkpoint=checkpoint, limit=NO_LIMIT, rules=rules, write_gate=checkpoint.write_gate
    )


def save_unchanged(of: Reopened) -> None:
    """Have everything kept by the keeper that restored it."""
    for key in of.checkpoint.stored(ALLOCATION):
        of.checkpoint.save(of.checkpoint.allocation(AllocationId(key)))
    ActiveDeclarations(of.checkpoint).save(of.in_force)
    _reviewer(of.checkpoint, Parameters()).judge(Revision("", of.baseline), of.now, approved=True)


def saved_anew(name: str, of: Reopened) -> Saved:
    """Have everything kept by another keeper that has nothing yet."""
    saved, clock, rules = Saved(), clock_of(name), rules_of(name)
    anew, write_gate = Checkpoint(saved, clock, rules, Restored()), of.checkpoint.write_gate
    anew.settle_time = of.checkpoint.settle_time
    for key in of.checkpoint.stored(ALLOCATION):
        anew.save(of.checkpoint.allocation(AllocationId(key)))
    anew.save(anew.allocation(AllocationId("nothing to keep")))  # keeps what was learned for all
    if write_gate.write_quota.spent:
        # To spend is the one way to keep it; what it is kept as is then put right.
        anew.write_gate.write_quota.restore(write_gate.write_quota.spent)
        anew.save_value(
            WRITES,
            codecs.encode_write_quota(
                anew.write_gate.write_quota, codecs.Clocks(clock.wall() - clock.now(), clock.now())
            ),
        )
    _reviewer(anew, rules).judge(Revision("", of.baseline), of.now, approved=True)
    ActiveDeclarations(anew).save(of.in_force)
    pauses = pauses_of(anew, clock, *write_gate.pauses)
    set_by_name: dict[str | None, Pause] = dict(write_gate.pauses.items())
    if write_gate.everything is not None:
        set_by_name[None] = write_gate.everything
    for named, each in set_by_name.items():
        pauses.begin(named, seconds=each.until - of.now, reason=each.reason, owner=each.owner)
    return saved


def stored_in(path: Path) -> dict[str, Any]:
    """What the memory table has, read without the product: each value is JSON after a checksum."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT key, value FROM memory ORDER BY key").fetchall()
    return {key: json.loads(value.partition(" ")[2]) for key, value in found}


def rows_in(path: Path, *, last: int) -> list[list[object]]:
    """The newest rows, read without the product; their data is JSON."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = "SELECT sequence, at, kind, allocation, intent, data, hex(hash) FROM entries "
        found = connection.execute(query + "ORDER BY sequence DESC LIMIT ?", (last,)).fetchall()
    return [[*row[:5], json.loads(row[5]), row[6].lower()] for row in reversed(found)]


def rows_compared(name: str) -> int:
    """How many of the newest rows are compared one by one."""
    return LAST_ROWS if name == "more_than_a_thousand_rows" else ALL_ROWS


def found(name: str, directory: Path) -> dict[str, Any]:
    """Everything that is compared, by what it is."""
    path = copied(name, directory)
    stored, rows = stored_in(path), rows_in(path, last=rows_compared(name))
    with reopened(name, directory) as of:
        restored, controller = projected(of), loop_of(name, of)
        told = said(controller, sorted({*of.baseline, *of.in_force}), RECORDED[name])
    past = history(directory, RECORDED[name])
    return {"restored": restored, "said": told, "history": past, "stored": stored, "rows": rows}
