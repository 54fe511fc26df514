"""Updates of unknown outcome that are applied late: what is read, sent again, recorded and reported."""

from itertools import pairwise

from allocsync.model.cloud import field_value
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import EndKind, EndProcess, ForeignWrite, RequestResync
from tests.simulation.engine.script import accepted, allocation, at, edit, run_script, unknown
from tests.simulation.oracles.run_record import answered, near

SETTLE_SECONDS = 10.0


def test_an_update_applied_after_its_504_is_found_by_one_read_and_not_sent_again(
    shim: SqliteShim,
) -> None:
    run = run_script(shim, updates={0: [unknown(applied=3.0)]}, until=60.0)
    (update,) = run.posts()
    assert (update.answer, update.applied) == ("unknown", near(3.0))
    assert run.reads(since=update.sent) == [near(answered(update) + SETTLE_SECONDS)]
    assert run.outcomes() == [["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "InSync"]


def test_a_late_write_after_the_settle_time_is_reported_and_lengthens_it_across_a_restart(
    shim: SqliteShim,
) -> None:
    lost, slowly_lost = unknown(applied=None), unknown(8.0, applied=None)
    run = run_script(
        shim,
        updates={0: [unknown(applied=25.0), slowly_lost, lost]},
        events=[at(40.0, EndProcess(EndKind.KILL, 1.0)), at(60.0, edit("b"))],
        until=200.0,
    )
    late, again, after_the_edit, last = run.posts()
    assert late.applied == near(25.0)
    assert again.sent == near(answered(late) + SETTLE_SECONDS)
    assert run.reads(since=again.sent, until=40.0) == [near(answered(again) + SETTLE_SECONDS)]
    assert run.outcomes() == [["not_applied", "late_applied"], ["applied"], ["not_applied"], ["applied"]]

    lag = answered(again) + SETTLE_SECONDS - answered(late)
    assert after_the_edit.sent == near(60.0)
    assert last.sent == near(answered(after_the_edit) + 2 * lag)
    assert 2 * lag >= 50.0
    assert run.conditions(since=60.0) == ["Pending", "OutcomeUnknown", "Pending", "InSync"]


def test_a_late_write_that_undoes_an_edit_is_reported_and_the_edit_is_sent_again(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        updates={0: [unknown(applied=25.0)]},
        events=[at(5.0, edit("b")), at(30.0, RequestResync())],
        until=400.0,
    )
    late, edited, once_more = run.posts()
    assert edited.sent == near(answered(late) + SETTLE_SECONDS)
    assert (late.applied, once_more.sent) == (near(25.0), near(30.0))
    assert field_value(run.cloud(), "region") == "b"
    assert run.outcomes() == [["not_applied", "late_applied"], ["applied"], ["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Pending", "InSync", "Pending", "InSync"]


def test_a_file_back_at_the_live_value_is_not_in_sync_while_an_update_may_be_applied(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        updates={0: [unknown(applied=5.0)]},
        events=[at(1.0, edit("x")), at(3.0, RequestResync())],
        bulk="on",
        until=100.0,
    )
    applied_late, repair = run.posts()
    assert near(3.0) in run.lists  # the list showed the declared value
    assert applied_late.applied == near(5.0)
    assert repair.sent == near(answered(applied_late) + SETTLE_SECONDS)
    assert field_value(run.cloud(), "region") == "x"
    assert run.outcomes() == [["applied"], ["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Pending", "InSync"]


def test_a_late_write_that_overwrites_an_unmanaged_field_is_reported_and_not_repaired(
    shim: SqliteShim,
) -> None:
    run = run_script(
        shim,
        updates={0: [unknown(applied=25.0)]},
        events=[at(4.0, ForeignWrite(0, "note", "theirs")), at(30.0, RequestResync())],
        until=400.0,
    )
    late, again = run.posts()
    assert again.sent == near(answered(late) + SETTLE_SECONDS)
    assert field_value(again.body, "note") == "theirs"
    assert (late.applied, field_value(run.cloud(), "note")) == (near(25.0), "n")
    assert run.outcomes() == [["not_applied", "stale_overwrite"], ["applied"]]
    settled = [
        note for note in run.events("update_settled", 0) if note.fields["outcome"] == "stale_overwrite"
    ]
    assert [note.at for note in settled] == [near(30.0)]
    assert run.conditions(since=again.sent) == ["Pending", "InSync"]


def test_a_changing_timestamp_does_not_shorten_the_settle_time(shim: SqliteShim) -> None:
    run = run_script(
        shim,
        allocations=[allocation(has_moving_timestamp=True)],
        updates={0: [unknown(applied=None)]},
        until=60.0,
    )
    lost, again = run.posts()
    stamps = [field_value(get.cloud, "updated.value") for get in run.gets() if get.cloud is not None]
    assert len(set(stamps)) == len(stamps) == 3
    assert run.reads(since=lost.sent, until=again.sent) == [near(answered(lost) + SETTLE_SECONDS)]
    assert again.sent == near(answered(lost) + SETTLE_SECONDS)
    assert run.outcomes() == [["not_applied"], ["applied"]]


def test_a_field_that_the_server_ignores_is_sent_once_more_and_then_reported_and_sent_on_a_schedule(
    shim: SqliteShim,
) -> None:
    three = {"region": "a", "version": "a", "urls.vanity.url": "a"}
    ignored_field = allocation(declared=three, ignored_field="region")
    run = run_script(shim, allocations=[ignored_field], updates={0: [unknown(applied=0.01)]}, until=3600.0)
    update, once_more, *retries = run.posts()
    assert update.answer == "unknown"
    assert [field_value(run.cloud(), name) for name in three] == ["x", "a", "a"]
    assert run.outcomes() == [["applied_partial"], *[["applied", "not_applied"]] * (1 + len(retries))]
    assert once_more.sent == near(answered(update) + 60.0)
    ignored_at = answered(once_more) + 60.0
    waited = [later.sent - answered(earlier) for earlier, later in pairwise([once_more, *retries])]
    assert waited == [near(wait) for wait in (60.0 + 300.0, 600.0, 1200.0)]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Pending", "Ignored"]
    (refused,) = [note for note in run.events("condition_changed", 0) if note.fields["after"] == "Ignored"]
    assert refused.at == near(ignored_at)


def test_an_accepted_or_partly_applied_update_is_not_pending_for_an_earlier_504(
    shim: SqliteShim,
) -> None:
    in_part = allocation(1, declared={"region": "a", "version": "a"}, ignored_field="region")
    run = run_script(
        shim,
        allocations=[allocation(0), in_part],
        updates={0: [unknown(applied=None), accepted(applied=30.0)], 1: [unknown(applied=0.01)]},
        until=150.0,
    )
    for key in range(2):
        assert run.posts(key)[0].answer == "unknown"
        pending = [note for note in run.events("condition_changed", key) if note.fields["after"] == "Pending"]
        assert [note.fields["reason"] for note in pending] == [
            "not read yet",
            "the update of region was accepted and does not show yet",
        ]
