"""Log lines: which events are logged, at which level, and in which format."""

import io
import json
import logging
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.change import Change
from allocsync.model.cloud import NumberLiteral
from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile import events
from allocsync.reconcile.events import Event
from allocsync.reconcile.operation import Operation
from allocsync.telemetry.log_events import LogObserver
from allocsync.telemetry.log_setup import LibraryLogHandler, configure, redirect_library_logs, rfc3339
from tests.support.made_events import made

ID = AllocationId("0d5b7c90")
AT = WallTime(1_795_435_450.218)  # 2026-11-23T12:04:10.218Z


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def log_text(
    event: Event, *, log_format: str = "json", level: str = "debug", stream: io.StringIO | None = None
) -> str:
    stream = stream or io.StringIO()
    logger = configure(log_format, level, stream, environ={"NO_COLOR": "1"}, wall=lambda: AT)
    LogObserver(logger, wall=lambda: AT, now=lambda: Monotonic(0.0))(event)
    return stream.getvalue()


def log_line(event: Event) -> dict[str, object]:
    found: dict[str, object] = json.loads(log_text(event))
    return found


def test_an_update_of_unknown_outcome_is_logged_as_documented() -> None:
    stream = io.StringIO()
    logger = configure("json", "info", stream, environ={}, wall=lambda: AT)
    observer = LogObserver(logger, wall=lambda: AT, now=lambda: Monotonic(0.0))
    observer(made(events.RevisionActivated, revision="7f3a91c2" + "0" * 56, allocations=1))
    observer(
        made(
            events.UpdateFinished,
            reconcile="r-5k2f",
            outcome="unknown",
            status=504,
            reason="504",
            elapsed_seconds=30.02,
            settle_seconds=10,
            next_read_in_seconds=10.0,
            changes=(Change("version", NumberLiteral("1.9"), "1.10"),),
        )
    )

    text = stream.getvalue().splitlines()[1]
    found = json.loads(text)

    assert text.startswith(
        '{"ts": "2026-11-23T12:04:10.218Z", "level": "warning", "event": "update_outcome_unknown", '
        '"reconcile": "r-5k2f", "allocation": "0d5b7c90", "revision": "7f3a91c2"'
    )
    assert (found["status"], found["elapsed_seconds"], found["settle_seconds"]) == (504, 30.02, 10)
    assert found["next_read_at"] == "2026-11-23T12:04:20.218Z"
    assert found["revision"] == "7f3a91c2"
    assert found["changes"] == [{"field": "version", "live": "1.9", "desired": "1.10"}]


@pytest.mark.parametrize(
    ("event", "level", "name"),
    [
        (made(events.RevisionActivated), "info", "revision_activated"),
        # a read is news only through the change of condition that it causes
        (made(events.ReadFinished, answer="live", differs=0), "debug", "read_finished"),
        (made(events.ReadFinished, answer="live", differs=2), "debug", "difference_found"),
        (made(events.ReadFinished, answer="failed"), "debug", "read_failed"),
        (made(events.ReadFinished, answer="missing"), "debug", "read_missing"),
        (made(events.UpdateIntended), "debug", "update_intended"),
        (made(events.UpdateFinished, outcome="accepted"), "info", "update_accepted"),
        (made(events.UpdateFinished, outcome="rejected", status=422), "warning", "update_rejected"),
        (made(events.UpdateFinished, outcome="rejected", status=429), "info", "update_rejected"),
        (made(events.UpdateFinished, outcome="unknown"), "warning", "update_outcome_unknown"),
        (made(events.UpdateFinished, outcome="not_sent"), "debug", "update_not_sent"),
        (made(events.UpdateSettled, outcome="applied"), "info", "update_applied"),
        (made(events.UpdateSettled, outcome="applied_partial"), "warning", "update_applied_partial"),
        (made(events.UpdateSettled, outcome="not_applied"), "info", "update_not_applied"),
        (made(events.UpdateSettled, outcome="superseded"), "info", "update_superseded"),
        (made(events.UpdateSettled, outcome="void"), "info", "update_void"),
        (made(events.ConditionChanged, before=None, after=Condition.PENDING), "debug", "condition_changed"),
        (
            made(events.ConditionChanged, before=Condition.PENDING, after=Condition.IN_SYNC),
            "debug",
            "condition_changed",
        ),
        (
            made(events.ConditionChanged, before=Condition.PENDING, after=Condition.FAILING),
            "warning",
            "condition_changed",
        ),
        (
            made(events.ConditionChanged, before=Condition.FAILING, after=Condition.IN_SYNC),
            "info",
            "condition_changed",
        ),
        (
            made(events.ConditionChanged, before=Condition.IN_SYNC, after=Condition.DRIFTED),
            "info",
            "condition_changed",
        ),
        (made(events.ResyncStarted), "debug", "resync_started"),
        (made(events.ResyncFinished, differ=0), "debug", "resync_finished"),
        (made(events.ResyncFinished, differ=3), "info", "resync_finished"),
        (made(events.ListUnavailable, supported=True), "warning", "bulk_unavailable"),
        (made(events.ListUnavailable, supported=False), "info", "bulk_unavailable"),
        (made(events.BreakerOpened, reason="504", operation=Operation.WRITE), "warning", "breaker_opened"),
        (made(events.BreakerClosed, probes=3, operation=Operation.WRITE), "info", "breaker_closed"),
        (made(events.ProbeStarted, operation=Operation.WRITE), "debug", "probe_started"),
        (made(events.AllInSync, allocations=3), "info", "all_in_sync"),
        (made(events.Stopping, in_flight=1), "info", "stopping"),
        (made(events.Stopped, open_intents=0), "info", "stopped"),
        (made(events.Stopped, open_intents=8), "warning", "stopped"),
    ],
)
def test_each_event_has_its_level_and_name(event: Event, level: str, name: str) -> None:
    found = log_line(event)

    assert (found["level"], found["event"]) == (level, name)


