"""What must hold in the journal's file: when a process starts, and when the run is over.

P6   every update that left has its intent in the file, after a power cut too
P7   no row is lost or changed, the chain verifies, no outcome is lost, none says what is not so
P9   what a stop cut off is in the journal as open
R1   no outcome is given before a read has settled it
R3   a late landing that a read shows is told as one, and so is an overwrite of what is not declared; nothing
     else is told as one
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from allocsync.journal import reader
from allocsync.journal.database import anchor_of
from allocsync.journal.sqlite_errors import READ_ERRORS, message
from allocsync.model.cloud import leaf
from allocsync.model.ids import AllocationId
from allocsync.reconcile.parameters import Rules
from tests.simulation.engine.history import Get, History, Post, Truth, Version
from tests.simulation.oracles.history_evidence import Ended
from tests.simulation.oracles.late_writes import untold

RULES = Rules()
HAIR = 1e-6


@dataclass(slots=True)
class Audit:
    """See the module. Keeps what earlier looks at the file have shown."""

    history: History
    ended: Ended
    broken: Callable[[str, str], None]
    deaf: frozenset[AllocationId] = frozenset()
    known: dict[int, bytes] = field(default_factory=dict)
    lost_before: float = -1.0  # what was sent before is in a journal that was damaged
    forgotten_before: float = -1.0  # what happened before is forgotten: the clock has jumped ahead

    def started(self, journal: sqlite3.Connection, *, gap_at: float | None) -> None:
        """A process has opened the file and done nothing yet."""
        with self._reading():
            self._started(journal, gap_at)

    def _started(self, journal: sqlite3.Connection, gap_at: float | None) -> None:
        if gap_at is not None:
            self.known.clear()
            self.lost_before = gap_at
        self._rows(journal)
        opened = {sequence for (sequence,) in journal.execute("SELECT sequence FROM open_intents")}
        for post in self._posts():
            if post.unknown_since is not None and not post.settled and post.intent not in opened:
                promise = "P9" if post.answer is None else "R1"
                self.broken(promise, f"update {post.number} is open, and the journal does not say so")

    def over(self, journal: sqlite3.Connection, *, settled: Callable[[Truth], bool]) -> None:
        """The run is over; `settled` says of which allocations everything must be known."""
        with self._reading():
            self._over(journal, settled)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A file that cannot be read, though a process has opened it, is a breach."""
        try:
            yield
        except READ_ERRORS as error:
            self.broken("P7", f"the journal cannot be read: {message(error)}")

    def _over(self, journal: sqlite3.Connection, settled: Callable[[Truth], bool]) -> None:
        self._rows(journal)
        outcomes: dict[int, list[tuple[str, str]]] = {}
        for intent, data in journal.execute(
            "SELECT intent, data FROM entries WHERE kind = 'outcome' ORDER BY sequence"
        ):
            said = json.loads(data)
            outcomes.setdefault(intent, []).append((said["outcome"], said["reason"]))
        for key, truth in self.history.truths.items():
            for post in truth.posts:
                if post.sent > self.lost_before and post.intent is not None and post.intent in self.known:
                    said = [outcome for outcome, _ in outcomes.get(post.intent, [])]
                    self._outcomes(post, truth, said, settled=settled(truth))
            self._late(truth, outcomes, deaf=key in self.deaf)

    def _posts(self) -> Iterator[Post]:
        for truth in self.history.truths.values():
            yield from (post for post in truth.posts if post.sent > self.lost_before)

    def _rows(self, journal: sqlite3.Connection) -> None:
        checked = reader.verify(journal)
        for problem in checked.problems:
            self.broken("P7", f"the chain does not verify: {problem}")
        cut = anchor_of(journal).sequence
        rows = {
            sequence: bytes(row) for sequence, row in journal.execute("SELECT sequence, hash FROM entries")
        }
        for sequence, row in self.known.items():
            if sequence > cut and rows.get(sequence) != row:
                self.broken("P7", f"row {sequence} of the journal is lost or changed")
        for post in self._posts():
            if post.intent is not None and post.intent > cut and post.intent not in rows:
                self.broken(
                    "P6", f"update {post.number} left, and its intent {post.intent} is not in the journal"
                )
        self.known = rows

    def _outcomes(self, post: Post, truth: Truth, said: list[str], *, settled: bool) -> None:
        what = f"update {post.number} (row {post.intent}): the journal says {said or 'nothing'}"
        if settled and not [each for each in said if each != "stale_overwrite"]:
            self.broken("P7", f"{what}, and it is settled")
        if post.applied is not None and {"rejected", "not_sent"} & set(said):
            self.broken("P7", f"{what}, and it was carried out")
        if post.answer in {None, "unknown"} and said[:1] == ["applied"] and not _ever_shown(post, truth):
            self.broken("R1", f"{what}, and no read has shown it")
        if "stale_overwrite" in said and not _overwrote(post, truth):
            self.broken("R3", f"{what}, and it overwrote nothing")

    def _late(self, truth: Truth, outcomes: dict[int, list[tuple[str, str]]], *, deaf: bool) -> None:
        told = {intent: {outcome for outcome, _ in said} for intent, said in outcomes.items()}
        for post, what in untold(
            truth, told, ended=self.ended, since=self.lost_before, forgotten_before=self.forgotten_before
        ):
            self.broken(
                "R3", f"update {post.number} landed late, a read has shown it, and {what} is not told"
            )
        kept = (post for post in truth.posts if post.sent > self.lost_before)
        late = [post for post in kept if "late_applied" in told.get(post.intent or -1, ())]
        for post in late:
            alike = [other for other in truth.posts if _overlap(post, other)]
            # What is accepted and does not show at once can look like that too.
            unclear = deaf or any(_slow(other) for other in truth.posts)
            if not unclear and all(other.applied is None for other in alike):
                self.broken(
                    "R3", f"update {post.number} is told as landed late, and nothing like it ever landed"
                )


def _slow(post: Post) -> bool:
    landed = post.applied if post.applied is not None else inf
    return post.answer == "accepted" and landed > (post.answered or inf)


def _overlap(post: Post, other: Post) -> bool:
    return any(other.leaves.get(name) == value for name, value in post.leaves.items())


def _reads(truth: Truth) -> Iterator[tuple[Get, Version]]:
    for get in truth.gets:
        if get.served is not None and get.answered is not None:
            yield get, truth.at(get.served)


def _ever_shown(post: Post, truth: Truth) -> bool:
    return any(
        version.cloud is not None
        and all(leaf(version.cloud, name) == value for name, value in post.changed.items())
        for get, version in _reads(truth)
        if get.order > post.order
    )


def _overwrote(post: Post, truth: Truth) -> bool:
    """Whether its landing, or that of one alike, replaced an undeclared part by its own."""
    return any(
        other.applied is not None and other.overwrote and other.own_rest == post.own_rest
        for other in truth.posts
    )
