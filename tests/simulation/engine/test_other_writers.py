"""Other writers, caches and rejections do in a run what their schedules say, with the flags on or off."""

import pytest

from allocsync.model.api_answers import Rejected
from allocsync.model.cloud import field_value
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.drawn_schedule import REJECTIONS
from tests.simulation.engine.schedule import (
    OtherWriter,
    RejectNextUpdate,
    RequestResync,
    StrikeAfterAcceptance,
)
from tests.simulation.engine.script import allocation, at, run_script
from tests.simulation.engine.server import id_of
from tests.simulation.faults.read_cache import Kept, ReadCache
from tests.simulation.faults.request_faults import rejected
from tests.simulation.oracles.run_record import answered, near

KEY = allocation().key


@pytest.mark.parametrize(("value", "written"), [("", "x"), ("third", "third")])
def test_another_writer_strikes_after_the_accepted_answer_and_before_the_read_that_confirms_it(
    shim: SqliteShim, value: str, written: str
) -> None:
    run = run_script(shim, events=[at(0.0, StrikeAfterAcceptance(value, 0.5))], until=30.0)
    update = run.posts()[0]
    *_, strike = run.shows(0, written)
    assert update.answer == "accepted"
    assert answered(update) < strike < run.reads(since=answered(update))[0]
    assert strike == near(answered(update) + 0.5)


def test_a_second_controller_writes_its_values_again_and_again_where_they_differ(shim: SqliteShim) -> None:
    wanted = ((0, "region", "a"), (1, "region", "theirs"), (2, "note", "theirs"))
    run = run_script(
        shim,
        allocations=[allocation(key) for key in range(3)],
        other_writer=OtherWriter(40.0, 60.0, wanted),
        events=[at(41.0 + 60.0 * number, RequestResync()) for number in range(3)],
        until=170.0,
    )
    assert not run.history.truths[run.posts(0)[0].key].foreign  # what is wanted is there already
    assert run.shows(1, "theirs") == [near(40.0), near(100.0), near(160.0)]
    assert [field_value(run.cloud(2), name) for name in ("region", "note")] == ["a", "theirs"]


def test_a_cache_answers_reads_with_what_was_true_before(shim: SqliteShim) -> None:
    run = run_script(shim, cache_seconds=30.0, until=90.0)
    first, second, *later = run.gets()
    assert (first.age_seconds, second.age_seconds) == (0.0, near(second.begun))
    assert first.cloud is second.cloud
    assert second.begun > answered(run.posts()[0])
    assert second.evidence_at < answered(run.posts()[0])
    assert later[-1].age_seconds == 0.0


def test_a_cache_keeps_an_answer_for_its_maximum_age_and_counts_its_hits() -> None:
    cloud_id = id_of(KEY)
    cache, kept = ReadCache(30.0), Kept(100.0, 1, {"id": "a"})
    cache.keep(cloud_id, kept)
    assert cache.find(cloud_id, 129.9) is kept
    assert cache.find(cloud_id, 130.0) is None
    assert cache.hits == 1
    without = ReadCache(0.0)
    without.keep(cloud_id, kept)
    assert without.find(cloud_id, 100.0) is None


@pytest.mark.parametrize("status", REJECTIONS)
@pytest.mark.parametrize("retry_after_seconds", [None, 7.0])
def test_each_4xx_is_what_the_client_makes_of_it(status: int, retry_after_seconds: float | None) -> None:
    answer = rejected(RejectNextUpdate(status, retry_after_seconds))
    assert isinstance(answer, Rejected)
    assert (answer.status, answer.retry_after_seconds) == (status, retry_after_seconds)
