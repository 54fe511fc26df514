"""Mutants of gates, limits and reports.

Left out: mutants of deciding and sending, and the list of all mutants (`mutants`).
"""
# ruff: noqa: SLF001 - mutants replace private functions and change private attributes

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from allocsync.model.api_answers import Rejected, Snapshot, UpdateAnswer
from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import LONG_AGO, Monotonic
from allocsync.reconcile import checkpoint_codecs, reconciler
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.checkpoint import Checkpoint
from allocsync.reconcile.gates.write_gate import WriteGate
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.pause_control import PauseControl
from allocsync.reconcile.rollout.canaries import Canaries
from allocsync.reconcile.scheduling.scheduler import Scheduler
from allocsync.reconcile.status import report
from allocsync.reconcile.status.condition_rules import project
from tests.simulation.mutants.mutant import Mutant, replace_function

PAUSES = "pause/"  # the prefix of stored pauses


def _ignore_pause_before_sending(stack: ExitStack) -> None:
    def blocked_reason(self: WriteGate, key: AllocationId, now: Monotonic) -> str:
        return self.awaiting_reason if key in self.awaiting_approval else self.shared_limit_reason(now)

    replace_function(stack, WriteGate.blocked_reason, blocked_reason)


def _forget_pauses_over_restart(stack: ExitStack) -> None:
    original = Checkpoint.stored

    def stored(self: Checkpoint, prefix: str) -> Mapping[str, Any]:
        return {} if prefix == PAUSES else original(self, prefix)

    replace_function(stack, Checkpoint.stored, stored)


def _ignore_windows_before_sending(stack: ExitStack) -> None:
    def blocked_reason(self: WriteGate, key: AllocationId, now: Monotonic) -> str:
        if key in self.awaiting_approval:
            return self.awaiting_reason
        quota = "write quota used up" if self.write_quota.is_exhausted(now) else ""
        return str(self.active_pause(key, now) or quota)

    replace_function(stack, WriteGate.blocked_reason, blocked_reason)


def _forget_quota_over_restart(stack: ExitStack) -> None:
    def decode(_stored: Mapping[str, Any], _clocks: checkpoint_codecs.Clocks) -> list[tuple[Monotonic, int]]:
        return []

    replace_function(stack, checkpoint_codecs.decode_write_quota, decode)


def _verify_canary_by_answer(stack: ExitStack) -> None:
    def is_verified(self: Canaries, allocation: ManagedAllocation) -> bool:
        return allocation.written_at > LONG_AGO and not self._reported[allocation.id].paused

    replace_function(stack, Canaries._is_verified, is_verified)


def _ignore_retry_after_of_rejection(stack: ExitStack) -> None:
    original = reconciler._retry_after

    def retry_after(answer: Snapshot | UpdateAnswer) -> float | None:
        return None if isinstance(answer, Rejected) else original(answer)

    replace_function(stack, reconciler._retry_after, retry_after)


def _do_not_slow_others_after_429(stack: ExitStack) -> None:
    original = Scheduler.block_until

    def block_until(self: Scheduler, operation: Operation, until: Monotonic) -> None:
        if operation is Operation.READ:
            original(self, operation, until)

    replace_function(stack, Scheduler.block_until, block_until)


def _keep_slot_of_slow_request(stack: ExitStack) -> None:
    original = Scheduler.release

    def release(self: Scheduler, allocation: ManagedAllocation, operation: Operation, now: Monotonic) -> None:
        if allocation.id not in self._concurrency.limits[operation].slow:
            original(self, allocation, operation, now)

    replace_function(stack, Scheduler.release, release)


def _do_not_read_after_pause(stack: ExitStack) -> None:
    def requeue_affected(_self: PauseControl, _key: AllocationId | None) -> None:
        """Read nothing."""

    replace_function(stack, PauseControl._requeue_affected, requeue_affected)


def _show_in_sync_for_ever(stack: ExitStack) -> None:
    def always_current(
        allocation: ManagedAllocation, now: Monotonic, resync_seconds: float
    ) -> tuple[Condition, str]:
        return project(allocation, now, 1000 * resync_seconds)

    replace_function(stack, project, always_current, imported_by=report)


def _restore_half_of_quota(stack: ExitStack) -> None:
    def spend(_self: Checkpoint) -> None:
        """Count only what is stored."""

    replace_function(stack, Checkpoint._count_open_intents, spend)


GATE_MUTANTS: Sequence[Mutant] = (
    Mutant("a pause is ignored by the last check before sending", ("G1",), _ignore_pause_before_sending),
    Mutant("pauses are forgotten over a restart", ("G1",), _forget_pauses_over_restart),
    Mutant(
        "write windows are ignored by the last check before sending", ("G1",), _ignore_windows_before_sending
    ),
    Mutant("the write quota begins anew with each process", ("G1",), _forget_quota_over_restart),
    Mutant("an update cut off by a crash spends no quota", ("G1",), _restore_half_of_quota),
    Mutant("a canary counts as verified when its update was answered", ("P8",), _verify_canary_by_answer),
    Mutant("Retry-After of a rejected update is ignored", ("P5",), _ignore_retry_after_of_rejection),
    Mutant("a 429 to an update delays no other update", ("P5",), _do_not_slow_others_after_429),
    Mutant("a slow request keeps its slot for ever", ("P10", "P1"), _keep_slot_of_slow_request),
    Mutant("the end of a pause causes no read", ("P1", "P12"), _do_not_read_after_pause),
    Mutant("InSync is shown however old the read is", ("P11", "P12"), _show_in_sync_for_ever),
)
