"""`allocsync status` without a daemon: parsing, formatting and waiting; and the daemon client."""

import asyncio
import copy
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import reduce
from math import inf
from operator import getitem
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from allocsync.cli import daemon_client, daemon_status
from allocsync.cli.commands import status
from allocsync.cli.status_wait import WaitResult
from allocsync.errors import DaemonError, UsageError
from allocsync.model.condition import Condition
from allocsync.planning.rendering import Tone
from allocsync.settings.model import Settings

NOW = datetime(2026, 11, 23, 12, 9, 11, tzinfo=UTC)
API = {
    "reachable": True,
    "since": "2026-11-23T12:00:00.000Z",
    "reason": "",
    "last_confirmed_at": "2026-11-23T12:09:10.000Z",
    "next_attempt_at": "2026-11-23T12:09:20.000Z",
}
OUTAGE = {
    "reachable": False,
    "since": "2026-11-23T12:06:11.000Z",
    "reason": "connection refused",
    "last_confirmed_at": "2026-11-23T12:06:08.000Z",
    "next_attempt_at": "2026-11-23T12:09:17.000Z",
}
OUTAGE_TIMES = "last confirmed 12:06:08Z (3 min ago); next attempt 12:09:17Z (in 6 s)"
PROOF = ", confirmed since 12:09:00Z (11 s ago)"


def row(name: str, condition: Condition, **more: object) -> dict[str, Any]:
    return {
        "id": name,
        "condition": condition.value,
        "reason": f"why {name}",
        "since": "2026-11-23T12:05:11.000Z",
        "confirmed_at": "2026-11-23T12:09:00.000Z",
        "next_read_at": "2026-11-23T12:10:00.000Z",
        "waits_for": "the resync",
        "paused": None,
        "declaration": "",
        "needs_person": False,
        "advice": "",
        **more,
    }


def answer(*rows: dict[str, Any], active: str | None = "7f3a91c2aaaa") -> dict[str, Any]:
    conditions = {each.value: sum(row["condition"] == each.value for row in rows) for each in Condition}
    revision = {"active": active, "awaiting_approval": None, "observed": active}
    return {
        "revision": revision,
        "api": API,
        "all_confirmed_since": "2026-11-23T12:09:00.000Z",
        "files_read_at": "2026-11-23T12:09:00.000Z",
        "resync_seconds": 60.0,
        "conditions": conditions,
        "awaiting_approval": None,
        "rejected": None,
        "allocations": list(rows),
    }


@asynccontextmanager
async def server_with(body: Callable[[], Any]) -> AsyncIterator[str]:
    """Run a server that answers every GET with this body."""

    async def handle(_request: web.Request) -> web.Response:
        found = body()
        return found if isinstance(found, web.Response) else web.json_response(found)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_allocations_out_of_sync_are_listed_worst_first_with_reason_since_and_next_read() -> None:
    rows = (
        row("a", Condition.PENDING),
        row("b", Condition.IN_SYNC),
        row("c", Condition.FAILING, next_read_at=None, waits_for="", advice="do it"),
    )
    lines = status.format_status(daemon_status.parse_status(answer(*rows)), NOW)
    assert [line.text for line in lines] == [
        f"1 InSync, 1 Pending, 1 Failing   of 3{PROOF} · revision 7f3a91c2 active",
        "  c   Failing",
        "    why c",
        "    since 12:05:11Z (4 min ago)   next read never",
        "  a   Pending",
        "    why a",
        "    since 12:05:11Z (4 min ago)   next read 12:10:00Z (in 49 s), waits for the resync",
        "  Failing: do it",
    ]
    assert [line.tone for line in lines[1:5:3]] == [Tone.BAD, Tone.WAIT]


