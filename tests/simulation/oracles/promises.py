"""What must hold at each step of a run, judged by the history and the journal's file alone.

P2   no update is sent to an allocation in sync; an accepted value is not sent again without a reason: inside
     its propagation window, or before the schedule of a field that does not show; a value that others change
     back again and again is sent on the schedule of a conflict
P3   an update carries every unmanaged field exactly as in the snapshot just before it
P4   a process never has two requests for one allocation under way
P6   every update is in the journal before it is sent
P5   no update is sent before the Retry-After of an earlier one ends, and after a 429 none of any allocation
P8   an update carries what the active revision declares, and nothing that the change limit holds
R1   after an update of unknown outcome, no other is sent before a read has settled it: one that shows it, or
     one that began a settle time after it became unknown (in a new process: after that process started)

Left out: when the next request is due (`liveness`), what the journal says of outcomes (`journal`), pauses,
windows and quota (`write_gates`), and what is reported (`reports`).
"""

import json
import sqlite3
from collections.abc import Callable
from math import inf
from pathlib import Path

from allocsync.model.api_answers import (
    Accepted,
    Live,
    NotSent,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.cloud import Cloud, field_value
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored, hash_unmanaged_fields, intent_from
from allocsync.model.times import WallTime
from allocsync.planning.diff import merge
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.parameters import Parameters
from tests.simulation.engine.history import Get, Post, Truth
from tests.simulation.engine.server import Server
from tests.simulation.oracles.history_evidence import (
    CLOCK_TOLERANCE_SECONDS,
    is_recorded,
    reason_to_resend,
)
from tests.simulation.oracles.journal import JournalOracle
from tests.simulation.oracles.liveness import SLACK_SECONDS, TOO_MANY_REQUESTS, LivenessOracle
from tests.simulation.oracles.reports import ReportOracle
from tests.simulation.oracles.write_gates import WriteGatesOracle

RULES = Parameters()
PROCESSING = 202
# Accepted updates of a field within half an hour: each of the three flips that make a conflict may follow an
# update and another one that was sent because the first did not show. Two follow by the schedule.
CONFLICT_UPDATES = 8


class PromiseOracle:
    """See the module. `report_breach(promise, what)` is called for each breach."""

    def __init__(
        self,
        server: Server,
        *,
        resync_seconds: float,
        bulk: bool,
        gates: WriteGatesOracle,
        report_breach: Callable[[str, str], None],
        note: Callable[..., None],
    ) -> None:
        self._server = server
        self._history = server.history
        self._report_breach = report_breach
        self._note = note
        self.journal: sqlite3.Connection | None = None
        self._under_way: set[AllocationId] = set()
        self._longest_unknown: list[
            tuple[float, float]
        ] = []  # in this process: when, and how long the update took
        self._process = 0
        self._gap: WallTime | None = None  # wall time of the last gap; two gaps may have the same
        self.commit_seconds = 0.0
        self.gates = gates
        self.liveness = LivenessOracle(
            server, resync_seconds=resync_seconds, bulk=bulk, gates=gates, report_breach=report_breach
        )
        self._reports = ReportOracle(
            server, self.liveness, resync_seconds=resync_seconds, report_breach=report_breach
        )
        self._retry_after_until: dict[AllocationId, float] = {}  # in this process
        self._slowed: tuple[float, float] = (-inf, -inf)  # by a 429: since when and until when
        with_ignored_field = frozenset(key for key, each in server.allocations.items() if each.ignored_field)
        self.journal_oracle = JournalOracle(
            self._history, self.liveness.process_ends, report_breach, with_ignored_field
        )

    # Processes.

    def process_started(self, process: int, journal: Path, restored: Restored, *, wall: WallTime) -> None:
        """A process has started with what its journal restored; `wall` is its wall time."""
        now = self._server.now()
        self._process = process
        self._history.process_started(process, now)
        self._under_way.clear()
        self._longest_unknown.clear()
        self._history.active = None
        self.journal = sqlite3.connect(f"file:{journal}?mode=ro", uri=True, isolation_level=None)
        gap = restored.gap_at is not None and (bool(restored.gap) or restored.gap_at != self._gap)
        if restored.gap_at is not None and gap:
            self._gap, self._history.gap_at = restored.gap_at, now
            self._mark_unknown(now - (wall - restored.gap_at))
        opened = {each.sequence for each in restored.open_intents}
        self._add_unsent_updates(restored, process)
        for truth in self._history.truths.values():
            for post in truth.posts:
                if post.process == process or post.sent < self._history.gap_at:
                    continue
                if post.intent in opened:
                    post.unknown_since, post.settled, post.confirmed = now, False, False
                elif not post.settled and (post.answer is None or post.unknown_since is not None):
                    post.unknown_since = now
        self._retry_after_until.clear()
        self._slowed = (-inf, -inf)
        self._reports.process_started()

        def is_surely_recorded(process: int, at: float) -> bool:
            return is_recorded(process, at, self.liveness.process_ends)

        self.gates.process_started(now, is_recorded=is_surely_recorded, gap=gap, open_intents=len(opened))
        self._history.change_limit.process_started(process, is_recorded=is_surely_recorded, gap=gap)
        self.journal_oracle.process_started(self.journal, gap_at=now if gap else None)
        self.liveness.journal = self.journal
        recent = restored.gap_at is not None and wall - restored.gap_at < RULES.settle_max_seconds
        self.liveness.process_started(gap=gap, waits=recent)

    def _mark_unknown(self, since: float) -> None:
        """A journal was lost: open outcomes count as unknown since then, though no process knows of them."""
        for truth in self._history.truths.values():
            for post in truth.posts:
                if not post.settled and (post.answer is None or post.unknown_since is not None):
                    post.unknown_since = since

    def _add_unsent_updates(self, restored: Restored, process: int) -> None:
        """Add updates that were recorded and never sent: for a process they are open like others."""
        for left in restored.open_intents:
            truth = self._history.truths[left.allocation]
            known = (post.intent for post in truth.posts if post.sent >= self._history.gap_at)
            if left.sequence not in known:
                self._history.add_unsent_update(process - 1, left, self._server.now())

    def process_ended(self) -> None:
        """No process runs."""
        self._under_way.clear()
        self.liveness.process_ends.processes.setdefault(self._process, self._server.now())
        self._history.process_ended(self._server.now())
        self.liveness.process_ended()
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def wall_clock_moved(self, seconds: float, wall_offset: float) -> None:
        """The wall clock was moved while no process ran; it is `wall_offset` ahead of virtual time now."""
        self.gates.wall_clock_moved(seconds, wall_offset)
        self.liveness.wall_clock_moved(seconds)
        self.journal_oracle.forgotten_before = self.liveness.forgotten_before

    def commits_slowed(self, commit_seconds: float) -> None:
        """Commits take `commit_seconds` from now on."""
        self.commit_seconds = max(self.commit_seconds, commit_seconds + 0.01)
        self.liveness.slack_seconds = SLACK_SECONDS + 4 * self.commit_seconds

    def activated(self, revision: Revision, *, approved: bool = False) -> None:
        """A process got this revision, or a person approved it."""
        for key, before in self._history.activate(revision, self._server.now(), approved=approved):
            self.liveness.desired_changed(key, first=before is None)

    def nothing_awaits_approval(self, revision: Revision) -> None:
        """A person was told that this revision does not await approval."""
        active = self._history.active
        if active is not None and active.id == revision.id:
            self._history.change_limit.release(self._server.now())

    def pause_begun(self, scope: AllocationId | None, seconds: float) -> None:
        """A person was told that updates are paused for so long."""
        self.gates.pause_begun(scope, seconds, process=self._process, now=self._server.now())
        self._history.openings.append((self._server.now() + seconds, scope))

    def pause_lifted(self, scope: AllocationId | None) -> None:
        """A person was told that the pause has ended."""
        self.gates.pause_lifted(scope, process=self._process, now=self._server.now())
        self._history.openings.append((self._server.now(), scope))
        self.liveness.pause_lifted(scope)

    def retried(self, scope: AllocationId | None) -> None:
        """A person was told that one allocation, or all, is tried again."""
        self._history.add_retry(scope, self._server.now())
        self.liveness.retried(scope)

    def status_reported(self, controller: Controller, wall_offset: float) -> None:
        """Judge what the running process reports now."""
        self._reports.judge(controller, wall_offset)

    # Reads.

    def read_sent(self, process: int, key: AllocationId) -> Get:
        """A read is sent."""
        self._send_request(key)
        return self._history.add_read(process, key, self._server.now())

    def read_answered(self, get: Get, answer: Snapshot) -> None:
        """A read was answered."""
        self._under_way.discard(get.key)
        get.answered = self._server.now()
        self._history.failures += not get.ok
        self._note("client", get.key, f"read: {_short(answer)}")
        if get.cloud is not None or get.gone:
            for post in self._history.truths[get.key].posts:
                if post.unknown_since is not None and not post.settled and self._settles(get, post):
                    post.settled = True
        self.liveness.read_answered(get, answer)

    def _settles(self, get: Get, post: Post) -> bool:
        since = post.unknown_since
        if since is None or get.evidence_at < since - CLOCK_TOLERANCE_SECONDS:
            return False
        shown = get.cloud is None or all(
            field_value(get.cloud, name) == value for name, value in post.changed.items()
        )
        post.confirmed = shown
        settle_seconds = self._settle_seconds(get.begun)
        return shown or get.evidence_at >= since + settle_seconds - CLOCK_TOLERANCE_SECONDS

    def _settle_seconds(self, at: float) -> float:
        """The shortest that the settle time can be."""
        longest = max((took for when, took in self._longest_unknown if when < at), default=0.0)
        return max(RULES.settle_seconds, min(longest, RULES.settle_max_seconds))

    def _send_request(self, key: AllocationId) -> None:
        if key in self._under_way:
            self._report_breach("P4", f"two requests for {key} are under way")
        self._under_way.add(key)
        self.liveness.request_sent(key)

    # Updates.

    def update_sent(self, process: int, key: AllocationId, body: Cloud) -> Post:
        """An update is sent."""
        self._send_request(key)
        desired = self._history.desired(key)
        fields = dict(desired.fields) if desired is not None else {}
        post = self._history.add_update(process, key, body, fields, self._server.now())
        self._note("client", key, f"update {post.number} is sent: {fields}")
        self._check_recorded(post)
        self._check_waits(post)
        self.gates.update_sent(post.sent)
        if self._check_desired(post, desired):
            truth = self._history.truths[key]
            self._check_settled(post, truth)
            self._check_body(post, desired)
            self._check_needed(post, truth)
            self._check_not_resent(post, truth)
            self._check_damped(post, truth)
        return post

    def _check_recorded(self, post: Post) -> None:
        if self.journal is None:
            raise AssertionError("an update was sent before its process had started")
        found = self.journal.execute(
            "SELECT sequence, data FROM entries JOIN open_intents USING (sequence)"
            " WHERE entries.allocation = ?",
            (post.key,),
        ).fetchone()
        if found is None:
            self._report_breach("P6", f"update {post.number} was sent, but has no open intent in the journal")
            return
        post.intent, record = found[0], intent_from(json.loads(found[1]))
        names = [name for name, _ in record.fields]
        carried = tuple((name, field_value(post.body, name)) for name in names)
        if carried != record.fields or record.unmanaged_hash != hash_unmanaged_fields(post.body, names):
            self._report_breach(
                "P6", f"update {post.number} was sent, but its intent {found[0]} is of another update"
            )

    def _check_waits(self, post: Post) -> None:
        if why := self.gates.why_closed(post.key, post.sent):
            self._report_breach("G1", f"update {post.number} was sent, but {why}")
        until = self._retry_after_until.get(post.key, -inf)
        if post.sent < until - CLOCK_TOLERANCE_SECONDS:
            self._report_breach(
                "P5", f"update {post.number} was sent before Retry-After ended at {until:.3f}"
            )
        since, until = self._slowed
        begun = post.sent if post.snapshot is None else post.snapshot.begun
        if since < begun and post.sent < until - CLOCK_TOLERANCE_SECONDS:
            self._report_breach(
                "P5", f"update {post.number} was begun after a 429 and sent before {until:.3f}"
            )

    def _check_desired(self, post: Post, desired: Desired | None) -> bool:
        change_limit = self._history.change_limit
        if post.key in change_limit.held and self._history.are_canaries_verified():
            change_limit.release(post.sent)
        if desired is None or desired.mode is not Mode.ENFORCE or post.key in change_limit.held:
            self._report_breach("P8", f"update {post.number} was sent, but none may be: {desired}")
            return False
        carried = {name: field_value(post.body, name) for name in post.fields}
        if carried != post.fields:
            self._report_breach("P8", f"update {post.number} carries {carried}; active is {post.fields}")
            return False
        return True

    def _check_body(self, post: Post, desired: Desired | None) -> None:
        get = post.snapshot
        if get is None or get.cloud is None or get.answered is None or desired is None:
            self._report_breach("P3", f"update {post.number} was sent without a snapshot")
        elif (
            get.process != post.process
            or post.sent - get.answered
            > RULES.fresh_seconds + 2 * self.commit_seconds + CLOCK_TOLERANCE_SECONDS
        ):
            self._report_breach(
                "P3", f"update {post.number} was sent {post.sent - get.answered:.3f} s after its snapshot"
            )
        elif post.body != merge(desired, get.cloud):
            self._report_breach("P3", f"update {post.number} is not its snapshot with the declared fields")

    def _check_needed(self, post: Post, truth: Truth) -> None:
        get = post.snapshot
        if truth.now.cloud is None or get is None or get.served is None:
            return
        if _equal(truth.now.cloud, post) and _equal(truth.at(get.served).cloud, post):
            self._report_breach("P2", f"update {post.number} was sent, but its fields were there already")

    def _check_settled(self, post: Post, truth: Truth) -> None:
        for other in truth.posts:
            unknown = other.unknown_since
            if (
                other is post
                or unknown is None
                or other.settled
                or unknown < self.journal_oracle.forgotten_before
            ):
                continue
            self._report_breach(
                "R1", f"update {post.number} was sent while the outcome of update {other.number} was open"
            )

    def _check_not_resent(self, post: Post, truth: Truth) -> None:
        remembered_from = max(self._history.gap_at, self.journal_oracle.forgotten_before)
        new_tries = tuple(self._history.new_tries(post.key))
        reasons = [
            reason_to_resend(
                name,
                post,
                truth,
                self.liveness.process_ends,
                new_tries=new_tries,
                remembered_from=remembered_from,
            )
            for name in post.changed
        ]
        if reasons and not any(reasons):
            again = ", ".join(post.changed)
            self._report_breach(
                "P2", f"update {post.number} resends accepted values without a reason: {again}"
            )

    def _check_damped(self, post: Post, truth: Truth) -> None:
        """Others change a field back: it is sent at most so often in half an hour, however often they do.

        These are the updates of this process since the last edit or retry.
        """
        asked = max(self._history.new_tries(post.key), default=0)
        own = [each for each in truth.posts if each.process == post.process and each.order > asked]
        late = sum(each.unknown_since is not None for each in own)
        since = post.sent - RULES.conflict_within_seconds
        accepted = [each for each in own if each.answer == "accepted" and each.sent > since]
        for name in post.changed:
            number = sum(name in each.changed for each in accepted)
            if number >= CONFLICT_UPDATES + late:
                self._report_breach(
                    "P2", f"update {post.number} sends {name} again, after {number} accepted updates"
                )

    def update_answered(self, post: Post, answer: UpdateAnswer) -> None:
        """An update was answered."""
        self._under_way.discard(post.key)
        now = post.answered = self._server.now()
        self._history.failures += not isinstance(answer, Accepted)
        match answer:
            case Accepted(status):
                post.answer = "accepted"
                is_processing = status == PROCESSING
                post.window_seconds = (
                    RULES.processing_window_seconds if is_processing else RULES.propagation_window_seconds
                )
            case Rejected():
                post.answer, post.terminal = (
                    "rejected",
                    answer.kind in {RejectionClass.BODY, RejectionClass.GONE},
                )
            case NotSent():
                post.answer = "not_sent"
            case OutcomeUnknown():
                post.answer, post.unknown_since = "unknown", now
                self._longest_unknown.append((now, now - post.sent))
        if isinstance(answer, Rejected):
            self._note_retry_after(post.key, answer, now)
        self._note("client", post.key, f"update {post.number}: {_short(answer)}")
        self.liveness.update_answered(post, answer)

    def _note_retry_after(self, key: AllocationId, answer: Rejected, now: float) -> None:
        """A rejection for good may be followed by an edited body, which is not judged here."""
        until = now + min(answer.retry_after_seconds or 0.0, RULES.wait_max_seconds)
        if answer.kind not in {RejectionClass.BODY, RejectionClass.GONE}:
            self._retry_after_until[key] = until
        if answer.status == TOO_MANY_REQUESTS and until > max(now, self._slowed[1]):
            self._slowed = (now, until)

    def update_cut_off(self, post: Post) -> None:
        """The process stops before the update is answered."""
        self._under_way.discard(post.key)
        self._note("client", post.key, f"update {post.number} is cut off")


def _equal(cloud: Cloud | None, post: Post) -> bool:
    return cloud is not None and all(field_value(cloud, name) == value for name, value in post.fields.items())


def _short(answer: object) -> str:
    if isinstance(answer, Live):
        shown = (str(field_value(answer.cloud, name)) for name in ("region", "version", "urls.vanity.url"))
        return f"region {{}}, version {{}}, vanity {{}}, {field_value(answer.cloud, 'status.cloud')}".format(
            *shown
        )
    return str(getattr(answer, "reason", "")) or type(answer).__name__
