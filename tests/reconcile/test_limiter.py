"""The limiter: slots are conserved, no limit is ever exceeded, and no order of events leaves it stuck."""

import itertools
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocsync.reconcile.breaker import PROBE_FIRST_SECONDS, PROBE_JITTER, PROBE_MOST_SECONDS
from allocsync.reconcile.limiter import FLOOR, MOST, SLOW_SECONDS, START, Limiter, Slot
from allocsync.reconcile.result import Result

KEYS = tuple("abcdefghijkl")
slots = st.sampled_from(Slot)


def limiter(read: int = 64, write: int = 32) -> Limiter[str]:
    return Limiter({Slot.READ: read, Slot.WRITE: write})


class LimiterMachine(RuleBasedStateMachine):
    """A model that knows who holds what since when, and when each breaker last let a probe through."""

    def __init__(self) -> None:
        super().__init__()
        self.most = {Slot.READ: 3, Slot.WRITE: 2}
        self.limiter: Limiter[str] = Limiter(self.most)
        self.now = 0.0
        self.held: dict[str, tuple[Slot, float]] = {}
        self.probed_at = dict.fromkeys(Slot, -inf)

    def fresh(self, slot: Slot) -> int:
        return sum(held is slot and self.now < began + SLOW_SECONDS for held, began in self.held.values())

    def shut(self, slot: Slot) -> list[Slot]:
        asked = [Slot.READ] if slot is Slot.READ else list(Slot)
        return [each for each in asked if self.limiter.slots[each].breaker.open]

    @rule(slot=slots, key=st.sampled_from(KEYS), failures=st.integers(0, 4), chance=st.floats(0, 1))
    def admit(self, slot: Slot, key: str, failures: int, chance: float) -> None:
        if key in self.held:
            return
        shut, fresh = self.shut(slot), self.fresh(slot)
        until = self.limiter.admit(slot, key, self.now, failures=failures, chance=chance)
        if until is not None:
            assert until > self.now
            return
        self.held[key] = (slot, self.now)
        if not shut:
            assert fresh < self.limiter.slots[slot].limit
        for each in shut:
            assert self.now - self.probed_at[each] >= PROBE_FIRST_SECONDS * (1 - PROBE_JITTER)
            self.probed_at[each] = self.now

    @precondition(lambda self: any(slot is Slot.READ for slot, _ in self.held.values()))
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, (s, _) in self.held.items() if s is Slot.READ)))
        probing = self.limiter.probing(Slot.WRITE)
        if self.limiter.promote(key, self.now):
            assert not probing
            self.held[key] = (Slot.WRITE, self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), result=st.sampled_from(Result), ends=st.booleans())
    def hear(self, data: st.DataObject, result: Result, *, ends: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        held, began = self.held[key]
        asked = data.draw(st.sampled_from([Slot.READ, held]))
        was_open = self.limiter.slots[asked].breaker.open
        heard = self.limiter.hear(asked, held, key, result, begun=began, now=self.now, keys=len(KEYS))
        breaker = self.limiter.slots[asked].breaker
        assert heard.turned is (breaker.open is not was_open)
        assert not (result is Result.SERVED and breaker.open)
        if breaker.open and not was_open:
            self.probed_at[asked] = self.now
        if ends:
            self.limiter.release(held, key)
            del self.held[key]

    @rule(slot=slots, seconds=st.integers(0, 20))
    def close(self, slot: Slot, seconds: int) -> None:
        self.limiter.close(slot, self.now + seconds)

    @rule(seconds=st.one_of(st.floats(0, 1), st.integers(1, 40)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def slots_are_conserved_and_the_hard_maximum_holds(self) -> None:
        for slot, most in self.most.items():
            model = sum(held is slot for held, _ in self.held.values())
            assert self.limiter.slots[slot].in_flight == model <= most
            assert 1 <= self.limiter.slots[slot].limit <= most

    @invariant()
    def the_next_time_lies_ahead(self) -> None:
        assert self.limiter.opens_at(self.now) > self.now

    def teardown(self) -> None:
        """Whatever happened: give everything back, and a minute of an API that works opens all again."""
        for key, (slot, _) in self.held.items():
            self.limiter.release(slot, key)
        for slot in Slot:
            self.now += PROBE_MOST_SECONDS
            assert self.limiter.admit(slot, "a", self.now) is None
            for asked in self.shut(slot) or [slot]:
                self.limiter.hear(asked, slot, "a", Result.SERVED, begun=self.now, now=self.now, keys=12)
            self.limiter.release(slot, "a")
        for slot in Slot:
            assert not self.limiter.probing(slot)
            assert self.limiter.admit(slot, slot, self.now) is None


TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = settings(max_examples=300, stateful_step_count=60)


class Load:
    """Keeps one kind of slot full and answers all of it together, a round trip at a time."""

    def __init__(self, slot: Slot = Slot.READ) -> None:
        self.limiter = limiter()
        self.slot = slot
        self.now = 0.0
        self.sent = 0

    @property
    def limit(self) -> int:
        return int(self.limiter.slots[self.slot].limit)

    def round_trip(self, failing: float = 0.0, *, seconds: float = 0.02) -> int:
        """Returns how many went; the first of them fail, as many as this share says."""
        keys = []
        while self.limiter.admit(self.slot, str(self.sent), self.now) is None:
            keys.append(str(self.sent))
            self.sent += 1
        begun, self.now = self.now, self.now + seconds
        for number, key in enumerate(keys):
            result = Result.OVERLOADED if number < failing * len(keys) else Result.SERVED
            self.limiter.hear(self.slot, self.slot, key, result, begun=begun, now=self.now, keys=10_000)
        for key in keys:
            self.limiter.release(self.slot, key)
        return len(keys)


@pytest.mark.parametrize("slot", Slot)
def test_a_limit_doubles_each_round_trip_up_to_the_hard_maximum(slot: Slot) -> None:
    load = Load(slot)
    went = [load.round_trip() for _ in range(6)]
    start, most = START[slot], MOST[slot]
    assert went == [min(start * 2**n, most) for n in range(6)]


def test_after_the_first_decrease_it_grows_by_one_each_round_trip() -> None:
    load = Load()
    for _ in range(4):
        load.round_trip()
    load.now += 1
    load.round_trip(0.5)
    load.now += 1  # the window is over with the next result
    load.limiter.hear(Slot.READ, Slot.READ, "a", Result.OVERLOADED, begun=0.0, now=load.now, keys=9)
    shrunk = load.limit
    assert shrunk == pytest.approx(48, abs=2)  # by half of the half that failed
    assert [load.round_trip() for _ in range(4)] == pytest.approx([shrunk + n for n in range(4)], abs=1)


def test_a_tenth_that_fails_does_not_shrink_it_and_more_does_once_a_window() -> None:
    idle = limiter()
    for number in range(2000):  # not in use: it cannot grow either
        result = Result.SERVED if number % 12 else Result.OVERLOADED
        now = number / 100
        idle.hear(Slot.READ, Slot.READ, str(number), result, begun=now, now=now, keys=9)
    assert idle.slots[Slot.READ].limit == START[Slot.READ]
    load = Load()
    for _ in range(4):
        load.round_trip()
    assert load.limit == 64
    limits = []
    for _ in range(24):  # about half a second
        load.round_trip(0.5)
        limits.append(load.limit)
    assert sum(after < before for before, after in itertools.pairwise(limits)) == 1


@pytest.mark.parametrize("slot", Slot)
def test_while_anything_succeeds_it_stays_above_its_floor(slot: Slot) -> None:
    load = Load(slot)
    for _ in range(100):
        load.round_trip(0.75, seconds=1.0)
    assert load.limit == pytest.approx(FLOOR[slot], abs=2)
    assert load.limit >= FLOOR[slot]


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    reads = limiter()
    for number in range(200):
        assert reads.admit(Slot.READ, "a", number / 10) is None
        reads.hear(
            Slot.READ, Slot.READ, "a", Result.SERVED, begun=number / 10, now=number / 10 + 0.02, keys=9
        )
        reads.release(Slot.READ, "a")
    assert reads.slots[Slot.READ].limit == START[Slot.READ]


def test_slow_successes_stop_growth_and_slower_ones_shrink_it() -> None:
    load = Load()
    load.round_trip(seconds=0.02)
    grown = load.limit
    for _ in range(50):
        load.round_trip(seconds=0.08)
    assert load.limit == grown
    for _ in range(50):
        load.round_trip(seconds=0.5)
    assert load.limit < grown / 2


def test_what_is_the_quickest_is_forgotten_slowly() -> None:
    load = Load()
    load.round_trip(seconds=0.02)
    for _ in range(8000):
        load.round_trip(seconds=0.2)
    assert load.limit == 64


def test_a_slow_request_frees_its_place_but_not_below_the_hard_maximum() -> None:
    reads = limiter(read=12)
    names = iter(map(str, range(100)))
    for _ in range(START[Slot.READ]):
        assert reads.admit(Slot.READ, next(names), 0.0) is None
    assert reads.admit(Slot.READ, next(names), 4.9) == inf
    assert reads.opens_at(4.9) == SLOW_SECONDS
    went = sum(reads.admit(Slot.READ, next(names), 5.0) is None for _ in range(20))
    assert went == 12 - START[Slot.READ]
    assert len(reads.slots[Slot.READ].slow) == START[Slot.READ]
    reads.release(Slot.READ, "0")
    assert reads.admit(Slot.READ, next(names), 5.0) is None


def test_a_full_kind_of_slot_does_not_hold_the_other_up() -> None:
    both = limiter(1, 1)
    assert both.admit(Slot.WRITE, "a", 0.0) is None
    assert both.admit(Slot.WRITE, "b", 0.0) == inf
    assert both.admit(Slot.READ, "b", 0.0) is None


def test_gets_that_fail_in_write_slots_shrink_both_limits_and_shut_the_reads_only() -> None:
    load = Load(Slot.WRITE)
    load.round_trip()
    both = load.limiter
    assert load.limit > FLOOR[Slot.WRITE]
    for number in range(40):
        now = 1 + number / 2
        both.hear(Slot.READ, Slot.WRITE, str(number), Result.OVERLOADED, begun=now, now=now + 0.1, keys=100)
    assert both.slots[Slot.READ].breaker.open
    assert not both.slots[Slot.WRITE].breaker.open
    assert both.slots[Slot.WRITE].limit == FLOOR[Slot.WRITE]
    assert both.probing(Slot.WRITE)  # an update begins with a GET


def test_closed_slots_admit_nothing_before_their_time() -> None:
    both = limiter(1, 1)
    both.close(Slot.WRITE, 30.0)
    both.close(Slot.WRITE, 20.0)
    assert both.admit(Slot.WRITE, "a", 29.9) == 30.0
    assert both.opens_at(29.9) == 30.0
    assert both.slots[Slot.WRITE].in_flight == 0
    assert both.admit(Slot.READ, "b", 29.9) is None
    assert both.admit(Slot.WRITE, "a", 30.0) is None


@given(st.integers(1, 100), slots)
def test_the_setting_is_the_hard_maximum_of_the_start_too(most: int, slot: Slot) -> None:
    both = limiter(most, most)
    went = sum(both.admit(slot, str(number), 0.0) is None for number in range(200))
    assert went == min(most, START[slot])


def test_a_limit_below_one_a_slot_never_taken_and_one_taken_twice_are_errors() -> None:
    with pytest.raises(ValueError, match="below one"):
        limiter(0, 1)
    with pytest.raises(KeyError):
        limiter().release(Slot.READ, "a")
    twice = limiter()
    twice.admit(Slot.READ, "a", 0.0)
    with pytest.raises(ValueError, match="already"):
        twice.admit(Slot.READ, "a", 0.0)