def test_the_same_advice_is_given_once_for_all_allocations_of_a_condition_and_ten_times_at_most() -> None:
    def advice(*rows: dict[str, Any]) -> list[str]:
        lines = status.format_status(daemon_status.parse_status(answer(*rows)), NOW)
        return [line.text for line in lines if ": do " in line.text]

    same = [row(f"a{number}", Condition.BLOCKED, advice="do this") for number in range(3)]
    others = [row("b", Condition.FAILING, advice="do that"), row("c", Condition.IN_SYNC, advice="")]
    assert advice(*same, *others) == ["  Failing: do that", "  Blocked: do this"]
    many = [row(f"a{number:02}", Condition.PENDING, advice=f"do {number}") for number in range(30)]
    assert advice(*many) == [f"  Pending: do {number}" for number in range(status.MAX_ADVICE)]
    waits = row(
        "d", Condition.IN_SYNC, declaration="its newest declaration awaits approval", advice="do \x1b"
    )
    assert advice(waits) == ["  InSync: do \\x1b"]


def test_every_condition_has_a_place_in_the_order() -> None:
    assert set(status.TONES) == set(Condition)


def test_control_characters_from_a_daemon_do_not_reach_the_terminal() -> None:
    odd = row("\x1b[2Ja", Condition.FAILING, reason="\x1b]0;x\x07", since="\x1b[31m")
    assert all(
        line.text.isprintable() for line in status.format_status(daemon_status.parse_status(answer(odd)), NOW)
    )


def test_an_outage_is_the_first_line_with_its_begin_reason_last_success_and_next_attempt() -> None:
    old = {**answer(row("a", Condition.IN_SYNC, confirmed_at="2026-11-23T12:05:00.000Z")), "api": OUTAGE}
    old["all_confirmed_since"] = "2026-11-23T12:05:00.000Z"
    lines = status.format_status(daemon_status.parse_status(old), NOW)
    assert [(line.text, line.tone) for line in lines] == [
        (
            f"API unreachable since 12:06:11Z (3 min ago); connection refused; {OUTAGE_TIMES}",
            Tone.BAD,
        ),
        ("1 InSync   of 1, as of 12:05:00Z (4 min ago) · revision 7f3a91c2 active", Tone.WAIT),
    ]


def test_a_proof_older_than_a_resync_is_shown_with_its_age() -> None:
    rows = [row("a", Condition.PENDING, confirmed_at="2026-11-23T12:05:11.000Z"), row("b", Condition.PENDING)]
    lines = [
        line.text
        for line in status.format_status(daemon_status.parse_status(answer(*rows)), NOW)
        if "since" in line.text
    ]
    assert "confirmed 12:05:11Z (4 min ago)" in lines[1]
    assert "confirmed" not in lines[2]


def test_an_allocation_in_sync_whose_newest_declaration_does_not_apply_is_listed() -> None:
    problem = "its entry has errors (eu.yaml:18:5: regoin: unknown field); the last valid one still applies"
    shown = status.format_status(
        daemon_status.parse_status(
            answer(row("a", Condition.IN_SYNC, declaration=problem), row("b", Condition.IN_SYNC))
        ),
        NOW,
    )
    assert (f"    {problem}", Tone.BAD) in [(line.text, line.tone) for line in shown]
    assert shown[0].tone is Tone.WAIT


ASKED_AT = "2026-11-23T12:08:59.000Z"  # before every read of `answer`
LATER = "2026-11-23T12:09:00.500Z"  # after every read of `answer`
AWAITING: dict[str, Any] = {"reason": "it is held", "since": None, "canaries": []}


@pytest.mark.parametrize(
    ("found", "asked_at", "in_sync"),
    [
        (answer(row("a", Condition.IN_SYNC)), ASKED_AT, True),
        (answer(row("a", Condition.IN_SYNC)), LATER, False),
        (
            answer(row("a", Condition.IN_SYNC), row("b", Condition.IN_SYNC, confirmed_at=None)),
            ASKED_AT,
            False,
        ),
        (answer(row("a", Condition.IN_SYNC, declaration="its entry has errors")), ASKED_AT, False),
        (answer(), ASKED_AT, True),
        (answer(active=None), ASKED_AT, False),
        ({**answer(), "files_read_at": None}, ASKED_AT, False),
        ({**answer(), "rejected": {"since": ASKED_AT, "count": 0, "problems": []}}, ASKED_AT, False),
        ({**answer(), "awaiting_approval": AWAITING}, ASKED_AT, False),
        (answer(row("a", Condition.IN_SYNC), row("b", Condition.SUSPENDED)), ASKED_AT, False),
        (answer(row("a", Condition.IN_SYNC, confirmed_at="2026-11-23 noon")), ASKED_AT, False),
        (answer(row("a", Condition.IN_SYNC, confirmed_at="2026-11-23T12:09:00")), ASKED_AT, False),
    ],
)
def test_everything_is_in_sync_only_by_reads_that_began_after_the_question(
    found: dict[str, Any], asked_at: str, *, in_sync: bool
) -> None:
    assert daemon_status.parse_status(found).is_in_sync_since(asked_at) is in_sync


