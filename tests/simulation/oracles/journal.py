"""What must hold in the journal's file: when a process starts, and when the run has ended.

P6   the intent of every sent update is in the file, after a power cut too
P7   no row is lost or changed, the chain verifies, no outcome is lost, and none is false
P9   an update that a stop cut off is open in the journal
R1   no outcome is recorded before a read has settled it
R3   every late write or overwrite of unmanaged fields that a read shows is recorded as one, and nothing else

Left out: what must be recorded of late writes (`late_writes`).
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from allocsync.journal import reader
from allocsync.journal.database import anchor_of
from allocsync.journal.sqlite_errors import READ_ERRORS, message
from allocsync.model.cloud import Json, field_value
from allocsync.model.ids import AllocationId
from tests.simulation.engine.history import Get, History, Post, Truth, Version
from tests.simulation.oracles.history_evidence import ProcessEnds, is_written_by_others, written_by_others
from tests.simulation.oracles.late_writes import unreported

RUNNING: Mapping[str, Json] = {"status": {"cloud": "RUNNING"}}


@dataclass(slots=True)
class JournalOracle:
    """See the module. It keeps what earlier checks of the file have shown."""

    history: History
    process_ends: ProcessEnds
    report_breach: Callable[[str, str], None]
    with_ignored_field: frozenset[AllocationId] = frozenset()
    known_rows: dict[int, bytes] = field(default_factory=dict)
    lost_before: float = -1.0  # earlier updates were in a journal that was lost
    forgotten_before: float = -1.0  # earlier late writes are forgotten: the clock was moved

    def process_started(self, journal: sqlite3.Connection, *, gap_at: float | None) -> None:
        """A process has opened the file and written nothing yet; `gap_at` says that a journal was lost."""
        with self._reading():
            self._process_started(journal, gap_at)

    def _process_started(self, journal: sqlite3.Connection, gap_at: float | None) -> None:
        if gap_at is not None:
            self.known_rows.clear()
            self.lost_before = gap_at
        self._check_rows(journal)
        opened = {sequence for (sequence,) in journal.execute("SELECT sequence FROM open_intents")}
        for post in self._posts():
            if post.unknown_since is not None and not post.settled and post.intent not in opened:
                promise = "P9" if post.answer is None else "R1"
                self.report_breach(promise, f"update {post.number} is open, but not in the journal")

    def run_ended(self, journal: sqlite3.Connection, *, settled: Callable[[Truth], bool]) -> None:
        """The run has ended. `settled` says of an allocation whether every outcome must be recorded."""
        with self._reading():
            self._run_ended(journal, settled)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Report a breach if the file cannot be read, since a process has opened it."""
        try:
            yield
        except READ_ERRORS as error:
            self.report_breach("P7", f"the journal cannot be read: {message(error)}")

    def _run_ended(self, journal: sqlite3.Connection, settled: Callable[[Truth], bool]) -> None:
        self._check_rows(journal)
        outcomes: dict[int, list[tuple[str, str]]] = {}
        for intent, data in journal.execute(
            "SELECT intent, data FROM entries WHERE kind = 'outcome' ORDER BY sequence"
        ):
            ending = json.loads(data)
            outcomes.setdefault(intent, []).append((ending["outcome"], ending["reason"]))
        for key, truth in self.history.truths.items():
            for post in truth.posts:
                if (
                    post.sent > self.lost_before
                    and post.intent is not None
                    and post.intent in self.known_rows
                ):
                    recorded_outcomes = [outcome for outcome, _ in outcomes.get(post.intent, [])]
                    self._check_outcomes(post, truth, recorded_outcomes, settled=settled(truth))
            self._check_late_writes(truth, outcomes, with_ignored_field=key in self.with_ignored_field)

    def _posts(self) -> Iterator[Post]:
        for truth in self.history.truths.values():
            yield from (post for post in truth.posts if post.sent > self.lost_before)

    def _check_rows(self, journal: sqlite3.Connection) -> None:
        checked = reader.verify(journal)
        for problem in checked.problems:
            self.report_breach("P7", f"the chain does not verify: {problem}")
        cut = anchor_of(journal).sequence
        rows = {
            sequence: bytes(row) for sequence, row in journal.execute("SELECT sequence, hash FROM entries")
        }
        for sequence, row in self.known_rows.items():
            if sequence > cut and rows.get(sequence) != row:
                self.report_breach("P7", f"row {sequence} of the journal is lost or changed")
        for post in self._posts():
            if post.intent is not None and post.intent > cut and post.intent not in rows:
                self.report_breach(
                    "P6", f"update {post.number} was sent, but its intent {post.intent} is not in the journal"
                )
        self.known_rows = rows

    def _check_outcomes(
        self, post: Post, truth: Truth, recorded_outcomes: list[str], *, settled: bool
    ) -> None:
        what = (
            f"update {post.number} (row {post.intent}): the journal says {recorded_outcomes or 'no outcome'}"
        )
        if settled and not [each for each in recorded_outcomes if each != "stale_overwrite"]:
            self.report_breach("P7", f"{what}, but it is settled")
        if post.applied is not None and {"rejected", "not_sent"} & set(recorded_outcomes):
            self.report_breach("P7", f"{what}, but it was applied")
        if (
            post.answer in {None, "unknown"}
            and recorded_outcomes[:1] == ["applied"]
            and not _ever_shown(post, truth)
        ):
            self.report_breach("R1", f"{what}, but no read has shown it")
        if "stale_overwrite" in recorded_outcomes and not _overwrote(post, truth):
            self.report_breach("R3", f"{what}, but it overwrote nothing")

    def _check_late_writes(
        self, truth: Truth, outcomes: dict[int, list[tuple[str, str]]], *, with_ignored_field: bool
    ) -> None:
        recorded = {
            intent: {outcome for outcome, _ in recorded_outcomes}
            for intent, recorded_outcomes in outcomes.items()
        }
        for post, what in unreported(
            truth,
            recorded,
            process_ends=self.process_ends,
            since=self.lost_before,
            forgotten_before=self.forgotten_before,
        ):
            self.report_breach(
                "R3", f"update {post.number} was applied late and read, but {what} is not recorded"
            )
        kept = (post for post in truth.posts if post.sent > self.lost_before)
        late = [post for post in kept if "late_applied" in recorded.get(post.intent or -1, ())]
        for post in late:
            alike = [other for other in truth.posts if _overlap(post, other)]
            # An accepted value that shows late can look like a late write too.
            unclear = with_ignored_field or any(_slow(other) for other in truth.posts)
            unclear |= is_written_by_others(post, truth)
            if not unclear and all(other.applied is None for other in alike):
                self.report_breach(
                    "R3", f"update {post.number} is recorded as applied late, but no such update was applied"
                )


def _slow(post: Post) -> bool:
    applied_at = post.applied if post.applied is not None else inf
    return post.answer == "accepted" and applied_at > (post.answered or inf)


def _overlap(post: Post, other: Post) -> bool:
    return any(other.fields.get(name) == value for name, value in post.fields.items())


def _reads(truth: Truth) -> Iterator[tuple[Get, Version]]:
    for get in truth.gets:
        if get.served is not None and get.answered is not None:
            yield get, truth.at(get.served)


def _ever_shown(post: Post, truth: Truth) -> bool:
    return any(
        version.cloud is not None
        and all(field_value(version.cloud, name) == value for name, value in post.changed.items())
        for get, version in _reads(truth)
        if get.order > post.order
    )


def _overwrote(post: Post, truth: Truth) -> bool:
    """Whether this update, one with the same unmanaged fields or another client replaced unmanaged ones."""
    return any(
        other.applied is not None and other.overwrote and other.own_unmanaged_hash == post.own_unmanaged_hash
        for other in truth.posts
    ) or any(
        post.unmanaged_hash({**before, **RUNNING})
        != post.own_unmanaged_hash
        == post.unmanaged_hash({**after, **RUNNING})
        for before, after in written_by_others(truth, post.sent)
    )