def test_a_suspicion_of_another_writer_is_a_warning_with_the_times() -> None:
    found = log_line(
        made(
            events.AnotherWriterSuspected,
            fields=("region", "version"),
            flips=3,
            changed_back_at=((AT - 60, AT - 30, AT), ()),
        )
    )
    assert (found["event"], found["level"]) == ("another_writer_suspected", "warning")
    assert found["fields"] == ["region", "version"]
    times = ["2026-11-23T12:03:10.218Z", "2026-11-23T12:03:40.218Z", "2026-11-23T12:04:10.218Z"]
    assert found["changed_back_at"] == [times, []]


def test_a_retry_is_one_line_that_names_who_asked() -> None:
    of_one = log_line(made(events.RetryRequested, by="mark@here"))
    assert (of_one["event"], of_one["level"]) == ("retry_requested", "info")
    assert (of_one["allocation"], of_one["scope"], of_one["by"]) == (ID, "one", "mark@here")
    of_all = log_line(made(events.RetryRequested, allocation=None, scope="all"))
    assert of_all["scope"] == "all"
    assert not of_all.keys() & {"allocation", "by"}


def test_failed_attempts_are_not_logged_but_the_change_of_condition_is() -> None:
    stream = io.StringIO()
    logger = configure("json", "info", stream, environ={}, wall=lambda: AT)
    observer = LogObserver(logger, wall=lambda: AT, now=lambda: Monotonic(0.0))

    for _ in range(100):
        observer(made(events.ReadFinished, answer="failed", status=503))
        observer(made(events.UpdateFinished, outcome="not_sent", reason="refused"))
    observer(made(events.ConditionChanged, before=Condition.IN_SYNC, after=Condition.FAILING, reason="503"))

    assert len(stream.getvalue().splitlines()) == 1


def test_events_below_the_level_are_not_logged() -> None:
    assert log_text(made(events.UpdateIntended), level="info") == ""
    assert log_text(made(events.UpdateIntended), level="debug") != ""


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    assert json.loads(log_text(made(events.Stopping), log_format="auto"))["event"] == "stopping"
    assert re.fullmatch(
        r"2026-11-23T12:04:10\.218Z \[info *\] stopping in_flight=3\n",
        log_text(made(events.Stopping, in_flight=3), log_format="auto", stream=Terminal()),
    )


@pytest.mark.parametrize("reason", ["no\x1b[2Jsuch\nlevel=error", "no\x1b[2J", "\x9b2J", "\u202egnp.exe"])
def test_control_characters_from_a_server_do_not_reach_the_terminal(reason: str) -> None:
    event = made(events.ListUnavailable, reason=reason)
    text = log_text(event, log_format="console")

    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert log_line(event)["reason"] == reason


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_represent_is_written_as_text(number: float) -> None:
    found = log_line(made(events.UpdateFinished, elapsed_seconds=number, next_read_in_seconds=number))

    assert found["elapsed_seconds"] == str(number)
    assert "next_read_at" not in found


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


