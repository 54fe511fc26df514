"""What `explain` prints of fields that do not stay as declared, and which command it advises."""

from datetime import UTC, datetime
from typing import Any

from allocsync.cli.commands.explain import format_explanation

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


IN_ANSWER = {"api", "declaration", "rejected", "next_read_at", "waits_for", "advice"}  # not in a field


def printed(condition: str = "Conflict", **more: object) -> list[str]:
    field = {name: value for name, value in more.items() if name not in IN_ANSWER}
    answer: dict[str, Any] = {
        "id": "7b0c4c5e",
        "condition": condition,
        "since": "2026-11-23T11:00:00Z",
        "reason": "because",
        "paused": None,
        "mode": "enforce",
        "source": "a.yaml:3",
        "problems": [],
        "desired": {},
        "differences": [],
        "missing": False,
        "open_update": None,
        "last_error": "",
        "read_failures": 0,
        "write_failures": 0,
        "observed_at": None,
        "no_update_before": None,
        "next_read_at": None,
        "waits_for": "",
        "declaration": "",
        "advice": "",
        "answer_age_seconds": 0,
        "rejected": None,
        "api": {
            "reachable": True,
            "since": None,
            "reason": "",
            "last_confirmed_at": None,
            "next_attempt_at": None,
        },
        "fields": [
            {
                "field": "region",
                "ignored_since": None,
                "in_conflict": True,
                "next_attempt_at": None,
                "changed_back_at": [],
                "another_writer": True,
                **field,
            }
        ],
    }
    answer |= {name: value for name, value in more.items() if name in IN_ANSWER}
    return [line.text for line in format_explanation(answer, NOW)]


def test_times_at_which_a_field_was_changed_back_are_named() -> None:
    times = ["2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z"]
    assert (
        "  suspected   another writer: region changed back at 10:00:00Z (2 h ago), 11:00:00Z (60 min ago)"
        in printed(changed_back_at=times)
    )
    assert not [line for line in printed(changed_back_at=times, another_writer=False) if "suspected" in line]


def test_the_next_attempt_by_itself_is_named() -> None:
    lines = printed(next_attempt_at="2026-11-23T12:05:00Z")
    assert "  tries again region   12:05:00Z (in 5 min), by itself" in lines
    assert not [line for line in printed() if line.startswith("  tries again")]


def test_what_to_do_is_one_line_if_there_is_anything_to_do() -> None:
    assert "  do          wait" in printed(advice="wait")
    assert not [line for line in printed() if line.startswith("  do ")]


def test_an_outage_an_entry_with_errors_and_rejected_files_are_told_of_every_allocation() -> None:
    lines = printed(
        api={
            "reachable": False,
            "since": "2026-11-23T11:58:00Z",
            "reason": "connection refused",
            "last_confirmed_at": "2026-11-23T11:57:58Z",
            "next_attempt_at": "2026-11-23T12:00:05Z",
        },
        declaration="its entry has errors (a.yaml:3:5: regoin); the last valid one still applies",
        rejected={"since": "2026-11-23T11:59:00Z", "count": 1, "problems": []},
        next_read_at="2026-11-23T12:00:05Z",
        waits_for="the next probe",
    )
    assert lines[0].startswith("API unreachable since 11:58:00Z (2 min ago); connection refused")
    assert any("the last valid one still applies" in line for line in lines)
    assert any("rejected since 11:59:00Z (60 s ago)" in line for line in lines)
    assert "  next read   12:00:05Z (in 5 s), waits for the next probe" in lines
