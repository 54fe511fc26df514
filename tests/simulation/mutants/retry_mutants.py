"""Mutants of retries that a person asks for, and of fields that others change back.

Left out: mutants of deciding and sending, and the list of all mutants (`mutants`).
"""

from collections.abc import Sequence
from contextlib import ExitStack

from allocsync.model.times import Monotonic
from allocsync.reconcile.allocation.field_records import FieldRecord
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.write_backoff import BACKOFF
from allocsync.reconcile.parameters import Parameters
from tests.simulation.mutants.mutant import Mutant, replace_function


def _keep_backoff_at_retry(stack: ExitStack) -> None:
    original = ManagedAllocation.retry

    def retry(self: ManagedAllocation, now: Monotonic) -> None:
        until = self.write_backoff.until.get(BACKOFF)
        original(self, now)
        if until is not None:
            self.write_backoff.until[BACKOFF] = until

    replace_function(stack, ManagedAllocation.retry, retry)


def _end_retry_after_at_retry(stack: ExitStack) -> None:
    original = ManagedAllocation.retry

    def retry(self: ManagedAllocation, now: Monotonic) -> None:
        self.write_backoff.until.clear()
        original(self, now)

    replace_function(stack, ManagedAllocation.retry, retry)


def _lose_retry_during_request(stack: ExitStack) -> None:
    original = ManagedAllocation.retry

    def retry(self: ManagedAllocation, now: Monotonic) -> None:
        original(self, now)
        self.edited_during_request = False

    replace_function(stack, ManagedAllocation.retry, retry)


def _do_not_slow_conflicts(stack: ExitStack) -> None:
    def enter_conflict(_self: FieldRecord, _now: Monotonic, _rules: Parameters) -> None:
        """Send the value again whenever it is changed back."""

    replace_function(stack, FieldRecord.enter_conflict, enter_conflict)


RETRY_MUTANTS: Sequence[Mutant] = (
    Mutant("a retry does not end the backoff", ("P1", "P12"), _keep_backoff_at_retry),
    Mutant("a retry ends Retry-After", ("P5",), _end_retry_after_at_retry),
    Mutant("a retry during a request is lost", ("P12", "P1"), _lose_retry_during_request),
    Mutant("a conflict with another writer slows nothing", ("P2",), _do_not_slow_conflicts),
)
