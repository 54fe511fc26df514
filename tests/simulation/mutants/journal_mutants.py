"""Bugs of recording, restarting and stopping, to be planted; see `bug`."""
# ruff: noqa: ANN401, SLF001 - what is substituted takes what the original takes, and knows its insides

from contextlib import ExitStack
from typing import Any

from allocsync.errors import JournalUnavailable
from allocsync.journal import database as journal_file
from allocsync.journal import writer
from allocsync.journal.entries import Intent, Outcome
from allocsync.model.intent_record import Restored
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.checkpoint import Keeper
from allocsync.reconcile.controller import Loop
from allocsync.reconcile.reconciler import Cycle
from tests.simulation.mutants.mutant import Bug, put, swap


def _unwaited(stack: ExitStack) -> None:
    async def intent(self: Any, allocation: Any, record: Any) -> int:
        if self.problem is not None:
            raise JournalUnavailable(self.problem)
        self._add(writer._Queued(Intent(allocation, record)))
        return int(self._file.head.sequence) + 1

    put(stack, writer.Journal, "intent", intent)


def _unsynced(stack: ExitStack) -> None:
    def make(prepare: Any) -> Any:
        def prepared(connection: Any, path: Any) -> None:
            prepare(connection, path)
            connection.execute("PRAGMA synchronous = NORMAL")

        return prepared

    swap(stack, journal_file, "_prepare", make)


def _loses_outcomes(stack: ExitStack) -> None:
    def make(failed: Any) -> Any:
        def fails(self: Any, batch: Any, reason: str) -> None:
            failed(self, [each for each in batch if not isinstance(each.entry, Outcome)], reason)

        return fails

    swap(stack, writer.Journal, "_failed", make)


def _no_anchor(stack: ExitStack) -> None:
    def make(prune: Any) -> Any:
        def prunes(file: Any, **more: Any) -> int:
            number = int(prune(file, **more))
            if number:
                file.connection.execute("DELETE FROM anchor")
            return number

        return prunes

    swap(stack, writer, "prune", make)


def _forgets_open(stack: ExitStack) -> None:
    def make(restore: Any) -> Any:
        def restores(self: Any) -> Restored:
            restored = restore(self)
            self.connection.execute("DELETE FROM open_intents")
            return Restored(memories=restored.memories)

        return restores

    swap(stack, journal_file.JournalFile, "_restore", make)


def _impatient(stack: ExitStack) -> None:
    def make(resume: Any) -> Any:
        def resumes(self: Lane, left: Any, now: float) -> None:
            resume(self, left, now)
            if self.intent is not None:
                self.intent.settles_at = self.look_at = now
                self.intent.unknown_since = now - 3600.0

        return resumes

    swap(stack, Lane, "outcome_unknown_since_restart", make)


def _forgetful(stack: ExitStack) -> None:
    put(stack, Keeper, "keep", lambda _self, _lane: None)


def _cut_off(stack: ExitStack) -> None:
    def make(send: Any) -> Any:
        async def sends(self: Any, lane_: Lane, update: Any, name: str) -> None:
            try:
                await send(self, lane_, update, name)
            except BaseException:
                if lane_.intent is not None:
                    self._journal.outcome(lane_.id, lane_.intent.sequence, "not_sent", "stopping")
                raise

        return sends

    swap(stack, Cycle, "_send", make)


def _unheard(stack: ExitStack) -> None:
    put(stack, Loop, "journal_works", lambda _self: None)


def _gap_unwaited(stack: ExitStack) -> None:
    put(stack, Lane, "send_nothing_before", lambda *_: None)


BUGS_OF_THE_JOURNAL = (
    Bug("the update leaves before its intent is on the disk", ("P6",), _unwaited),
    Bug("commits are not synced", ("P6",), _unsynced),
    Bug("outcomes are lost on a full disk", ("P7", "P10"), _loses_outcomes),
    Bug("pruning breaks the chain", ("P7",), _no_anchor),
    Bug("open intents are forgotten at the start", ("R1", "P9"), _forgets_open),
    Bug("after a restart the settle time counts from before it", ("R1",), _impatient),
    Bug("what was accepted is forgotten over a restart", ("P2", "R3"), _forgetful),
    Bug("what a stop cuts off is recorded as not sent", ("P9",), _cut_off),
    Bug("nobody is told that the disk works again", ("P1",), _unheard),
    Bug("after a lost journal nothing is waited for", ("R1",), _gap_unwaited),
)
