"""The work queue against a simple model: no key is lost or handed out twice, and the urgent go first."""

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocsync.model.times import NEVER, Monotonic
from allocsync.reconcile.operation import Operation, Priority, QueueEntry
from allocsync.reconcile.scheduling.work_queue import RESYNC_EVERY, WorkQueue
from tests.support.tier import part_of

keys = st.sampled_from("abc")
entries = st.builds(
    QueueEntry,
    at=st.one_of(st.integers(0, 12).map(float), st.just(inf)),
    operation=st.sampled_from(Operation),
    priority=st.sampled_from(Priority),
)


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[str] = WorkQueue()
        self.now = Monotonic(0.0)
        self.waiting: dict[str, QueueEntry] = {}
        self.handed_out: dict[str, QueueEntry | None] = {}

    @rule(key=keys, entry=entries)
    def schedule(self, key: str, entry: QueueEntry) -> None:
        self.queue.schedule(key, entry)
        if key in self.handed_out:
            self.handed_out[key] = entry
        elif entry.at == NEVER:
            self.waiting.pop(key, None)
        else:
            self.waiting[key] = entry

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.waiting.pop(key, None)
        if key in self.handed_out:
            self.handed_out[key] = None

    @rule(operation=st.sampled_from(Operation), excluding=st.sets(st.sampled_from(Priority), max_size=2))
    def take(self, operation: Operation, excluding: set[Priority]) -> None:
        key = self.queue.take(operation, self.now, excluding=excluding)
        due = {
            k: t
            for k, t in self.waiting.items()
            if t.operation is operation and t.at <= self.now and t.priority not in excluding
        }
        if key is None:
            assert not due
            return
        assert key in due
        assert key not in self.handed_out
        urgencies = [entry.priority for entry in due.values()]
        assert due[key].priority in {min(urgencies), max(urgencies)}
        del self.waiting[key]
        self.handed_out[key] = None

    @rule(operation=st.sampled_from(Operation), failures=st.lists(st.integers(0, 3), min_size=3, max_size=3))
    def probe(self, operation: Operation, failures: list[int]) -> None:
        count = dict(zip("abc", failures, strict=True))
        key = self.queue.take(operation, self.now, failures_of=count.__getitem__)
        due = [k for k, t in self.waiting.items() if t.operation is operation and t.at <= self.now]
        if key is None:
            assert not due
            return
        assert key in due
        assert count[key] == min(count[each] for each in due)
        del self.waiting[key]
        self.handed_out[key] = None

    @precondition(lambda self: self.handed_out)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.handed_out)))
        self.queue.done(key)
        entry = self.handed_out.pop(key)
        if entry is not None and entry.at != NEVER:
            self.waiting[key] = entry

    @rule(seconds=st.integers(0, 10))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def the_next_time_is_that_of_the_earliest_waiting_entry(self) -> None:
        later = [entry.at for entry in self.waiting.values() if entry.at > self.now]
        assert self.queue.next_at(self.now) == min(later, default=inf)

    @invariant()
    def due_keys_are_counted(self) -> None:
        for operation in Operation:
            due = sum(
                entry.operation is operation and entry.at <= self.now for entry in self.waiting.values()
            )
            assert self.queue.count_due(operation, self.now) == due

    def teardown(self) -> None:
        """Return all keys and let all times pass: exactly the waiting keys are handed out, once each."""
        for key in list(self.handed_out):
            self.queue.done(key)
            entry = self.handed_out.pop(key)
            if entry is not None and entry.at != NEVER:
                self.waiting[key] = entry
        handed = [self.queue.take(operation, Monotonic(1e9)) for operation in Operation for _ in range(9)]
        taken = [key for key in handed if key is not None]
        assert sorted(taken) == sorted(self.waiting)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=part_of(300))


def scheduled(*entries: tuple[str, Priority]) -> WorkQueue[str]:
    queue: WorkQueue[str] = WorkQueue()
    for key, priority in entries:
        queue.schedule(key, QueueEntry(Monotonic(0.0), Operation.READ, priority))
    return queue


def test_the_most_urgent_key_goes_first() -> None:
    queue = scheduled(("resync", Priority.RESYNC), ("edit", Priority.EDIT), ("read-back", Priority.READ_BACK))
    assert [queue.take(Operation.READ, Monotonic(0.0)) for _ in range(4)] == [
        "read-back",
        "edit",
        "resync",
        None,
    ]


def test_every_tenth_key_is_one_of_the_resync() -> None:
    queue = scheduled(*((f"edit {n}", Priority.EDIT) for n in range(40)), ("resync", Priority.RESYNC))
    taken = [queue.take(Operation.READ, Monotonic(0.0)) for _ in range(RESYNC_EVERY)]
    assert taken.index("resync") == RESYNC_EVERY - 1


def test_a_probe_is_the_due_key_with_the_fewest_failures_whatever_its_urgency() -> None:
    queue = scheduled(*((key, Priority.EDIT) for key in "abcd"), ("e", Priority.RESYNC))
    failures = {"a": 3, "b": 1, "c": 2, "d": 1, "e": 0}
    probes = [queue.take(Operation.READ, Monotonic(0.0), failures_of=failures.__getitem__) for _ in range(3)]
    assert probes == ["e", "b", "d"]
    assert [queue.take(Operation.READ, Monotonic(0.0)) for _ in range(3)] == ["a", "c", None]


def test_of_keys_with_equal_failures_the_more_urgent_and_then_the_longer_waiting_is_the_probe() -> None:
    queue = scheduled(("resync", Priority.RESYNC), ("first", Priority.EDIT), ("second", Priority.EDIT))
    assert [queue.take(Operation.READ, Monotonic(0.0), failures_of=lambda _: 1) for _ in range(3)] == [
        "first",
        "second",
        "resync",
    ]


def test_a_key_that_is_forgotten_while_handed_out_has_no_entry_when_it_comes_back() -> None:
    queue = scheduled(("a", Priority.EDIT))
    assert queue.take(Operation.READ, Monotonic(0.0)) == "a"
    queue.schedule("a", QueueEntry(Monotonic(0.0), Operation.READ, Priority.EDIT))
    queue.forget("a")
    queue.done("a")
    assert queue.take(Operation.READ, Monotonic(0.0)) is None


def test_a_key_that_was_not_handed_out_cannot_come_back() -> None:
    with pytest.raises(KeyError):
        scheduled(("a", Priority.EDIT)).done("a")


def test_rescheduling_a_key_again_and_again_does_not_grow_the_queue() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for at in range(10_000):
        queue.schedule("a", QueueEntry(Monotonic(at), Operation.READ, Priority.RESYNC))
    assert len(queue._delayed) < 100  # noqa: SLF001 - the bound is the point
    assert queue.take(Operation.READ, Monotonic(1e6)) == "a"
    assert queue.take(Operation.READ, Monotonic(1e6)) is None


def test_rescheduling_a_due_key_that_is_never_taken_does_not_grow_the_queue() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for at in range(10_000):
        queue.schedule("a", QueueEntry(Monotonic(at), Operation.READ, Priority.RESYNC))
        assert queue.count_due(Operation.READ, Monotonic(at)) == 1
    assert len(queue._due[Operation.READ][Priority.RESYNC]) < 100  # noqa: SLF001 - the bound is the point
    assert queue.take(Operation.READ, Monotonic(1e6)) == "a"
    assert queue.take(Operation.READ, Monotonic(1e6)) is None
