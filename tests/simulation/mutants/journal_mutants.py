"""Mutants of recording, restarting and stopping.

Left out: mutants of deciding and sending, and the list of all mutants (`mutants`).
"""
# ruff: noqa: SLF001 - mutants replace private functions and change private attributes

import sqlite3
from contextlib import ExitStack
from pathlib import Path

from allocsync.errors import JournalUnavailable
from allocsync.journal import database, retention, writer
from allocsync.journal.entries import Intent, Outcome
from allocsync.journal.retention import prune
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord, OpenIntent, Restored
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.updates import Update
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.reconciler import Reconciler
from tests.simulation.mutants.mutant import Mutant, replace_function


def _do_not_wait_for_commit(stack: ExitStack) -> None:
    async def intent(self: writer.Journal, allocation: AllocationId, record: IntentRecord) -> int:
        if self.problem is not None:
            raise JournalUnavailable(self.problem)
        self._add(writer._Queued(Intent(allocation, record)))
        return self._file.head.sequence + 1

    replace_function(stack, writer.Journal.intent, intent)


def _do_not_sync(stack: ExitStack) -> None:
    original = database._prepare

    def prepare(connection: sqlite3.Connection, path: Path) -> None:
        original(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")

    replace_function(stack, database._prepare, prepare)


def _lose_outcomes(stack: ExitStack) -> None:
    original = writer.Journal._failed

    def failed(self: writer.Journal, batch: list[writer._Queued], reason: str) -> None:
        original(self, [each for each in batch if not isinstance(each.entry, Outcome)], reason)

    replace_function(stack, writer.Journal._failed, failed)


def _delete_anchor(stack: ExitStack) -> None:
    def prune_and_delete_anchor(
        file: database.JournalFile,
        *,
        wall: WallTime,
        days: float = retention.RETENTION_DAYS,
        max_bytes: int = retention.MAX_BYTES,
    ) -> int:
        number = prune(file, wall=wall, days=days, max_bytes=max_bytes)
        if number:
            file.connection.execute("DELETE FROM anchor")
        return number

    replace_function(stack, prune, prune_and_delete_anchor, imported_by=writer)


def _forget_open_intents(stack: ExitStack) -> None:
    original = database.JournalFile._restore

    def restore(self: database.JournalFile) -> Restored:
        restored = original(self)
        self.connection.execute("DELETE FROM open_intents")
        return Restored(memories=restored.memories)

    replace_function(stack, database.JournalFile._restore, restore)


def _count_settle_time_from_before_restart(stack: ExitStack) -> None:
    original = ManagedAllocation.outcome_unknown_since_restart

    def outcome_unknown(self: ManagedAllocation, left: OpenIntent, now: Monotonic) -> None:
        original(self, left, now)
        if self.intent is not None:
            self.intent.settles_at = self.next_read_at = now
            self.intent.unknown_since = now - 3600.0

    replace_function(stack, ManagedAllocation.outcome_unknown_since_restart, outcome_unknown)


def _keep_nothing(stack: ExitStack) -> None:
    def save(_self: Checkpoint, _allocation: ManagedAllocation) -> None:
        """Keep nothing."""

    replace_function(stack, Checkpoint.save, save)


def _record_cut_off_as_not_sent(stack: ExitStack) -> None:
    original = Reconciler._send

    async def send(self: Reconciler, allocation: ManagedAllocation, update: Update, name: str) -> None:
        try:
            await original(self, allocation, update, name)
        except BaseException:
            if allocation.intent is not None:
                self._journal.outcome(allocation.id, allocation.intent.sequence, "not_sent", "stopping")
            raise

    replace_function(stack, Reconciler._send, send)


def _ignore_working_journal(stack: ExitStack) -> None:
    def journal_works(_self: Controller) -> None:
        """Tell no allocation."""

    replace_function(stack, Controller.journal_works, journal_works)


def _do_not_wait_after_gap(stack: ExitStack) -> None:
    def send_nothing_before(_self: ManagedAllocation, _until: float) -> None:
        """Do not wait."""

    replace_function(stack, ManagedAllocation.send_nothing_before, send_nothing_before)


# An open intent after a restart is read back too early.
EARLY_READ_BACK = Mutant(
    "after a restart the settle time counts from before it", ("R1",), _count_settle_time_from_before_restart
)

JOURNAL_MUTANTS = (
    Mutant("the update leaves before its intent is on the disk", ("P6",), _do_not_wait_for_commit),
    Mutant("commits are not synced", ("P6",), _do_not_sync),
    Mutant("outcomes are lost on a full disk", ("P7", "P10"), _lose_outcomes),
    Mutant("pruning breaks the chain", ("P7",), _delete_anchor),
    Mutant("open intents are forgotten at the start", ("R1", "P9"), _forget_open_intents),
    EARLY_READ_BACK,
    Mutant("accepted values are forgotten over a restart", ("P2", "R3"), _keep_nothing),
    Mutant("an update cut off by a stop is recorded as not sent", ("P9",), _record_cut_off_as_not_sent),
    Mutant("allocations do not learn that the disk works again", ("P1",), _ignore_working_journal),
    Mutant("after a lost journal there is no wait", ("R1",), _do_not_wait_after_gap),
)
