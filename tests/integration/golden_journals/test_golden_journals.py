"""Journals that earlier code recorded are restored by the current code, and each value keeps its meaning.

    NAME.db             the journal, as the code recorded it
    NAME.json           what must be restored from it, and the stored keys and values
    recorded_at.json    the wall clock at the end of each recording

The rule: these files never change. A failing test means that an updated daemon would misread its journal:
correct the code, not the file. A new format gets new files.

Left out: how journals are recorded (`record`), and what is never stored, such as the latest read.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from allocsync.errors import AllocsyncError
from allocsync.journal import reader
from allocsync.journal.checksum import decode_with_checksum
from allocsync.journal.database import FORMAT, NAME, TAIL, JournalFile
from allocsync.model.times import WallTime
from tests.integration.golden_journals.projection import history as history_of
from tests.integration.golden_journals.projection import projected, reported
from tests.integration.golden_journals.reopened import (
    FOLDER,
    RECORDED,
    Saved,
    clock_of,
    controller_of,
    copied,
    reopened,
    rows_compared,
    rows_in,
    save_unchanged,
    saved_anew,
    stored_in,
)
from tests.integration.golden_journals.scenarios import SCENARIOS

NAMES = sorted(RECORDED)
each_journal = pytest.mark.parametrize("name", NAMES)
LONG = "more_than_a_thousand_rows"


def expected(name: str) -> dict[str, Any]:
    """What must be found in the journal."""
    values: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return values


def restored(name: str, directory: Path) -> dict[str, Any]:
    """What is restored from the journal."""
    with reopened(name, directory) as of:
        return projected(of)


def allocation(name: str, key: str, directory: Path) -> dict[str, Any]:
    """What is restored of one allocation."""
    values: dict[str, Any] = restored(name, directory)["allocations"][key]
    return values


def without_time(stored: dict[str, Any]) -> dict[str, Any]:
    """The stored values without the time at which each was saved."""
    return {key: {word: each[word] for word in each if word != "at"} for key, each in stored.items()}


# Each journal as a whole.


def test_each_scenario_has_its_journal_and_its_expected_values() -> None:
    assert sorted(SCENARIOS) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.db")) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted([*NAMES, "recorded_at"])


@each_journal
def test_every_restored_value_keeps_its_meaning(name: str, tmp_path: Path) -> None:
    assert restored(name, tmp_path) == expected(name)["restored"]


@each_journal
def test_the_controller_reports_what_was_restored(name: str, tmp_path: Path) -> None:
    with reopened(name, tmp_path) as of:
        keys = sorted({*of.baseline, *of.in_force})
        assert reported(controller_of(name, of), keys, RECORDED[name]) == expected(name)["said"]


@each_journal
def test_the_history_keeps_its_meaning(name: str, tmp_path: Path) -> None:
    copied(name, tmp_path)
    assert history_of(tmp_path, RECORDED[name]) == expected(name)["history"]


@each_journal
def test_stored_keys_and_values_keep_their_names(name: str, tmp_path: Path) -> None:
    path = copied(name, tmp_path)
    assert stored_in(path) == expected(name)["stored"]
    assert rows_in(path, last=rows_compared(name)) == expected(name)["rows"]
    with closing(sqlite3.connect(path)) as connection:
        for key, value in connection.execute("SELECT key, value FROM memory"):
            assert decode_with_checksum(key, value) == expected(name)["stored"][key]


@each_journal
def test_a_process_that_does_nothing_saves_nothing(name: str, tmp_path: Path) -> None:
    saved = Saved()
    with reopened(name, tmp_path, saved) as of:
        save_unchanged(of)
    assert saved.entries == []
    assert stored_in(tmp_path / NAME) == expected(name)["stored"]


@each_journal
def test_restored_values_are_stored_in_the_same_way_when_they_are_saved_again(
    name: str, tmp_path: Path
) -> None:
    with reopened(name, tmp_path / "before") as of:
        saved = saved_anew(name, of)
    clock, anew = clock_of(name), tmp_path / "anew"
    anew.mkdir()
    file, _ = JournalFile.open(anew, wall=clock.wall)
    file.write(saved.entries, clock.wall())
    file.close()
    assert without_time(stored_in(anew / NAME)) == without_time(expected(name)["stored"])


@each_journal
def test_an_open_update_is_stored_in_the_same_way_when_it_is_written_again(name: str, tmp_path: Path) -> None:
    rows = {row[0]: row[5] for row in expected(name)["rows"]}
    with reopened(name, tmp_path) as of:
        for left in of.restored.open_intents:
            assert json.loads(json.dumps(left.record.as_data())) == rows[left.sequence]


@each_journal
def test_the_whole_chain_has_no_problem(name: str, tmp_path: Path) -> None:
    copied(name, tmp_path)
    with reader.opened(tmp_path) as connection:
        checked = reader.verify(connection)
    assert checked.problems == ()
    assert checked.head.sequence == expected(name)["restored"]["last_row"]
    assert checked.rows == checked.head.sequence - expected(name)["restored"]["cut_off_up_to_row"]


@each_journal
def test_a_new_journal_has_the_same_tables(name: str, tmp_path: Path) -> None:
    anew = tmp_path / "anew"
    anew.mkdir()
    JournalFile.open(anew, wall=lambda: WallTime(0.0))[0].close()
    query = "SELECT name, sql FROM sqlite_master ORDER BY name"
    found = []
    for path in (copied(name, tmp_path), anew / NAME):
        with closing(sqlite3.connect(path)) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()
            found.append((application, connection.execute(query).fetchall()))
    assert found[0] == found[1]
    assert found[0][0] == (0x616C7379,)


# The meaning of single values, as the scenario defines it.


def test_a_late_write_keeps_the_values_that_it_carried(tmp_path: Path) -> None:
    (write,) = allocation("late_writes", "given-up", tmp_path)["late_writes"]
    assert write["carries"] == {"region": "new", "version": "1"}
    assert write["changes"] == ["region"]
    assert write["accepted"] is False


def test_a_late_write_may_be_applied_for_fifteen_minutes_after_it_was_given_up(tmp_path: Path) -> None:
    (write,) = allocation("late_writes", "given-up", tmp_path)["late_writes"]
    recording_seconds, answered, given_up = 30.0, 0.5, 10.75
    assert write["request_ended_at"] == answered - recording_seconds
    assert write["may_land_until"] == given_up + 900.0 - recording_seconds


def test_an_accepted_update_is_a_late_write_that_was_accepted(tmp_path: Path) -> None:
    values = allocation("late_writes", "accepted", tmp_path)
    assert [each["accepted"] for each in values["late_writes"]] == [True]
    assert values["value_before_accepted_updates"] == {"region": "text old"}


def test_a_late_write_that_was_reported_as_applied_stays_marked(tmp_path: Path) -> None:
    writes = allocation("late_writes", "told", tmp_path)["late_writes"]
    assert [(each["row"], each["told_as_landed"]) for each in writes] == [(4, True), (7, False)]


def test_a_foreign_change_beside_a_late_write_is_restored(tmp_path: Path) -> None:
    (write,) = allocation("late_writes", "foreign", tmp_path)["late_writes"]
    assert write["unmanaged_hash_last_seen"] != write["unmanaged_hash"]


def test_an_open_update_keeps_its_row_and_its_changes_and_is_judged_after_the_settle_time(
    tmp_path: Path,
) -> None:
    update = allocation("open_updates", "cut-off", tmp_path)["open_update"]
    assert update["row"] == 1
    assert update["changes"] == [
        {"field": "region", "from": "text old", "to": "new"},
        {"field": "version", "from": "text 1", "to": "2"},
    ]
    assert update["not_given_up_before"] - update["outcome_unknown_since"] == 10.0


def test_late_values_and_changed_unmanaged_fields_since_an_update_is_open_are_restored(
    tmp_path: Path,
) -> None:
    values = allocation("open_update_after_a_late_application", "landed", tmp_path)
    assert values["set_by_late_landings_since_the_update_is_open"] == {"region": "text first"}
    assert values["unmanaged_fields_moved_since_the_update_is_open"] is True


def test_an_accepted_field_keeps_its_value_and_the_live_value_before_it(tmp_path: Path) -> None:
    fields = allocation("accepted_field", "awaited", tmp_path)["fields"]
    assert fields["region"]["accepted_value_not_shown_yet"] == "new"
    assert fields["region"]["live_when_it_was_accepted"] == "text old"
    assert fields["region"]["accepted_at"] == 0.5 - 20.0
    assert fields["version"]["accepted_value_not_shown_yet"] == "2"


def test_an_ignored_field_is_sent_again_after_six_hours_and_sooner_when_its_live_value_changes(
    tmp_path: Path,
) -> None:
    still = allocation("ignored_fields", "still", tmp_path)["fields"]["region"]
    moving = allocation("ignored_fields", "moving", tmp_path / "again")["fields"]["region"]
    assert still["sent_again_at"] - still["not_honoured_since"] == 21_600.0
    assert (still["moves_of_the_live_value"], still["live_instead"]) == (0, "text old")
    assert (moving["moves_of_the_live_value"], moving["live_instead"]) == (2, "text yet elsewhere")
    assert moving["sent_again_at"] == 70.25 + 300.0 - 80.0


def test_a_field_in_conflict_keeps_its_flips_and_how_long_it_is_slowed_down(tmp_path: Path) -> None:
    in_conflict = allocation("conflicts", "fought", tmp_path)["fields"]["region"]
    equal = allocation("conflicts", "calm", tmp_path / "again")["fields"]["region"]
    assert [at + 345.0 for at in in_conflict["changed_back_at"]] == [320.25, 325.25, 330.25]
    assert in_conflict["slowed_until"] + 345.0 == 330.25 + 300.0
    assert (in_conflict["slowed_times"], in_conflict["equal_since"]) == (1, "never")
    assert (equal["slowed_times"], equal["equal_since"] + 345.0) == (2, 340.25)
    assert equal["slowed_until"] + 345.0 == 335.25 + 600.0


def test_backoff_and_retry_after_are_restored_separately(tmp_path: Path) -> None:
    found = restored("backoff_and_retry_after", tmp_path)["allocations"]
    assert found["unavailable"]["no_update_before"] == {"backoff": 9.0 + 64.0 - 15.0}
    assert found["unreadable"]["no_update_before"] == {"retry_after": 11.25 + 90.0 - 15.0}
    assert found["too-many"]["no_update_before"] == dict.fromkeys(("backoff", "retry_after"), 116.5)
    assert found["unavailable"]["failed_updates_in_a_row"] == 2


def test_rejected_changes_are_not_sent_for_an_hour(tmp_path: Path) -> None:
    values = allocation("rejected_changes", "rejected", tmp_path)
    assert values["rejected_until"] == 0.5 + 3600.0 - 10.0
    assert values["rejected_changes"] == [
        {"field": "region", "from": "text old", "to": "nowhere"},
        {"field": "version", "from": "number 2.0", "to": "2.0"},
    ]


def test_the_learned_settle_time_is_restored(tmp_path: Path) -> None:
    values = restored("settle_time", tmp_path)
    assert values["largest_lag_seconds"] == 42.0
    assert values["settle_seconds"] == 84.0
    assert [each["took_seconds"] for each in values["unknown_outcomes"]] == [30.0, 12.0]


def test_the_updates_of_the_last_hour_are_restored_by_the_minute(tmp_path: Path) -> None:
    assert restored("write_quota", tmp_path)["updates_sent"] == [
        {"minute_begins": 0.25 - 120.0, "updates": 2},
        {"minute_begins": 100.25 - 120.0, "updates": 1},
    ]


def test_the_baseline_keeps_each_mode_and_the_order_of_fields(tmp_path: Path) -> None:
    found = restored("baseline", tmp_path)["baseline"]
    assert {key: each["mode"] for key, each in found.items()} == {
        "bare": "enforce",
        "enforced": "enforce",
        "observed": "observe",
        "suspended": "suspend",
    }
    assert found["enforced"]["fields"] == [["region", "Zürich"], ["version", "北京 🚀"]]
    assert found["bare"]["fields"] == []


def test_declarations_active_beside_the_baseline_are_restored_and_removals_too(
    tmp_path: Path,
) -> None:
    found = restored("in_force_beside_the_baseline", tmp_path)
    assert found["in_force"]["removed"] == "not declared"
    assert found["in_force"]["edited"]["fields"] == [["region", "after"]]
    assert found["in_force"]["mode"]["mode"] == "observe"
    assert sorted(found["in_force"]) == ["edited", "mode", "new", "removed"]
    assert found["baseline"]["edited"]["fields"] == [["region", "before"]]


def test_pauses_keep_their_end_reason_and_owner(tmp_path: Path) -> None:
    found = restored("pauses", tmp_path)
    assert found["all_paused"]["ends"] == 5.0 + 3600.0 - 10.0
    assert (found["all_paused"]["reason"], found["all_paused"]["owner"]) == ("Wartung, 维护", "ops")
    assert found["paused"]["paused"]["ends"] == 5.0 + 7200.0 - 10.0
    assert found["paused"]["paused"]["owner"] == "Łukasz"


def test_after_a_gap_nothing_is_sent_for_the_settle_time(tmp_path: Path) -> None:
    found = restored("gap_after_damage", tmp_path)
    assert found["record_lost_at"] == -5.0
    assert found["allocations"]["waiting"]["no_update_before"] == {"takeover": -5.0 + 60.0}
    assert found["no_update_of_others_before"] == {"takeover": -5.0 + 60.0}


def test_a_pruned_journal_begins_after_the_deleted_rows(tmp_path: Path) -> None:
    found = restored("pruned", tmp_path)
    assert (found["cut_off_up_to_row"], found["last_row"]) == (4, 6)


def test_live_values_of_any_kind_are_restored_wherever_they_are_stored(tmp_path: Path) -> None:
    odd = {
        "user": "number -0",
        "region": "number 1e400",
        "version": {"a": {"ü": "number 1"}, "b": ["number 1.10", "number -0", None, True, "text 1.10"]},
    }
    found = restored("odd_live_values", tmp_path)
    of = found["allocations"]
    accepted, ignored = of["awaited"]["fields"], of["refused"]["fields"]
    assert {name: each["live_when_it_was_accepted"] for name, each in accepted.items()} == odd
    assert {name: each["live_instead"] for name, each in ignored.items()} == odd
    assert {each["field"]: each["from"] for each in of["rejected"]["rejected_changes"]} == odd
    assert {each["field"]: each["from"] for each in of["open"]["open_update"]["changes"]} == odd
    assert of["given-up"]["last_value_of_fields_of_late_writes"] == odd
    assert of["awaited"]["value_before_accepted_updates"] == odd


# The file.


def changed(directory: Path, statement: str, *values: object) -> Path:
    """A copy of the long journal that this SQL statement changed in one row."""
    path = copied(LONG, directory)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(statement, values).rowcount == 1
    return path


def test_a_row_before_the_last_thousand_is_checked_by_verify_only(tmp_path: Path) -> None:
    last = expected(LONG)["restored"]["last_row"]
    assert last > TAIL
    changed(tmp_path, "UPDATE entries SET data = '{}' WHERE sequence = ?", 2)
    file, found = JournalFile.open(tmp_path, wall=clock_of(LONG).wall)
    file.close()
    assert found.gap is None
    with reader.opened(tmp_path) as connection:
        assert reader.verify(connection).problems == (
            "row 2 is not what was written, or the row before it is not",
        )


def test_a_row_of_the_last_thousand_is_checked_at_the_start(tmp_path: Path) -> None:
    first_checked = expected(LONG)["restored"]["last_row"] - TAIL + 2
    changed(tmp_path, "UPDATE entries SET data = '{}' WHERE sequence = ?", first_checked)
    file, found = JournalFile.open(tmp_path, wall=clock_of(LONG).wall)
    file.close()
    assert found.gap is not None
    assert f"row {first_checked} is not what was written" in found.gap


def test_a_journal_of_the_current_format_is_accepted(tmp_path: Path) -> None:
    path = copied("open_updates", tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert FORMAT == 1
    assert restored("open_updates", tmp_path)["record_lost"] is None


def test_a_journal_of_the_next_format_is_rejected_in_one_line_and_not_changed(tmp_path: Path) -> None:
    path = copied("open_updates", tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    before = path.read_bytes()
    with pytest.raises(AllocsyncError) as rejected:
        JournalFile.open(tmp_path, wall=clock_of("open_updates").wall)
    message = str(rejected.value)
    assert "\n" not in message
    assert f"written by a newer allocsync (format {FORMAT + 1}; this one knows {FORMAT})" in message
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [NAME]