def test_json_lines_in_the_systemd_journal_begin_with_their_priority_and_keep_their_time(
    tmp_path: Path,
) -> None:
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        ours = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        for environ in (ours, {"JOURNAL_STREAM": "1:1"}):
            logger = configure("json", "info", stream, environ=environ, wall=lambda: AT)
            logger.error("first")
            logger.info("second")

    lines = (tmp_path / "journal").read_text().splitlines()

    assert [text[:3] for text in lines] == ["<3>", "<6>", '{"t', '{"t']
    assert json.loads(lines[0].removeprefix("<3>"))["event"] == "first"
    assert json.loads(lines[0].removeprefix("<3>"))["ts"].startswith("20")


def test_each_line_of_a_traceback_in_the_systemd_journal_has_its_priority(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        logger = configure("console", "info", stream, environ=environ, wall=lambda: AT)
        logger.error("failed", exception="Traceback:\n  line\nValueError")

    lines = (tmp_path / "journal").read_text().splitlines()

    assert len(lines) > 2
    assert {text[:3] for text in lines} == {"<3>"}


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
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rfc3339(WallTime(seconds)))


values = st.none() | st.booleans() | st.text() | st.builds(NumberLiteral, st.text())
live = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(events.KINDS), st.text(), st.text(), st.lists(live, max_size=2))
def test_every_event_is_one_line_as_json_and_one_on_the_console(
    kind: type[Event], text: str, field: str, values: list[Any]
) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    drawn = {"reason": text, "owner": text, "allocation": AllocationId(text)}
    given_fields: dict[str, object] = {name: value for name, value in drawn.items() if name in kind.__slots__}
    if kind is events.UpdateFinished:
        given_fields["changes"] = tuple(Change(field, value, text) for value in values)
    if kind is events.AnotherWriterSuspected:
        given_fields |= {"fields": (field,), "changed_back_at": ((AT, AT + 1.0),)}
    event = made(kind, **given_fields)
    logged = log_text(event)
    assert logged.count("\n") == 1
    json.loads(logged, parse_constant=refuse)
    assert len(log_text(event, log_format="console").splitlines()) == 1


def test_a_cache_that_answers_reads_is_one_warning_with_the_age_and_the_advice() -> None:
    logged = json.loads(log_text(events.ReadsCached(age_seconds=43.4)))
    assert (logged["level"], logged["event"], logged["age_seconds"]) == ("warning", "reads_cached", 43)
    assert logged["note"].startswith(
        "reads are up to 43 s old: a cache between allocsync and the API answers them"
    )


def test_the_fields_of_each_event_keep_their_names() -> None:
    found = {kind.name: [field.name for field in fields(kind)] for kind in events.KINDS}
    assert found == {
        "revision_activated": ["revision", "allocations", "changed", "removed", "quarantined", "files"],
        "revision_awaiting_approval": [
            *("revision", "reason", "changed", "added", "removed", "allocations", "limit_percent"),
        ],
        "revision_approved": ["revision", "changes", "by"],
        "read_finished": [
            *("allocation", "reconcile", "answer", "status", "reason", "elapsed_seconds", "differs"),
        ],
        "reads_cached": ["age_seconds"],
        "update_intended": ["allocation", "reconcile", "fields", "sequence"],
        "update_finished": [
            *("allocation", "reconcile", "outcome", "cause", "status", "reason", "elapsed_seconds"),
            *("settle_seconds", "next_read_in_seconds", "changes"),
        ],
        "converged": ["allocation", "cause", "seconds"],
        "update_settled": [
            *("allocation", "reconcile", "outcome", "reason", "sequence", "waited_seconds", "fields"),
        ],
        "another_writer_suspected": ["allocation", "reconcile", "fields", "flips", "changed_back_at"],
        "condition_changed": ["allocation", "before", "after", "reason"],
        "pause_begun": ["allocation", "scope", "ends", "reason", "owner"],
        "pause_lifted": ["allocation", "scope", "by"],
        "pause_ended": ["allocation", "scope"],
        "retry_requested": ["allocation", "scope", "by"],
        "resync_started": ["allocations"],
        "resync_finished": ["allocations", "differ", "elapsed_seconds"],
        "bulk_unavailable": ["reason", "supported", "status", "asked"],
        "api_unreachable": ["reason", "since"],
        "api_reachable": ["unreachable_seconds"],
        "breaker_opened": ["operation", "reason"],
        "breaker_closed": ["operation", "open_seconds", "probes"],
        "probe_started": ["allocation", "operation"],
        "all_in_sync": ["allocations"],
        "stopping": ["in_flight"],
        "stopped": ["open_intents"],
    }