@pytest.mark.parametrize(
    ("found", "asked_at", "needed"),
    [
        (answer(row("a", Condition.DRIFTED, needs_person=True)), ASKED_AT, True),
        (answer(row("a", Condition.DRIFTED, needs_person=True)), LATER, False),
        (answer(row("a", Condition.FAILING)), ASKED_AT, False),
        ({**answer(), "rejected": {"since": ASKED_AT, "count": 0, "problems": []}}, ASKED_AT, True),
        ({**answer(), "awaiting_approval": AWAITING}, ASKED_AT, True),
        (
            {**answer(), "awaiting_approval": {**AWAITING, "canaries": [{"id": "a", "verified": False}]}},
            ASKED_AT,
            False,
        ),
        (answer(row("a", Condition.IN_SYNC, declaration="errors", needs_person=True)), ASKED_AT, True),
    ],
)
def test_a_wait_ends_at_once_if_only_a_person_can_help(
    found: dict[str, Any], asked_at: str, *, needed: bool
) -> None:
    assert daemon_status.parse_status(found).waits_for_person(asked_at) is needed


def test_a_wait_that_ends_in_an_outage_says_so_and_that_nothing_is_lost() -> None:
    found = daemon_status.parse_status({**answer(row("a", Condition.IN_SYNC)), "api": OUTAGE})
    result = WaitResult(found, in_sync=False, needs_person=False)
    first, *rest = status.format_failed_wait(result, 60, NOW).splitlines()
    assert first.startswith("not in sync after 60 s: API unreachable since 12:06:11Z (3 min ago)")
    assert rest == ["nothing was lost: work goes on by itself when the API answers"]


def test_a_wait_that_ends_before_everything_was_read_again_says_so() -> None:
    result = WaitResult(
        daemon_status.parse_status(answer(row("a", Condition.IN_SYNC))), in_sync=False, needs_person=False
    )
    assert "were not read again yet" in status.format_failed_wait(result, 1, NOW)


def test_a_wait_that_needs_a_person_lists_only_what_the_person_must_do() -> None:
    rows = (row("a", Condition.DRIFTED, needs_person=True), row("b", Condition.PENDING))
    result = WaitResult(daemon_status.parse_status(answer(*rows)), in_sync=False, needs_person=True)
    assert status.format_failed_wait(result, 60, NOW).splitlines() == [
        "2 of 2 not in sync: only a person can help",
        "a: Drifted. why a",
    ]


