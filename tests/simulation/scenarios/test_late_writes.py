"""Updates whose outcome is unknown, and that land late: what is read, sent again, written down and told."""

from allocsync.model.cloud import leaf
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Ends, Foreign, How, Look
from tests.simulation.engine.script import accepted, allocation, at, edit, play, unknown
from tests.simulation.oracles.run_record import answered, near

SETTLE_SECONDS = 10.0


def test_an_update_that_lands_after_its_504_is_found_by_one_read_and_not_sent_again(
    shim: SqliteShim,
) -> None:
    run = play(shim, updates={0: [unknown(lands=3.0)]}, until=60.0)
    (update,) = run.posts()
    assert (update.answer, update.applied) == ("unknown", near(3.0))
    assert run.reads(since=update.sent) == [near(answered(update) + SETTLE_SECONDS)]
    assert run.outcomes() == [["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "InSync"]


def test_a_landing_after_the_settle_time_is_told_as_late_and_teaches_a_longer_one_that_a_restart_keeps(
    shim: SqliteShim,
) -> None:
    lost, slowly_lost = unknown(lands=None), unknown(8.0, lands=None)
    run = play(
        shim,
        updates={0: [unknown(lands=25.0), slowly_lost, lost]},
        events=[at(40.0, Ends(How.KILL, 1.0)), at(60.0, edit("b"))],
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


def test_a_landing_that_undoes_an_edit_is_told_as_late_and_the_edit_is_sent_once_more(
    shim: SqliteShim,
) -> None:
    run = play(
        shim,
        updates={0: [unknown(lands=25.0)]},
        events=[at(5.0, edit("b")), at(30.0, Look())],
        until=400.0,
    )
    late, edited, once_more = run.posts()
    assert edited.sent == near(answered(late) + SETTLE_SECONDS)
    assert (late.applied, once_more.sent) == (near(25.0), near(30.0))
    assert leaf(run.cloud(), "region") == "b"
    assert run.outcomes() == [["not_applied", "late_applied"], ["applied"], ["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Pending", "InSync", "Pending", "InSync"]


def test_a_file_that_goes_back_to_the_live_value_is_not_in_sync_while_an_update_may_land(
    shim: SqliteShim,
) -> None:
    run = play(
        shim,
        updates={0: [unknown(lands=5.0)]},
        events=[at(1.0, edit("x")), at(3.0, Look())],
        bulk="on",
        until=100.0,
    )
    landed, repair = run.posts()
    assert near(3.0) in run.lists  # it called them equal
    assert landed.applied == near(5.0)
    assert repair.sent == near(answered(landed) + SETTLE_SECONDS)
    assert leaf(run.cloud(), "region") == "x"
    assert run.outcomes() == [["applied"], ["applied"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Pending", "InSync"]


def test_a_landing_that_overwrites_what_is_not_declared_is_told_and_not_repaired(shim: SqliteShim) -> None:
    run = play(
        shim,
        updates={0: [unknown(lands=25.0)]},
        events=[at(4.0, Foreign(0, "note", "theirs")), at(30.0, Look())],
        until=400.0,
    )
    late, again = run.posts()
    assert again.sent == near(answered(late) + SETTLE_SECONDS)
    assert leaf(again.body, "note") == "theirs"
    assert (late.applied, leaf(run.cloud(), "note")) == (near(25.0), "n")
    assert run.outcomes() == [["not_applied", "stale_overwrite"], ["applied"]]
    settled = [note for note in run.told("update_settled", 0) if note.fields["outcome"] == "stale_overwrite"]
    assert [note.at for note in settled] == [near(30.0)]
    assert run.conditions(since=again.sent) == ["Pending", "InSync"]


def test_a_time_stamp_that_ticks_is_no_evidence_and_shortens_no_settle_time(shim: SqliteShim) -> None:
    run = play(shim, allocations=[allocation(ticking=True)], updates={0: [unknown(lands=None)]}, until=60.0)
    lost, again = run.posts()
    stamps = [leaf(get.cloud, "updated.value") for get in run.gets() if get.cloud is not None]
    assert len(set(stamps)) == len(stamps) == 3
    assert run.reads(since=lost.sent, until=again.sent) == [near(answered(lost) + SETTLE_SECONDS)]
    assert again.sent == near(answered(lost) + SETTLE_SECONDS)
    assert run.outcomes() == [["not_applied"], ["applied"]]


def test_an_update_that_is_honoured_in_part_is_refused_after_grace_and_not_sent_again(
    shim: SqliteShim,
) -> None:
    three = {"region": "a", "version": "a", "urls.vanity.url": "a"}
    deaf = allocation(declared=three, deaf="region")
    run = play(shim, allocations=[deaf], updates={0: [unknown(lands=0.01)]}, until=3600.0)
    (update,) = run.posts()
    assert update.answer == "unknown"
    assert [leaf(run.cloud(), name) for name in three] == ["x", "a", "a"]
    assert run.outcomes() == [["applied_partial"]]
    assert run.conditions() == ["Pending", "OutcomeUnknown", "Pending", "Ignored"]
    (refused,) = [note for note in run.told("condition_changed", 0) if note.fields["after"] == "Ignored"]
    assert refused.at == near(answered(update) + 60.0)


def test_what_was_accepted_or_has_landed_in_part_is_not_pending_for_the_504_before_it(
    shim: SqliteShim,
) -> None:
    in_part = allocation(1, declared={"region": "a", "version": "a"}, deaf="region")
    run = play(
        shim,
        allocations=[allocation(0), in_part],
        updates={0: [unknown(lands=None), accepted(lands=30.0)], 1: [unknown(lands=0.01)]},
        until=150.0,
    )
    for key in range(2):
        assert run.posts(key)[0].answer == "unknown"
        pending = [note for note in run.told("condition_changed", key) if note.fields["after"] == "Pending"]
        assert [note.fields["reason"] for note in pending] == [
            "not looked at yet",
            "the update of region was accepted and does not show yet",
        ]
