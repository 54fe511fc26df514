"""What the daemon reports of itself, judged by the server's history.

P11  what is reported as in sync was so within the age that is shown with it, and an API that is unreachable
     is said within 30 seconds
P12  no allocation is left alone for longer than its stated next attempt, and a person can always ask for an
     attempt now

The rules: an attempt is a read, an update, or a list at the stated time. A stated time that nothing has kept
is a breach unless a limit, a breaker, a 429, a failing disk or other allocations explain the delay (the same
bounds as in `liveness`). A later time may replace a stated one only if something happened in between: a
request that was sent or failed, an edit, or what a person asked for.

Left out: when the rules demand the next request, also after a person asked for an attempt (`liveness`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId
from allocsync.planning.diff import compare
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.scheduling.reachability import HEARTBEAT_READS
from allocsync.reconcile.status.controller_status import AllocationStatus
from tests.simulation.engine.history import NEVER, History, Truth
from tests.simulation.engine.server import Server
from tests.simulation.faults.request_faults import LIST_TIMEOUT_SECONDS
from tests.simulation.oracles.liveness import LivenessOracle

AGE_RESYNCS = 3.0  # resyncs for which InSync counts without a new observation
RESYNC_JITTER = 1.1
UNREACHABLE_SAID_SECONDS = 30.0
CHANCE_SECONDS = 15.0  # more, from a request on that hung and was served after all
NO_TIME_SECONDS = LIST_TIMEOUT_SECONDS + 30.0  # while a list is under way, no next attempt is stated


@dataclass(frozen=True, slots=True)
class Stated:
    """What was stated of one allocation: when, and the time of its next attempt; infinity for none."""

    at: float
    by: float
    activity: int


class ReportOracle:
    """See the module. Times are virtual seconds. `report_breach(promise, what)` is called for each breach."""

    def __init__(
        self,
        server: Server,
        liveness: LivenessOracle,
        *,
        resync_seconds: float,
        report_breach: Callable[[str, str], None],
    ) -> None:
        self._server = server
        self._history: History = server.history
        self._liveness = liveness
        self._resync_seconds = resync_seconds
        self._report_breach = report_breach
        self._stated: dict[AllocationId, Stated] = {}
        self._started = 0.0
        self._could_ask_since = 0.0

    def process_started(self) -> None:
        """A process has started, which has stated nothing yet."""
        self._stated.clear()
        self._started = self._could_ask_since = self._server.now()

    def judge(self, controller: Controller, wall_offset: float) -> None:
        """Judge what the running process states now, with a wall clock so far ahead of virtual time."""
        if self._history.active is None:
            return
        statuses = tuple(controller.allocations())
        if not self._may_ask():
            self._could_ask_since = self._server.now()
        self.judge_reachability(said=controller.api_status().reachable is False)
        for status in statuses:
            confirmed_at, next_read_at = status.confirmed_at, status.next_read_at
            self.judge_condition(
                status, confirmed_at=-inf if confirmed_at is None else float(confirmed_at) - wall_offset
            )
            self.judge_attempt(status.id, inf if next_read_at is None else float(next_read_at) - wall_offset)

    # P11.

    def judge_condition(self, status: AllocationStatus, *, confirmed_at: float) -> None:
        """An allocation that is reported in sync was so within the age that is shown with it.

        The proof began at `confirmed_at`, and is at most AGE_RESYNCS resyncs old.
        """
        desired = self._history.desired(status.id)
        if status.condition is not Condition.IN_SYNC or desired is None:
            return
        age_seconds = min(self._server.now() - confirmed_at, AGE_RESYNCS * self._resync_seconds)
        since = self._server.now() - age_seconds
        clouds = _clouds_since(self._history.truths[status.id], since)
        if not any(cloud is not None and not compare(desired, cloud) for cloud in clouds):
            self._report_breach(
                "P11", f"{status.id} is reported in sync, but was not in the last {age_seconds:.0f} s"
            )

    def judge_reachability(self, *, said: bool) -> None:
        """An outage of the whole API is said in time, from when there is an allocation to ask for."""
        outage = self._server.request_faults.whole_outage(self._server.now())
        if outage is None:
            return
        since, served_at = max(outage.begin, self._started, self._could_ask_since), self._last_success()
        if served_at > since:  # by chance; then most of those that fail now failed before, and count less
            since = served_at + CHANCE_SECONDS
        if not said and self._server.now() > since + UNREACHABLE_SAID_SECONDS:
            self._report_breach("P11", f"the API is unreachable since {since:.3f}, and nothing says so")

    def _may_ask(self) -> bool:
        """Whether a heartbeat may read two allocations, or all if there are fewer."""
        declared = ((key, self._history.desired(key)) for key in self._history.truths)
        read = [key for key, desired in declared if desired is not None and desired.mode is not Mode.SUSPEND]
        idle = [key for key in read if self._liveness.may_be_asked(key)]
        return bool(read) and len(idle) >= min(HEARTBEAT_READS, len(read))

    def _last_success(self) -> float:
        """When a request succeeded last: some that hang in an outage are answered late."""
        truths = self._history.truths.values()
        reads = (get.answered for truth in truths for get in truth.gets[-3:] if get.ok)
        updates = (
            post.answered for truth in truths for post in truth.posts[-3:] if post.answer == "accepted"
        )
        lists = (at for at, ok in self._history.list_ends[-3:] if ok)
        return max((at for at in (*reads, *updates, *lists) if at is not None), default=0.0)

    # P12.

    def judge_attempt(self, key: AllocationId, by: float) -> None:
        """The next attempt of an allocation is stated for `by`; infinity if none is stated."""
        now, activity = self._server.now(), self._activity(key)
        stated = self._stated.get(key)
        if stated is None or stated.activity != activity or self._is_listed(stated):
            self._stated[key] = Stated(now, by, activity)
            return
        if by == inf and self._may_wait_for_ever(key):  # its update was held back after the edit
            self._stated[key] = Stated(now, inf, activity)
            return
        if by == inf:
            if stated.by < inf:
                self._stated[key] = Stated(now, inf, activity)
            elif now > stated.at + NO_TIME_SECONDS:
                self._report_breach("P12", f"no next attempt of {key} is stated since {stated.at:.3f}")
            return
        if by < stated.by:
            self._stated[key] = stated = Stated(now, by, activity)
        if stated.by < inf and self._liveness.is_left_alone(key, stated.by):
            self._report_breach(
                "P12", f"the next attempt of {key} was stated for {stated.by:.3f}, and none was made"
            )

    def _activity(self, key: AllocationId) -> int:
        """A number that changes with each event that may move the next attempt of this allocation."""
        history, truth = self._history, self._history.truths[key]
        number: int = (
            len(truth.gets)
            + len(truth.posts)
            + len(truth.edits)
            + sum(get.answered is not None for get in truth.gets[-1:])
            + sum(post.answered is not None for post in truth.posts[-1:])
            + len(history.resync_requests)
            + len(history.openings)
            + len(history.retries)
            + history.failures
            + len(history.list_ends)
        )
        return number

    def _is_listed(self, stated: Stated) -> bool:
        """Whether a list began by the stated time, or is under way."""
        margin = self._liveness.slack_seconds
        if len(self._history.list_begins) > len(self._history.list_ends):
            return True
        return any(stated.at <= at <= stated.by + margin for at in self._history.list_begins[-1:])

    def _may_wait_for_ever(self, key: AllocationId) -> bool:
        desired = self._history.desired(key)
        return desired is None or desired.mode is Mode.SUSPEND


def _clouds_since(truth: Truth, since: float) -> Iterator[Cloud | None]:
    """What the truth was at any time from `since` on, the newest first."""
    until = NEVER
    for version in reversed(truth.versions):
        if until < since:
            return
        yield version.cloud
        until = version.at
