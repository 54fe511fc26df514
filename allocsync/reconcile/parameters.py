"""The numbers that reconciliation decides by, in one place and with their defaults. Pure.

The rule: every duration is in seconds and has the suffix `_seconds`. "Doubles" means that each further time
waits twice as long as the one before, up to the matching maximum.

Left out: which of them a user can set (`settings.model`).
"""

from dataclasses import dataclass, field

from allocsync.planning.write_windows import WriteWindows


@dataclass(frozen=True, slots=True)
class Parameters:
    """Durations, counts and limits of reconciliation."""

    # Updates of unknown outcome.
    settle_seconds: float = 10.0  # the first settle time; a read before that cannot say "not applied"
    settle_min_seconds: float = 5.0
    settle_max_seconds: float = 180.0
    late_write_seconds: float = 900.0  # how long an update may still be applied after it was given up
    lag_seen_seconds: float = 60.0  # a lag is learned only if the last read without the write is this recent
    wait_max_seconds: float = 300.0  # the longest backoff and the longest Retry-After

    # Updates that were accepted or rejected.
    confirm_seconds: float = 1.0  # the confirming read follows an accepted update after one to two times this
    propagation_window_seconds: float = 60.0  # how long an accepted update may take to show; at least
    propagation_window_max_seconds: float = 900.0  # ... and at most, whatever was learned
    processing_window_seconds: float = 600.0  # ... and at least after a 202, which is accepted and not done
    pending_seconds: float = 600.0  # a status that is PENDING for longer counts as failing
    fresh_seconds: float = 2.0  # no update is built on a snapshot that is older
    cache_wait_seconds: float = 60.0  # the longest wait for a newer answer of a cache
    terminal_seconds: float = 3600.0  # a rejected body is sent again after this
    rejected_max_seconds: float = 3600.0  # the longest backoff after `RejectionClass.OTHER`
    missing_first_seconds: float = 60.0  # the first repeated read of a missing allocation; doubles
    missing_max_seconds: float = 3600.0

    # Fields that do not keep the desired value.
    field_retry_first_seconds: float = 300.0  # the first wait of an ignored field or of a conflict; doubles
    field_retry_max_seconds: float = 21600.0
    conflict_flips: int = 3  # a field changed back this many times ...
    conflict_within_seconds: float = 1800.0  # ... within this time is in conflict
    conflict_windows: float = 6.0  # ... or within this many propagation windows, if that is longer
    flips_kept_seconds: float = 86400.0  # the same number within this time is named, and slows nothing
    conflict_clear_seconds: float = 3600.0  # a conflict ends when the field keeps its value for this long

    # Requests.
    resync_bulk_seconds: float = 60.0  # how often everything is read with the list
    resync_each_seconds: float = 300.0  # how often each allocation is read by itself, without the list
    heartbeat_seconds: float = 10.0  # after so long without a success two allocations are read
    get_deadline_seconds: float = 10.0  # the client's own deadlines; a request that exceeds them is stuck
    post_deadline_seconds: float = 75.0
    writes_per_hour: int | None = None  # for all allocations together; None: no limit
    windows: WriteWindows = field(default_factory=WriteWindows)  # when updates may be sent

    # Revisions and conditions.
    baseline_settled_seconds: float = 300.0  # a revision active and settled for this long is the baseline
    baseline_age_seconds: float = 3600.0  # an active revision becomes the baseline after this in any case
    failing_after: int = 3  # failed requests in a row that make the condition Failing
