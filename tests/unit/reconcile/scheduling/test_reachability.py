"""When the API counts as unreachable, and when a heartbeat is due."""

from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic
from allocsync.reconcile.scheduling.reachability import Reachability

A, B, C = (AllocationId(name) for name in "abc")
at = Monotonic


def new() -> Reachability:
    return Reachability(heartbeat_seconds=10.0, heartbeat_at=at(10.0))


def fail(
    api: Reachability, key: AllocationId, begun: float, *, is_read: bool = True, key_count: int = 3
) -> bool:
    return api.record_failure(
        key, f"why {key}", is_read=is_read, begun=at(begun), now=at(begun), key_count=key_count
    )


def test_nothing_is_known_before_the_first_request_has_ended() -> None:
    assert new().reachable is None


def test_two_failures_of_different_allocations_make_it_unreachable_since_the_first_began() -> None:
    api = new()
    api.record_success(C, at(100))
    assert not fail(api, A, 101)
    assert api.reachable
    assert fail(api, B, 102)
    assert (api.reachable, api.since, api.reason) == (False, at(101), "why b")
    assert not fail(api, C, 103), "it is reported once"
    assert (api.since, api.reason) == (at(101), "why c")


def test_two_failures_of_one_allocation_are_enough_only_if_it_is_the_only_one() -> None:
    several, one = new(), new()
    for begun in (1, 2, 3):
        assert not fail(several, A, begun)
    assert not fail(one, A, 1, key_count=1)
    assert fail(one, A, 2, key_count=1)


def test_a_success_after_the_first_failure_began_starts_the_count_anew() -> None:
    api = new()
    fail(api, A, 1)
    api.record_success(B, at(2))
    assert not fail(api, C, 1.5), "it began before the success"
    assert not fail(api, B, 3, key_count=4)
    assert not fail(api, A, 4, key_count=4), "it failed the time before, so it proves nothing"
    assert not fail(api, C, 5, key_count=4), "it failed the time before too"
    assert fail(api, AllocationId("d"), 6, key_count=4)


def test_allocations_that_always_fail_are_no_outage_while_another_one_is_served() -> None:
    api = new()
    for begun in range(0, 100, 10):
        fail(api, A, begun)
        fail(api, B, begun + 1)
        api.record_success(C, at(begun + 2))
        assert api.reachable
    assert not fail(api, A, 200)
    assert not fail(api, B, 201)
    assert api.reachable, "only those failed that always do"
    fail(api, C, 202)
    assert fail(api, A, 203), "now all fail"


def test_failed_updates_alone_are_no_outage() -> None:
    api = new()
    assert not fail(api, A, 1, is_read=False)
    assert not fail(api, B, 2, is_read=False)
    assert api.reachable is None
    assert fail(api, C, 3, is_read=True)
    assert api.since == at(1)


def test_any_success_ends_an_outage_and_says_so_once() -> None:
    api = new()
    fail(api, A, 1)
    fail(api, B, 2)
    assert api.record_success(None, at(9))
    assert (api.reachable, api.since, api.reason, api.confirmed_at) == (True, at(9), "", at(9))
    assert not api.record_success(A, at(10))
    assert api.since == at(9), "it is reachable since then"


def test_a_heartbeat_is_due_ten_seconds_after_the_latest_success_or_heartbeat() -> None:
    api = new()
    api.record_success(A, at(7))
    assert api.heartbeat_at == at(17)
    api.record_heartbeat(at(17))
    assert api.heartbeat_at == at(27)


def test_after_fifteen_seconds_without_a_success_any_two_failures_count() -> None:
    api = new()
    fail(api, A, 1)
    fail(api, B, 2)
    api.record_success(C, at(3))  # one request of an API that hangs is served after all
    assert not fail(api, A, 4)
    assert not fail(api, A, 14), "another one may still be served"
    assert fail(api, A, 24), "the others could not be asked"
    assert api.since == at(4)


def test_after_fifteen_seconds_the_probes_of_one_allocation_are_enough() -> None:
    api = new()
    fail(api, A, 1)
    api.record_success(C, at(3))
    assert not fail(api, B, 4)
    assert not fail(api, B, 18.9)
    assert fail(api, B, 19)
    assert api.since == at(4)


def test_a_released_allocation_is_forgotten() -> None:
    api = new()
    fail(api, A, 1)
    assert api.is_failing(A)
    api.forget(A)
    assert not api.is_failing(A)
    assert not fail(api, B, 2)


REQUESTS = st.lists(
    st.tuples(st.sampled_from([A, B, C]), st.booleans(), st.floats(0, 5), st.booleans()), max_size=30
)


@given(REQUESTS)
def test_it_is_unreachable_only_if_nothing_succeeded_since_the_outage_began(
    requests: list[tuple[AllocationId, bool, float, bool]],
) -> None:
    api, now, successes = new(), 100.0, [0.0]
    for key, succeeds, seconds, is_read in requests:
        begun, now = now, now + seconds
        if succeeds:
            api.record_success(key, at(now))
            successes.append(now)
            assert api.reachable
        else:
            fail(api, key, begun, is_read=is_read)
        if api.reachable is False:
            assert at(successes[-1]) <= api.since <= at(now)
            assert api.reason
