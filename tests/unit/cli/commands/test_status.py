"""`allocsync status` without a daemon: parsing, formatting and waiting; and the daemon client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from allocsync.cli import daemon_client
from allocsync.cli.commands import status
from allocsync.errors import DaemonError, UsageError
from allocsync.model.condition import Condition
from allocsync.planning.rendering import Tone
from allocsync.settings.model import Settings

NOW = datetime(2026, 11, 23, 12, 9, 11, tzinfo=UTC)


def row(name: str, condition: Condition, **more: object) -> dict[str, Any]:
    since = {"since": "2026-11-23T12:05:11.000Z", "next_read_at": "2026-11-23T12:10:00.000Z", "paused": None}
    return {"id": name, "condition": condition.value, "reason": f"why {name}", **since, **more}


def answer(*rows: dict[str, Any], active: str | None = "7f3a91c2aaaa") -> dict[str, Any]:
    conditions = {each.value: sum(row["condition"] == each.value for row in rows) for each in Condition}
    revision = {"active": active, "awaiting_approval": None, "observed": active}
    return {"revision": revision, "conditions": conditions, "allocations": list(rows)}


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
        row("c", Condition.FAILING, next_read_at=None),
    )
    lines = status.format_status(status.parse_status(answer(*rows)), NOW)
    assert [line.text for line in lines] == [
        "1 InSync, 1 Pending, 1 Failing   of 3 · revision 7f3a91c2 active",
        "  c   Failing",
        "    why c",
        "    since 12:05:11Z (4 min ago)   next read never",
        "  a   Pending",
        "    why a",
        "    since 12:05:11Z (4 min ago)   next read 12:10:00Z (in 49 s)",
        "  Failing: `allocsync retry ID` tries again now",
    ]
    assert [line.tone for line in lines[1:5:3]] == [Tone.BAD, Tone.WAIT]


def test_one_line_names_the_command_that_tries_again_if_anything_waits_after_a_failure() -> None:
    def advice(*conditions: Condition) -> list[str]:
        rows = [row(f"a{number}", each) for number, each in enumerate(conditions)]
        lines = status.format_status(status.parse_status(answer(*rows)), NOW)
        return [line.text for line in lines if "retry" in line.text]

    waits = {Condition.IGNORED, Condition.CONFLICT, Condition.FAILING, Condition.MISSING}
    every = "  Failing, Ignored, Missing, Conflict: `allocsync retry ID` tries again now"
    assert advice(*Condition, *Condition) == [every]
    assert advice(*(each for each in Condition if each not in waits)) == []


def test_every_condition_has_a_place_in_the_order() -> None:
    assert set(status.TONES) == set(Condition)


def test_control_characters_from_a_daemon_do_not_reach_the_terminal() -> None:
    odd = row("\x1b[2Ja", Condition.FAILING, reason="\x1b]0;x\x07", since="\x1b[31m")
    assert all(
        line.text.isprintable() for line in status.format_status(status.parse_status(answer(odd)), NOW)
    )


@pytest.mark.parametrize(
    ("found", "in_sync"),
    [
        (answer(row("a", Condition.IN_SYNC)), True),
        (answer(), True),
        (answer(active=None), False),
        (answer(row("a", Condition.IN_SYNC), row("b", Condition.SUSPENDED)), False),
    ],
)
def test_all_in_sync_needs_a_revision_and_every_allocation_in_sync(
    found: dict[str, Any], *, in_sync: bool
) -> None:
    assert status.parse_status(found).all_in_sync is in_sync


@pytest.mark.parametrize("body", [{}, {"revision": 1}, {**answer(), "allocations": [{"id": "a"}]}, [], "x"])
async def test_an_answer_that_is_not_from_allocsync_is_an_error_that_says_so(body: object) -> None:
    async with server_with(lambda: body) as url:
        with pytest.raises(DaemonError, match=f"what answers at {url} .HTTP 200. is not this version"):
            await status.fetch_status(url)


async def test_a_page_in_html_is_an_error_with_its_status() -> None:
    async with server_with(lambda: web.Response(status=404, text="<html>")) as url:
        with pytest.raises(DaemonError, match="HTTP 404"):
            await status.fetch_status(url)


async def test_a_connection_that_is_closed_without_an_answer_counts_as_no_answer() -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(daemon_client.NoAnswerError, match="broke off its answer"):
            await status.fetch_status(f"http://127.0.0.1:{port}")


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
    found = status.parse_status(status_json)
    assert [(line.text, line.tone) for line in status.format_status(found, NOW)] == [
        ("1 InSync   of 1 · revision 7f3a91c2 active", Tone.WAIT),
        (
            "  the files have been rejected since 12:05:11Z (4 min ago); revision 7f3a91c2 stays active",
            Tone.BAD,
        ),
        ("    eu.yaml:18:5: allocations.a: declared twice", Tone.BAD),
        ("    and 3 more; `allocsync validate` lists them all", Tone.BAD),
    ]
    assert not found.all_in_sync, "a wait for files that do not load must not succeed"
    first = status.format_status(
        status.parse_status({**status_json, "revision": answer(active=None)["revision"]}), NOW
    )
    assert first[1].text.endswith("; no revision is active")


def test_canaries_are_listed_with_their_progress() -> None:
    canaries = [{"id": "a", "verified": True}, {"id": "b", "verified": False}]
    rows = (row("a", Condition.IN_SYNC), row("b", Condition.IN_SYNC))
    awaiting = {"reason": "it is held", "since": None, "canaries": canaries}
    status_json = {**answer(*rows), "awaiting_approval": awaiting}
    lines = status.format_status(status.parse_status(status_json), NOW)
    assert [(line.text, line.tone) for line in lines[1:]] == [
        ("  it is held", Tone.BAD),
        ("  canary b   not yet, InSync", Tone.WAIT),
        ("  canary a   verified", Tone.GOOD),
    ]
    assert not status.parse_status(status_json).all_in_sync
    older = {**status_json, "awaiting_approval": {"reason": "it is held", "since": None}}
    parsed = status.parse_status(older).awaiting_approval
    assert parsed is not None
    assert not parsed.canaries, "an answer without canaries is accepted"


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
        for line in status.format_status(status.parse_status(status_json), NOW)
        if "canar" in line.text
    ]
    assert shown[0] == "  canary 23   not yet, Ignored"
    assert shown[1] == "  canary 00   verified"
    assert len(shown) == 21
    assert shown[-1] == "  and 5 more canaries; `allocsync status --json` names them all"
    canaries[-1]["verified"] = False
    assert status.format_status(status.parse_status(status_json), NOW)[3].text == "  canary 24   not yet"