PAUSE = {"until": "2026-11-23T14:00:00Z", "owner": "ana", "reason": "maintenance"}
PROBLEM = {"file": "eu.yaml", "line": 1, "column": 2, "path": "", "message": "declared twice"}
FULL: dict[str, Any] = {  # every documented key, with a value that is not null
    **answer(row("a", Condition.IN_SYNC), row("b", Condition.PENDING, paused=PAUSE)),
    "awaiting_approval": {
        "reason": "it is held",
        "since": "2026-11-23T12:00:00Z",
        "canaries": [{"id": "b", "verified": False}],
    },
    "rejected": {"since": "2026-11-23T12:00:00Z", "count": 2, "problems": [PROBLEM]},
}


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value inside this JSON value."""
    items: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [found for key, each in items for found in [(*path, key), *_paths(each, (*path, key))]]


def _inner(path: Iterable[str | int], answer: dict[str, Any]) -> Any:  # noqa: ANN401 - a JSON value
    return reduce(getitem, path, answer)  # type: ignore[arg-type] # a list or an object


@given(
    st.sampled_from(_paths(FULL)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str),
        lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(), each, max_size=2),
        max_leaves=4,
    ),
)
@example(("conditions",), [])
@example(("awaiting_approval",), "x")
@example(("conditions", "InSync"), inf)
@example(("allocations", 0, "id"), [])
@example(("allocations", 0, "since"), 1)
@example(("allocations", 1, "since"), "0001-01-01T00:00:00+14:00")
@example(("allocations", 1, "paused"), "x")
@example(("allocations", 1, "paused"), {})
@example(("revision", "active"), 1)
def test_an_answer_with_one_wrong_value_is_either_not_accepted_or_can_be_shown(
    path: tuple[str | int, ...], wrong: object
) -> None:
    malformed = copy.deepcopy(FULL)
    _inner(path[:-1], malformed)[path[-1]] = wrong
    try:
        parsed = daemon_status.parse_status(malformed)
    except ValueError:
        return
    assert all(line.text.isprintable() for line in status.format_status(parsed, NOW))
    for needs_person in (True, False):
        assert status.format_failed_wait(WaitResult(parsed, in_sync=False, needs_person=needs_person), 1, NOW)


@pytest.mark.parametrize(
    "path",
    [path for path in _paths(FULL) if isinstance(path[-1], str) and path[:-1] != ("conditions",)],
)
def test_an_answer_without_a_documented_key_is_not_accepted(path: tuple[str | int, ...]) -> None:
    lacking = copy.deepcopy(FULL)
    del _inner(path[:-1], lacking)[path[-1]]
    with pytest.raises(ValueError, match=f"{path[-1]} is missing or not of type"):
        daemon_status.parse_status(lacking)


@pytest.mark.parametrize(
    "path", [(), *(path for path in _paths(FULL) if isinstance(_inner(path, FULL), dict))]
)
def test_a_key_that_is_not_documented_is_ignored_at_every_level(path: tuple[str | int, ...]) -> None:
    newer = copy.deepcopy(FULL)
    _inner(path, newer)["new"] = 0
    expected = daemon_status.parse_status(FULL)
    if path == ("conditions",):  # its keys are the names of conditions, also of new ones
        expected = dataclasses.replace(expected, conditions={**expected.conditions, "new": 0})
    assert daemon_status.parse_status(newer) == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"revision": 1},
        {**answer(), "allocations": [{"id": "a"}]},
        {**answer(), "conditions": []},
        {**answer(), "awaiting_approval": "x"},
        {**answer(), "rejected": {"since": "x", "count": 1, "problems": [{"file": "a.yaml"}]}},
        [],
        "x",
    ],
)
async def test_an_answer_that_is_not_from_allocsync_is_an_error_that_says_so(body: object) -> None:
    async with server_with(lambda: body) as url:
        with pytest.raises(DaemonError, match=f"what answers at {url} .HTTP 200. is not this version"):
            await daemon_status.fetch_status(url)


async def test_an_answer_that_is_nested_too_deeply_is_an_error_that_says_so() -> None:
    async with server_with(lambda: web.Response(text="[" * 100_000)) as url:
        with pytest.raises(DaemonError, match="is not this version"):
            await daemon_status.fetch_status(url)


async def test_a_page_in_html_is_an_error_with_its_status() -> None:
    async with server_with(lambda: web.Response(status=404, text="<html>")) as url:
        with pytest.raises(DaemonError, match="HTTP 404"):
            await daemon_status.fetch_status(url)


async def test_a_connection_that_is_closed_without_an_answer_counts_as_no_answer() -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(daemon_client.NoAnswerError, match="broke off its answer"):
            await daemon_status.fetch_status(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:9847", "http://127.0.0.1:9847"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("[fe80::1]:80", "http://[fe80::1]:80"),
        ("some.host:80", "http://some.host:80"),
    ],
)
def test_the_url_of_the_daemon_follows_from_listen_unless_it_is_given(listen: str, url: str) -> None:
    assert daemon_client.daemon_url(None, Settings(listen=listen)) == url
    assert daemon_client.daemon_url("https://there:1/x/", Settings(listen=listen)) == "https://there:1/x"


def test_a_port_chosen_by_the_system_must_be_given_as_url() -> None:
    with pytest.raises(UsageError, match=r"ALLOCSYNC_LISTEN=127.0.0.1:0 lets the system choose"):
        daemon_client.daemon_url(None, Settings(listen="127.0.0.1:0"))


@pytest.mark.parametrize("url", ["localhost:9847", "ftp://a", "http://", "http://[", "http://a:99999", ""])
def test_an_invalid_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="not an http or https URL"):
        daemon_client.daemon_url(url, Settings())


@given(st.floats(0, 1e7))
def test_a_formatted_duration_is_exact_to_half_a_unit(seconds: float) -> None:
    number, unit = daemon_client.format_duration(seconds).split(" ")
    length = {"s": 1, "min": 60, "h": 3600, "d": 86400}[unit]
    assert abs(float(number) * length - seconds) <= length / 2
    assert length == 1 or float(number) >= 2


def test_a_time_on_another_day_is_formatted_with_its_date() -> None:
    earlier = (NOW - timedelta(days=3)).isoformat()
    assert daemon_client.format_time(earlier, NOW) == "2026-11-20 12:09:11Z (3 d ago)"


def test_rejected_files_are_listed_as_validate_does_and_prevent_all_in_sync() -> None:
    wrong = {"file": "eu.yaml", "line": 18, "column": 5, "path": "allocations.a", "message": "declared twice"}
    rejected = {"since": "2026-11-23T12:05:11.000Z", "count": 4, "problems": [wrong]}
    status_json = {**answer(row("a", Condition.IN_SYNC)), "rejected": rejected}
    found = daemon_status.parse_status(status_json)
    assert [(line.text, line.tone) for line in status.format_status(found, NOW)] == [
        (f"1 InSync   of 1{PROOF} · revision 7f3a91c2 active", Tone.WAIT),
        (
            "  the files have been rejected since 12:05:11Z (4 min ago); revision 7f3a91c2 stays active",
            Tone.BAD,
        ),
        ("    eu.yaml:18:5: allocations.a: declared twice", Tone.BAD),
        ("    and 3 more; `allocsync validate` lists them all", Tone.BAD),
    ]
    first = status.format_status(
        daemon_status.parse_status({**status_json, "revision": answer(active=None)["revision"]}), NOW
    )
    assert first[1].text.endswith("; no revision is active")


def test_canaries_are_listed_with_their_progress() -> None:
    canaries = [{"id": "a", "verified": True}, {"id": "b", "verified": False}]
    rows = (row("a", Condition.IN_SYNC), row("b", Condition.IN_SYNC))
    awaiting = {"reason": "it is held", "since": None, "canaries": canaries}
    status_json = {**answer(*rows), "awaiting_approval": awaiting}
    lines = status.format_status(daemon_status.parse_status(status_json), NOW)
    assert [(line.text, line.tone) for line in lines[1:]] == [
        ("  it is held", Tone.BAD),
        ("  canary b   not yet, InSync", Tone.WAIT),
        ("  canary a   verified", Tone.GOOD),
    ]


def test_canaries_that_are_not_verified_are_listed_first_and_at_most_twenty() -> None:
    ids = [f"{number:02}" for number in range(25)]
    canaries = [{"id": each, "verified": each != "23"} for each in ids]
    rows = [
        row(each, Condition.IGNORED if each == "23" else Condition.IN_SYNC) for each in ids if each != "24"
    ]
    awaiting = {"reason": "it is held", "since": None, "canaries": canaries}
    status_json = {**answer(*rows), "awaiting_approval": awaiting}
    shown = [
        line.text
        for line in status.format_status(daemon_status.parse_status(status_json), NOW)
        if "canar" in line.text
    ]
    assert shown[0] == "  canary 23   not yet, Ignored"
    assert shown[1] == "  canary 00   verified"
    assert len(shown) == 21
    assert shown[-1] == "  and 5 more canaries; `allocsync status --json` names them all"
    canaries[-1]["verified"] = False
    assert (
        status.format_status(daemon_status.parse_status(status_json), NOW)[3].text == "  canary 24   not yet"
    )
