"""Log lines: which events are logged, at which level, and in which format."""

import io
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.cloud import NumberLiteral
from allocsync.model.ids import AllocationId
from allocsync.reconcile.events import KINDS, Event
from allocsync.telemetry.log_events import LogObserver
from allocsync.telemetry.log_setup import LibraryLogHandler, configure, redirect_library_logs, rfc3339

ID = AllocationId("0d5b7c90")
AT = 1_795_435_450.218  # 2026-11-23T12:04:10.218Z


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def log_text(
    event: Event, *, log_format: str = "json", level: str = "debug", stream: io.StringIO | None = None
) -> str:
    stream = stream or io.StringIO()
    logger = configure(log_format, level, stream, environ={"NO_COLOR": "1"}, wall=lambda: AT)
    LogObserver(logger, wall=lambda: AT, now=lambda: 0.0)(event)
    return stream.getvalue()


def log_line(kind: str, fields: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = json.loads(log_text(Event(kind, ID, "r-5k2f", fields)))
    return found


def test_an_update_of_unknown_outcome_is_logged_as_documented() -> None:
    stream = io.StringIO()
    logger = configure("json", "info", stream, environ={}, wall=lambda: AT)
    observer = LogObserver(logger, wall=lambda: AT, now=lambda: 0.0)
    observer(Event("generation_adopted", fields={"generation": "7f3a91c2" + "0" * 56, "allocations": 1}))
    fields = {
        "outcome": "unknown",
        "status": 504,
        "reason": "504",
        "elapsed_seconds": 30.02,
        "settle_seconds": 10,
        "look_in_seconds": 10.0,
        "changes": [("version", NumberLiteral("1.9"), "1.10")],
    }
    observer(Event("update_finished", ID, "r-5k2f", fields))

    text = stream.getvalue().splitlines()[1]
    found = json.loads(text)

    assert text.startswith(
        '{"ts": "2026-11-23T12:04:10.218Z", "level": "warning", "event": "update_outcome_unknown", '
        '"reconcile": "r-5k2f", "allocation": "0d5b7c90", "generation": "7f3a91c2"'
    )
    assert (found["status"], found["elapsed_seconds"], found["settle_seconds"]) == (504, 30.02, 10)
    assert found["look_at"] == "2026-11-23T12:04:20.218Z"
    assert found["changes"] == [{"field": "version", "live": "1.9", "desired": "1.10"}]


@pytest.mark.parametrize(
    ("kind", "fields", "level", "name"),
    [
        ("generation_adopted", {"generation": "7"}, "info", "generation_adopted"),
        # a read is news only through the change of condition that it causes
        ("look_finished", {"answer": "live", "differs": 0}, "debug", "look_finished"),
        ("look_finished", {"answer": "live", "differs": 2}, "debug", "difference_found"),
        ("look_finished", {"answer": "failed"}, "debug", "look_failed"),
        ("look_finished", {"answer": "missing"}, "debug", "look_missing"),
        ("update_intended", {}, "debug", "update_intended"),
        ("update_finished", {"outcome": "accepted"}, "info", "update_accepted"),
        ("update_finished", {"outcome": "rejected", "status": 422}, "warning", "update_rejected"),
        ("update_finished", {"outcome": "rejected", "status": 429}, "info", "update_rejected"),
        ("update_finished", {"outcome": "unknown"}, "warning", "update_outcome_unknown"),
        ("update_finished", {"outcome": "not_sent"}, "debug", "update_not_sent"),
        ("update_settled", {"outcome": "applied"}, "info", "update_applied"),
        ("update_settled", {"outcome": "applied_partial"}, "warning", "update_applied_partial"),
        ("update_settled", {"outcome": "not_applied"}, "info", "update_not_applied"),
        ("update_settled", {"outcome": "superseded"}, "info", "update_superseded"),
        ("update_settled", {"outcome": "void"}, "info", "update_void"),
        ("condition_changed", {"before": None, "after": "Pending"}, "debug", "condition_changed"),
        ("condition_changed", {"before": "Pending", "after": "InSync"}, "debug", "condition_changed"),
        ("condition_changed", {"before": "Pending", "after": "Failing"}, "warning", "condition_changed"),
        ("condition_changed", {"before": "Failing", "after": "InSync"}, "info", "condition_changed"),
        ("condition_changed", {"before": "InSync", "after": "Drifted"}, "info", "condition_changed"),
        ("resync_started", {"how": "bulk"}, "debug", "resync_started"),
        ("resync_finished", {"differ": 0}, "debug", "resync_finished"),
        ("resync_finished", {"differ": 3}, "info", "resync_finished"),
        ("bulk_unavailable", {"supported": True}, "warning", "bulk_unavailable"),
        ("bulk_unavailable", {"supported": False}, "info", "bulk_unavailable"),
        ("breaker_opened", {"lane": "write", "reason": "504"}, "warning", "breaker_opened"),
        ("breaker_closed", {"lane": "write", "probes": 3}, "info", "breaker_closed"),
        ("probe_started", {"lane": "write"}, "debug", "probe_started"),
        ("all_in_sync", {"allocations": 3}, "info", "all_in_sync"),
        ("stopping", {"in_flight": 1}, "info", "stopping"),
        ("stopped", {"open_intents": 0}, "info", "stopped"),
        ("stopped", {"open_intents": 8}, "warning", "stopped"),
    ],
)
def test_each_event_has_its_level_and_name(
    kind: str, fields: dict[str, object], level: str, name: str
) -> None:
    found = log_line(kind, fields)

    assert (found["level"], found["event"]) == (level, name)


def test_failed_attempts_are_not_logged_but_the_change_of_condition_is() -> None:
    stream = io.StringIO()
    logger = configure("json", "info", stream, environ={}, wall=lambda: AT)
    observer = LogObserver(logger, wall=lambda: AT, now=lambda: 0.0)

    for _ in range(100):
        observer(Event("look_finished", ID, "r-1", {"answer": "failed", "status": 503}))
        observer(Event("update_finished", ID, "r-1", {"outcome": "not_sent", "reason": "refused"}))
    observer(Event("condition_changed", ID, None, {"before": "InSync", "after": "Failing", "reason": "503"}))

    assert len(stream.getvalue().splitlines()) == 1


def test_events_below_the_level_are_not_logged() -> None:
    assert log_text(Event("update_intended"), level="info") == ""
    assert log_text(Event("update_intended"), level="debug") != ""


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    assert json.loads(log_text(Event("stopping"), log_format="auto"))["event"] == "stopping"
    assert re.fullmatch(
        r"2026-11-23T12:04:10\.218Z \[info *\] stopping in_flight=3\n",
        log_text(Event("stopping", fields={"in_flight": 3}), log_format="auto", stream=Terminal()),
    )


@pytest.mark.parametrize("reason", ["no\x1b[2Jsuch\nlevel=error", "no\x1b[2J", "\x9b2J", "\u202egnp.exe"])
def test_control_characters_from_a_server_do_not_reach_the_terminal(reason: str) -> None:
    text = log_text(Event("bulk_unavailable", fields={"reason": reason}), log_format="console")

    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert log_line("bulk_unavailable", {"reason": reason})["reason"] == reason


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_represent_is_written_as_text(number: float) -> None:
    found = log_line("update_finished", {"elapsed_seconds": number, "look_in_seconds": number})

    assert found["elapsed_seconds"] == str(number)
    assert "look_at" not in found


def test_a_stream_that_cannot_be_written_loses_the_line_and_raises_nothing() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    closed = io.StringIO()
    closed.close()
    with open(write_end, "w", buffering=1) as broken:  # noqa: PTH123 - a descriptor has no path
        for stream in (broken, closed):
            logger = configure("json", "info", stream, environ={}, wall=lambda: AT)
            logger.info("lost")
        with pytest.raises(BrokenPipeError):
            broken.write("x\n")  # the fault is there
        with pytest.raises(BrokenPipeError):
            broken.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write_end)


