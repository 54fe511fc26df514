"""The model server: it keeps the truth, carries out updates in its own time, and writes the history.

It replaces objects whole, as the API does, and is apart from every client: what has been sent is carried out
or not, whoever dies meanwhile. A deaf field keeps its value; `updated` is its own.
"""

import asyncio
from collections.abc import Callable

from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import undeclared_hash
from allocsync.planning.diff import merge
from tests.simulation.engine.history import History, Post
from tests.simulation.engine.schedule import Allocation, Schedule
from tests.simulation.faults.request_faults import ACCEPTED, Fates, UpdateFate
from tests.simulation.oracles.change_limit import Rail


def id_of(key: int) -> AllocationId:
    """The id of an allocation by its number."""
    return AllocationId(f"allocation-{key}")


def number_of(key: AllocationId) -> int:
    """The number of an allocation by its id."""
    return int(key.removeprefix("allocation-"))


def first_cloud(allocation: Allocation) -> Cloud:
    """The truth at the beginning."""
    plain: Cloud = {
        "id": id_of(allocation.key),
        "user": "u",
        "project": "p",
        "note": "n",
        "status": {"cloud": "RUNNING"},
        "urls": {
            "base": {"status": "RUNNING", "url": "x"},
            "id": {"status": "RUNNING", "url": "y"},
            "vanity": {"status": "RUNNING", "url": "z"},
        },
    }
    return merge(Desired(id_of(allocation.key), allocation.live), plain)


class Server:
    """See the module. Times are the event loop's."""

    def __init__(self, schedule: Schedule, note: Callable[..., None]) -> None:
        self.allocations = {id_of(each.key): each for each in schedule.allocations}
        clouds = {key: first_cloud(each) for key, each in self.allocations.items()}
        self.history = History(clouds, Rail(schedule.max_changes_percent))
        self.fates = Fates(schedule)
        self.calm_from = schedule.calm_at
        self.faults = 0
        self._note = note
        self._gone: dict[AllocationId, Cloud] = {}

    def now(self) -> float:
        """Virtual time."""
        return asyncio.get_running_loop().time()

    def served(self, key: AllocationId) -> Cloud | None:
        """What a read shows now."""
        cloud = self.history.truths[key].now.cloud
        if cloud is not None and self.allocations[key].ticking:
            return {**cloud, "updated": {"value": f"{self.now():.6f}"}}
        return cloud

    def takes(self, post: Post, fate: UpdateFate) -> None:
        """An update is on its way, and will be carried out when its fate says so."""
        running = asyncio.get_running_loop()
        allocation = self.allocations[post.key]
        if fate.lands_seconds is not None:
            post.lands_at = self.now() + fate.lands_seconds
            self.calm_from = max(self.calm_from, post.lands_at)
            if allocation.pending and fate.ending == ACCEPTED and fate.lands_seconds > fate.arrives_seconds:
                running.call_at(self.now() + fate.arrives_seconds, self._works, post)
            running.call_at(post.lands_at, self._lands, post)
        if fate.ending != ACCEPTED or fate.lands_seconds != fate.arrives_seconds:
            self.faults += 1
            self.calm_from = max(self.calm_from, self.now() + fate.answered_seconds)

    def writes(self, key: AllocationId, field: str, value: str) -> None:
        """Somebody else changes one field."""
        truth = self.history.truths[key]
        if truth.now.cloud is None:
            return
        truth.foreign.append((self.now(), field))
        cloud = merge(Desired(key, ((field, value),)), truth.now.cloud)
        self._becomes(key, cloud, f"somebody else: {field} is {value}")

    def goes(self, key: AllocationId, seconds: float) -> None:
        """The allocation answers 410 for so long."""
        cloud = self.history.truths[key].now.cloud
        if cloud is None:
            return
        self._gone[key] = cloud
        self._becomes(key, None, "it is gone")
        asyncio.get_running_loop().call_later(seconds, self._comes_back, key)

    def _comes_back(self, key: AllocationId) -> None:
        self._becomes(key, {**self._gone.pop(key), "status": {"cloud": "RUNNING"}}, "it is back")

    def _becomes(self, key: AllocationId, cloud: Cloud | None, cause: str, post: Post | None = None) -> None:
        self.history.becomes(key, cloud, cause, self.now(), post)
        self._note("server", key, cause)

    def _works(self, post: Post) -> None:
        cloud = self.history.truths[post.key].now.cloud
        if cloud is not None:
            self._becomes(
                post.key, {**cloud, "status": {"cloud": "PENDING"}}, f"update {post.number} is being done"
            )

    def _lands(self, post: Post) -> None:
        truth = self.history.truths[post.key].now.cloud
        if truth is None:
            self._note("server", post.key, f"update {post.number} finds nothing: it is gone")
            return
        deaf = self.allocations[post.key].deaf
        cloud: Cloud = {name: value for name, value in post.body.items() if name not in ("updated", "status")}
        cloud = {**cloud, "status": {"cloud": "RUNNING"}}
        if deaf:
            cloud = merge(Desired(post.key, ((deaf, _text(truth, deaf)),)), cloud)
        before = undeclared_hash({**truth, "status": {"cloud": "RUNNING"}}, post.leaves)
        post.overwrote = "" if before == post.rest(cloud) else before
        late = " late" if post.answered is not None and post.answer == "unknown" else ""
        self._becomes(post.key, cloud, f"update {post.number} lands{late}", post)
        post.applied, post.applied_order = self.now(), self.history.truths[post.key].now.order


def _text(cloud: Cloud, field: str) -> str:
    value: object = cloud
    for part in field.split("."):
        value = value[part] if isinstance(value, dict) else ""
    return str(value)
