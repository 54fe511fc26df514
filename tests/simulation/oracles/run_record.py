"""The result of a scripted run, for a test to read. Times are virtual seconds."""

from bisect import bisect
from dataclasses import dataclass
from itertools import pairwise

import pytest

from allocsync.journal import reader
from allocsync.model.cloud import Cloud, field_value
from allocsync.model.times import WallTime
from tests.simulation.engine.history import Get, History, Post, Version
from tests.simulation.engine.machine import WALL_SECONDS
from tests.simulation.engine.server import id_of
from tests.simulation.report.outcome import Note, Outcome

NEAR_SECONDS = 0.1  # the time of a few commits and requests


@dataclass(frozen=True, slots=True)
class RunRecord:
    """See the module.

    `gaps` are the times of the journal's gaps, `lists` those of the lists; `files` are the names in the state
    directory.
    """

    outcome: Outcome
    history: History
    journal: tuple[reader.RecordedUpdate, ...]
    gaps: tuple[float, ...]
    lists: tuple[float, ...]
    files: tuple[str, ...]

    def posts(self, key: int = 0) -> list[Post]:
        """The updates of one allocation."""
        return self.history.truths[id_of(key)].posts

    def reads(self, key: int = 0, *, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """When the reads of one allocation began, from `since` until `until`."""
        return [get.begun for get in self.gets(key) if since <= get.begun < until]

    def gets(self, key: int = 0) -> list[Get]:
        """The reads of one allocation."""
        return self.history.truths[id_of(key)].gets

    def all_posts(self) -> list[Post]:
        """The updates of all allocations, in the order of sending."""
        posts = (post for truth in self.history.truths.values() for post in truth.posts)
        return sorted(posts, key=lambda post: post.order)

    def all_gets(self) -> list[Get]:
        """The reads of all allocations, in the order of sending."""
        gets = (get for truth in self.history.truths.values() for get in truth.gets)
        return sorted(gets, key=lambda get: get.order)

    def under_way(self, *, since: float, until: float) -> list[tuple[float, int]]:
        """For each request sent between two times: when, and how many were under way."""
        times = [(get.begun, get.answered) for get in self.all_gets()]
        times += [(post.sent, post.answered) for post in self.all_posts()]
        begun = sorted(begin for begin, _ in times)
        ended = sorted(end for _, end in times if end is not None)
        return [(at, bisect(begun, at) - bisect(ended, at)) for at in begun if since < at < until]

    def shows(self, key: int, region: str) -> list[float]:
        """Each time at which the truth changed to this region."""
        regions = [(each.at, each.cloud and field_value(each.cloud, "region")) for each in self.versions(key)]
        return [at for (_, before), (at, now) in pairwise([(0.0, None), *regions]) if before != now == region]

    def versions(self, key: int = 0) -> list[Version]:
        """The versions of the truth, oldest first."""
        return self.history.truths[id_of(key)].versions

    def cloud(self, key: int = 0) -> Cloud:
        """The truth at the end."""
        cloud = self.versions(key)[-1].cloud
        assert cloud is not None, "it is gone at the end"
        return cloud

    def updates(self, key: int = 0) -> list[reader.RecordedUpdate]:
        """The updates of one allocation in the journal, with their outcomes."""
        return [past for past in self.journal if past.allocation == id_of(key)]

    def outcomes(self, key: int = 0) -> list[list[str]]:
        """The outcomes of each intent in the journal, in the order of recording."""
        return [[ending.outcome for ending in past.endings] for past in self.updates(key)]

    def conditions(self, key: int = 0, *, since: float = 0.0) -> list[str]:
        """The conditions that were reported since a time, in order."""
        return [note.fields["after"] for note in self.events("condition_changed", key) if note.at >= since]

    def events(self, kind: str, key: int | None = None) -> list[Note]:
        """The events of this kind that the daemon emitted, of one allocation or of none."""
        allocation = None if key is None else id_of(key)
        return [note for note in self.outcome.notes if note.what == kind and note.key == allocation]

    def starts(self) -> list[float]:
        """When processes started."""
        notes = self.outcome.notes
        return [note.at for note in notes if note.who == "process" and note.what.endswith("starts")]

    def happened(self, what: str) -> float:
        """When this was noted for the first time."""
        return next(note.at for note in self.outcome.notes if note.what == what)


def near(seconds: float) -> object:
    """Equal to this time, give or take a few commits and requests."""
    return pytest.approx(seconds, abs=NEAR_SECONDS)


def answered(post: Post) -> float:
    """When the client had the answer, or its timeout."""
    assert post.answered is not None, f"update {post.number} has not been answered"
    return post.answered


def written(past: reader.RecordedUpdate) -> list[float]:
    """When each outcome of an intent was recorded."""
    return [ending.at - WallTime(WALL_SECONDS) for ending in past.endings]