def test_console_lines_in_the_systemd_journal_begin_with_their_priority(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        ours = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        for environ in (ours, {"JOURNAL_STREAM": "1:1"}):
            logger = configure("console", "info", stream, environ=environ, wall=lambda: AT)
            logger.warning("first")
            logger.info("second")

    lines = (tmp_path / "journal").read_text().splitlines()

    assert [text[:3] for text in lines] == ["<4>", "<6>", "202", "202"]
    assert "2026" not in lines[0]


def test_log_records_of_libraries_become_lines_with_their_traceback() -> None:
    for log_format in ("json", "console"):
        stream = io.StringIO()
        logger = configure(log_format, "info", stream, environ={}, wall=lambda: AT)
        library = logging.Logger("asyncio")  # noqa: LOG001 - not shared with other tests
        library.addHandler(LibraryLogHandler(logger))
        library.error("task failed: %s", "t-1", exc_info=ValueError("broken"))
        library.debug("too quiet")

        text = stream.getvalue()
        assert "library_message" in text
        assert "task failed: t-1" in text
        assert "ValueError: broken" in text
        assert "too quiet" not in text


def test_log_records_of_libraries_are_redirected_only_while_the_context_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = io.StringIO()
    with redirect_library_logs(configure("json", "info", stream, environ={}, wall=lambda: AT)):
        logging.getLogger("aiohttp.server").error("inside")
    logging.getLogger("aiohttp.server").error("outside")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == "inside"
    assert caplog.messages == ["outside"]


@given(st.floats(0, 4_000_000_000))
def test_times_are_in_utc_to_the_millisecond(seconds: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rfc3339(seconds))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(NumberLiteral, st.text()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=5,
)


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(["reason", "status", "other"]), anything))
def test_every_event_is_one_line_as_json_and_one_on_the_console(kind: str, fields: dict[str, object]) -> None:
    fields = {"generation": "7f3a91c2", **fields}

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = log_text(Event(kind, ID, "r-1", fields))
    assert text.count("\n") == 1
    json.loads(text, parse_constant=refuse)
    assert len(log_text(Event(kind, ID, "r-1", fields), log_format="console").splitlines()) == 1
