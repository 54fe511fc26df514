"""The numbers that the deciders go by, in one place and with their defaults. Seconds throughout. Pure."""

from dataclasses import dataclass, field

from allocsync.planning.write_windows import WriteWindows


@dataclass(frozen=True, slots=True)
class Parameters:
    """How long things take before they are judged."""

    settle_seconds: float = 10.0  # after an unknown outcome, before a read may say "not applied"
    settle_least_seconds: float = 5.0
    settle_most_seconds: float = 180.0
    late_write_seconds: float = 900.0  # so long after its end an update may still land
    lag_seen_seconds: float = (
        60.0  # a lag counts only where a look so shortly before did not show the landing
    )
    wait_most_seconds: float = 300.0  # no backoff and no Retry-After is longer
    confirm_seconds: float = (
        1.0  # after an accepted update, before the GET that confirms it (once to twice this)
    )
    propagation_window_seconds: float = 60.0  # an accepted update may take this long to show
    pending_seconds: float = 600.0  # a PENDING status may last this long before it counts as failing
    fresh_seconds: float = 2.0  # a snapshot older than this is not written on
    terminal_seconds: float = 3600.0  # a refused body is tried again after this
    missing_first_seconds: float = 60.0  # the first probe of a missing allocation; doubles
    missing_most_seconds: float = 3600.0
    ignored_seconds: float = 21600.0  # a refused leaf is sent again after this
    followed_first_seconds: float = (
        300.0  # a refused leaf whose live value moves is followed after this; doubles
    )
    conflict_flips: int = 3  # so many flips ...
    conflict_within_seconds: float = 1800.0  # ... within this time make a leaf contested
    conflict_first_seconds: float = 300.0  # and slow it down by this; doubles
    conflict_most_seconds: float = 21600.0
    conflict_clear_seconds: float = 3600.0  # seen equal for this long, the fight is over
    resync_bulk_seconds: float = 60.0  # how often everything is looked at, in one request
    resync_each_seconds: float = 300.0  # and one by one
    get_deadline_seconds: float = 10.0  # the client's own deadlines: past them something is stuck
    post_deadline_seconds: float = 75.0
    writes_per_hour: int | None = None  # of all allocations together
    windows: WriteWindows = field(default_factory=WriteWindows)  # when updates may be sent
    baseline_settled_seconds: float = 300.0  # so long in force and settled, a generation is the baseline
    baseline_age_seconds: float = 3600.0  # and so long after it came into force in any case
    failing_after: int = 3  # failed requests in a row that make the condition Failing
