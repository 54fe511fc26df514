"""Commands over real sockets: without the token nothing changes, whatever address the listener has."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from allocsync.telemetry.log_setup import rfc3339
from allocsync.web.control import MAX_BODY_BYTES, add_control_routes
from allocsync.web.server import serve_web
from tests.support.recording_daemon import RELOADED_AT, TOKEN, RecordingDaemon

BEARER = {"Authorization": f"Bearer {TOKEN}"}
PATHS = ("/-/sync", "/-/reload", "/-/retry", "/-/approve", "/-/pause", "/-/resume")
PAUSE = {"all": True, "seconds": 7200, "reason": "maintenance", "owner": "me"}
LATER = {"ends": "later", "stored": True}
BODY_FOR_ALL = {**PAUSE, "revision": "7f3a91c2"}  # a valid body of each command


@pytest.fixture(name="daemon")
def _daemon() -> RecordingDaemon:
    return RecordingDaemon()


@pytest.fixture(name="client", params=["127.0.0.1:0", "0.0.0.0:0"])
async def _client(
    daemon: RecordingDaemon, request: pytest.FixtureRequest
) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    add_control_routes(app, daemon.control())
    async with (
        serve_web(request.param, app) as (_, port),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(30)) as session,
    ):
        yield session


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer ö",
        f"Bearer {TOKEN} {TOKEN}",
    ],
)
async def test_a_command_without_the_token_is_rejected_and_changes_nothing(
    daemon: RecordingDaemon, client: aiohttp.ClientSession, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    if path == "/-/resume":
        await client.post("/-/pause", json=PAUSE, headers=BEARER)
        daemon.done.clear()
    async with client.post(path, json=BODY_FOR_ALL, headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "listen_token" in (await answer.json())["error"]
    assert not daemon.done
    async with client.post(path, json=BODY_FOR_ALL, headers=BEARER) as answer:
        assert answer.status in {200, 202}, "with the token the command is carried out"
    assert len(daemon.done) == 1


async def test_a_command_is_carried_out_once(daemon: RecordingDaemon, client: aiohttp.ClientSession) -> None:
    async with client.post("/-/sync", headers=BEARER) as answer:
        assert (answer.status, await answer.json()) == (202, {"schema": 1, "allocations": 3})
    async with client.post("/-/reload", headers={"authorization": f"bearer {TOKEN}"}) as answer:
        assert (answer.status, await answer.json()) == (
            202,
            {"schema": 1, "reloading": True, "at": rfc3339(RELOADED_AT)},
        )
    body = {"revision": daemon.held, "owner": "me"}
    async with client.post("/-/approve", json=body, headers=BEARER) as answer:
        assert (answer.status, await answer.json()) == (200, {"schema": 1, "changes": 7, "stored": True})
    assert daemon.done == ["sync", "reload", f"approve {daemon.held} by me"]
    for path in PATHS:
        async with client.get(path, headers=BEARER) as answer:
            assert answer.status == 405
    assert len(daemon.done) == 3


async def test_a_command_that_cannot_be_carried_out_answers_why(
    daemon: RecordingDaemon, client: aiohttp.ClientSession
) -> None:
    async with client.post("/-/approve", json={"revision": "00000000"}, headers=BEARER) as answer:
        assert answer.status == 409
        assert (await answer.json())["error"].startswith("no revision awaits approval")
    assert not daemon.done


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"[]", b'"x"', b"null", b"{}", b'{"revision": 7}', b'{"revision": "a\\nb"}', b"\xff"),
        *(b'{"revision": "7f3a91c2", "owner": {}}', b'{"revision": "' + b"a" * 201 + b'"}', b"[" * 60_000),
    ],
)
async def test_an_invalid_body_answers_400_and_says_what_it_must_be(
    daemon: RecordingDaemon, client: aiohttp.ClientSession, body: bytes
) -> None:
    async with client.post("/-/approve", data=body, headers=BEARER) as answer:
        assert answer.status == 400
        assert "must be" in (await answer.json())["error"]
    assert not daemon.done


async def test_a_body_that_is_too_long_answers_413(
    daemon: RecordingDaemon, client: aiohttp.ClientSession
) -> None:
    async with client.post("/-/approve", data=b" " * (MAX_BODY_BYTES + 1), headers=BEARER) as answer:
        assert answer.status == 413
    assert not daemon.done


async def test_a_renewed_token_replaces_the_old_one_at_once(
    daemon: RecordingDaemon, client: aiohttp.ClientSession
) -> None:
    daemon.token = "n" * 43
    async with client.post("/-/sync", headers=BEARER) as answer:
        assert answer.status == 401
    async with client.post("/-/sync", headers={"Authorization": f"Bearer {daemon.token}"}) as answer:
        assert answer.status == 202


async def test_pauses_of_one_allocation_and_of_all_begin_and_end_separately(
    daemon: RecordingDaemon, client: aiohttp.ClientSession
) -> None:
    async with client.post("/-/pause", json=PAUSE, headers=BEARER) as answer:
        assert (answer.status, await answer.json()) == (200, {"schema": 1, "id": None, **LATER})
    one = {"id": "7b0c", "seconds": 0.5, "reason": "why", "owner": "who"}
    async with client.post("/-/pause", json=one, headers=BEARER) as answer:
        assert (answer.status, await answer.json()) == (200, {"schema": 1, "id": "7b0c", **LATER})
    async with client.post("/-/resume", json={"id": "7b0c"}, headers=BEARER) as answer:
        everything = "paused until later by me: maintenance"
        known = {"id": "7b0c", "others": 0, "everything": everything}
        assert (await answer.json()) == {"schema": 1, **known, "stored": True}
    async with client.post("/-/resume", json={"id": "7b0c"}, headers=BEARER) as answer:
        assert answer.status == 409
        assert (await answer.json())[
            "error"
        ] == f"7b0c is not paused individually; everything is {everything}"
    async with client.post("/-/resume", json={"all": True, "owner": "you"}, headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["id"]) == (200, None)
    assert daemon.done[:2] == ["pause None 7200 maintenance me", "pause 7b0c 0.5 why who"]
    assert daemon.done[-1] == "resume None you"
    await client.post("/-/pause", json=one, headers=BEARER)
    async with client.post("/-/resume", json={"all": True}, headers=BEARER) as answer:
        told = "there is no pause of everything; 1 allocation paused individually"
        assert (answer.status, (await answer.json())["error"]) == (409, told)


@pytest.mark.parametrize("path", PATHS)
async def test_only_what_must_survive_a_restart_waits_for_the_disk(
    daemon: RecordingDaemon, client: aiohttp.ClientSession, path: str
) -> None:
    await client.post("/-/pause", json=PAUSE, headers=BEARER)
    daemon.flushed = []
    async with client.post(path, json=BODY_FOR_ALL, headers=BEARER) as answer:
        must_survive = path not in {"/-/sync", "/-/reload"}
        assert (await answer.json()).get("stored") is (True if must_survive else None)
    assert daemon.flushed == (daemon.done if must_survive else [])


@pytest.mark.parametrize("disk", ["database or disk is full", "hangs"])
@pytest.mark.parametrize(
    "case",
    [
        ("/-/pause", {"id": None, "ends": "later"}, "a restart forgets the pause"),
        ("/-/resume", {"id": None, "others": 0}, "after a restart the pause is in force again"),
        ("/-/approve", {"changes": 7}, "after a restart the revision awaits approval again"),
        ("/-/retry", {"allocations": 3}, "a restart brings back the waits that it has ended"),
    ],
)
async def test_a_command_that_cannot_be_stored_is_in_force_and_answers_507_with_what_a_restart_does(
    daemon: RecordingDaemon,
    client: aiohttp.ClientSession,
    case: tuple[str, dict[str, object], str],
    disk: str,
) -> None:
    path, known, restart = case
    await client.post("/-/pause", json=PAUSE, headers=BEARER)
    daemon.done.clear()
    daemon.disk = disk
    async with client.post(path, json=BODY_FOR_ALL, headers=BEARER) as answer:
        found = await answer.json()
    assert daemon.done == daemon.flushed, "it was carried out, and then it was tried to store it"
    assert len(daemon.done) == 1
    assert answer.status == 507
    assert found["stored"] is False
    assert known.items() <= found.items(), "what is in force is said too"
    hangs, fails = "the disk has not answered for 0.2 s", f"the journal cannot be written ({disk})"
    assert found["error"] == (
        f"in force, but not stored: {hangs if disk == 'hangs' else fails}, and {restart}. Make room on the "
        "disk of the state directory, or make it writable again: then it is stored by itself"
    )


async def test_a_command_that_is_refused_is_not_stored(
    daemon: RecordingDaemon, client: aiohttp.ClientSession
) -> None:
    daemon.disk = "database or disk is full"
    refused = (
        ("/-/approve", {"revision": "00000000"}, 409),
        ("/-/resume", {"all": True}, 409),
        ("/-/pause", {**PAUSE, "seconds": 0}, 400),
    )
    for path, body, status in refused:
        async with client.post(path, json=body, headers=BEARER) as answer:
            assert answer.status == status
            assert "stored" not in await answer.json()
    assert not daemon.flushed


async def test_one_allocation_or_all_are_retried_and_the_answer_says_how_many(
    daemon: RecordingDaemon, client: aiohttp.ClientSession
) -> None:
    async with client.post("/-/retry", json={"id": "7b0c", "owner": "me"}, headers=BEARER) as answer:
        assert (answer.status, await answer.json()) == (202, {"schema": 1, "allocations": 1, "stored": True})
    async with client.post("/-/retry", json={"all": True}, headers=BEARER) as answer:
        assert (answer.status, await answer.json()) == (202, {"schema": 1, "allocations": 3, "stored": True})
    assert daemon.done == ["retry 7b0c me", "retry None "]


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"id": "7b0c", "all": True}, {"all": False}, {"all": "yes"}, {"id": None}, {"id": ""}),
        *({"all": True, "owner": 7}, {"all": True, "owner": "a\nb"}),
    ],
)
async def test_a_retry_names_one_allocation_or_all_and_not_both(
    daemon: RecordingDaemon, client: aiohttp.ClientSession, body: dict[str, object]
) -> None:
    async with client.post("/-/retry", json=body, headers=BEARER) as answer:
        assert answer.status == 400
        assert "must" in (await answer.json())["error"]
    assert not daemon.done


@pytest.mark.parametrize(
    ("path", "suggestions"), [("/-/retry", ["nobody-1"]), ("/-/pause", ["nobody-1"]), ("/-/resume", [])]
)
async def test_an_unknown_allocation_answers_404(
    daemon: RecordingDaemon, client: aiohttp.ClientSession, path: str, suggestions: list[str]
) -> None:
    body = {"id": "nobody", "seconds": 60, "reason": "why", "owner": "who"}
    async with client.post(path, json=body, headers=BEARER) as answer:
        assert answer.status == 404
        found = await answer.json()
        assert found["error"].startswith("nobody: no such")
        assert found["suggestions"] == suggestions
    assert not daemon.done


@pytest.mark.parametrize(
    "wrong",
    [
        *({"seconds": value} for value in (0, -1, "7200", None, True, 1e12, float("nan"), float("inf"))),
        *({"reason": value} for value in ("", "  ", None, 7, "a\nb", "x" * 201)),
        *({"owner": value} for value in ("", None)),
        *({"all": value} for value in (False, None, "yes")),
        {"id": "7b0c"},
    ],
)
async def test_a_pause_needs_a_duration_a_reason_and_an_owner(
    daemon: RecordingDaemon, client: aiohttp.ClientSession, wrong: dict[str, object]
) -> None:
    async with client.post("/-/pause", json={**PAUSE, **wrong}, headers=BEARER) as answer:
        assert answer.status == 400
        assert "must" in (await answer.json())["error"]
    assert not daemon.done
