"""Opens a golden journal with the product's own code, ten seconds after it was recorded.

The rules: only a copy is opened. The wall clock stays ten seconds after the recording. The monotonic clock
starts at another number than in the recording. What is restored can be saved to an empty journal with the
code that saves it in operation.

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
from allocsync.model.times import Monotonic, WallTime, clock_offset_seconds
from allocsync.reconcile import checkpoint_codecs as codecs
from allocsync.reconcile.checkpoint import ALLOCATION, WRITES, Checkpoint
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.pause_control import PauseControl
from allocsync.reconcile.resync import BulkPolicy
from allocsync.reconcile.rollout.declarations import Declarations
from tests.integration.golden_journals.process import backoff
from tests.integration.golden_journals.projection import Reopened, history, projected, reported
from tests.integration.golden_journals.record import RECORDED_AT
from tests.integration.golden_journals.rules import rules_of
from tests.support.scripted_api import ScriptedApi

ALL_ROWS = 100
LAST_ROWS = 5  # of the journal with more than a thousand rows
FOLDER = Path(__file__).parent
LATER_SECONDS = 10.0
STOPPED_AT = Monotonic(500.0)
RECORDED: Mapping[str, WallTime] = json.loads((FOLDER / RECORDED_AT).read_text())


@dataclass(frozen=True, slots=True)
class StoppedClock:
    """A clock that does not advance."""

    wall_time: WallTime

    def now(self) -> Monotonic:
        return STOPPED_AT

    def wall(self) -> WallTime:
        return self.wall_time

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


@dataclass(slots=True)
class Saved:
    """A journal that only collects the values to store."""

    commit_seconds: float = 0.0
    entries: list[CheckpointValue] = field(default_factory=list)

    async def intent(self, allocation: AllocationId, record: IntentRecord) -> int:
        raise AssertionError(f"no update is expected: {allocation}, {record}")

    def outcome(self, allocation: AllocationId, intent: int, outcome: str, reason: str) -> None:
        raise AssertionError(f"no outcome is expected: {allocation}, {intent}, {outcome}, {reason}")

    def remember(self, key: str, value: object | None) -> None:
        self.entries.append(CheckpointValue(key, value))


def clock_of(name: str) -> StoppedClock:
    """The clock when the journal is opened again."""
    return StoppedClock(RECORDED[name] + LATER_SECONDS)


def copied(name: str, directory: Path) -> Path:
    """Copy the journal to where the product expects it. Returns the path of the copy."""
    directory.mkdir(exist_ok=True)
    return Path(shutil.copyfile(FOLDER / f"{name}.db", directory / NAME))


@contextmanager
def reopened(name: str, directory: Path, journal: Saved | None = None) -> Iterator[Reopened]:
    """Open a copy of the journal and restore everything from it."""
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
            baseline=Declarations(checkpoint).baseline,
            in_force=Declarations(checkpoint).differing,
            recorded_at=RECORDED[name],
            restored_at=clock.wall(),
            now=clock.now(),
        )
    finally:
        file.close()


def controller_of(name: str, of: Reopened) -> Controller:
    """A controller with all active declarations, before its first read."""
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
    active = {**of.baseline, **of.in_force}
    wanted = {key: desired for key, desired in active.items() if desired is not None}
    controller.activate(Revision("all active declarations", wanted))
    return controller


def pauses_of(checkpoint: Checkpoint, clock: StoppedClock, *named: AllocationId) -> PauseControl:
    """Restore the pauses; `named` are the allocations that a new pause may name."""
    allocations = {key: checkpoint.create_allocation(key) for key in named}
    return PauseControl(
        checkpoint=checkpoint,
        clock=clock,
        emit=lambda _event: None,
        allocations=allocations,
        requeue=lambda _allocation: None,
        wake_dispatcher=lambda: None,
    )


def _save_declarations(checkpoint: Checkpoint, of: Reopened) -> None:
    declarations = Declarations(checkpoint)
    declarations.set_baseline(of.baseline)
    declarations.set_differing(of.in_force)


def save_unchanged(of: Reopened) -> None:
    """Save everything to the checkpoint that restored it."""
    for key in of.checkpoint.stored(ALLOCATION):
        of.checkpoint.save(of.checkpoint.create_allocation(AllocationId(key)))
    _save_declarations(of.checkpoint, of)


def saved_anew(name: str, of: Reopened) -> Saved:
    """Save everything to another, empty checkpoint."""
    saved, clock, rules = Saved(), clock_of(name), rules_of(name)
    anew, write_gate = Checkpoint(saved, clock, rules, Restored()), of.checkpoint.write_gate
    anew.settle_time = of.checkpoint.settle_time
    for key in of.checkpoint.stored(ALLOCATION):
        anew.save(of.checkpoint.create_allocation(AllocationId(key)))
    anew.save(anew.create_allocation(AllocationId("nothing to store")))  # stores the settle time
    if write_gate.write_quota.spent:
        # In operation only spending stores the quota, at the time of the update; here the times are given.
        anew.write_gate.write_quota.spent = list(write_gate.write_quota.spent)
        anew.save_value(
            WRITES,
            codecs.encode_write_quota(
                anew.write_gate.write_quota,
                codecs.Clocks(clock_offset_seconds(clock.wall(), clock.now()), clock.now()),
            ),
        )
    _save_declarations(anew, of)
    pauses = pauses_of(anew, clock, *write_gate.pauses)
    set_by_name: dict[str | None, Pause] = dict(write_gate.pauses.items())
    if write_gate.everything is not None:
        set_by_name[None] = write_gate.everything
    for named, each in set_by_name.items():
        pauses.begin(named, seconds=each.until - of.now, reason=each.reason, owner=each.owner)
    return saved


def stored_in(path: Path) -> dict[str, Any]:
    """The checkpoint values, read without the product: each is JSON after a checksum."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT key, value FROM memory ORDER BY key").fetchall()
    return {key: json.loads(value.partition(" ")[2]) for key, value in found}


def rows_in(path: Path, *, last: int) -> list[list[object]]:
    """The `last` newest rows, read without the product; their data is JSON."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = "SELECT sequence, at, kind, allocation, intent, data, hex(hash) FROM entries "
        found = connection.execute(query + "ORDER BY sequence DESC LIMIT ?", (last,)).fetchall()
    return [[*row[:5], json.loads(row[5]), row[6].lower()] for row in reversed(found)]


def rows_compared(name: str) -> int:
    """How many of the newest rows are compared one by one."""
    return LAST_ROWS if name == "more_than_a_thousand_rows" else ALL_ROWS


def found(name: str, directory: Path) -> dict[str, Any]:
    """Everything that is compared, by its key in the JSON file."""
    path = copied(name, directory)
    stored, rows = stored_in(path), rows_in(path, last=rows_compared(name))
    with reopened(name, directory) as of:
        restored, controller = projected(of), controller_of(name, of)
        reports = reported(controller, sorted({*of.baseline, *of.in_force}), RECORDED[name])
    updates = history(directory, RECORDED[name])
    return {"restored": restored, "said": reports, "history": updates, "stored": stored, "rows": rows}
