"""What a command prints of the daemon's answer, and its exit code: the effect is stored, or it is not."""

import json

import pytest
from aiohttp import web

from allocsync import errors
from allocsync.cli.daemon_client import is_stored, send_command, write_answer
from allocsync.planning.rendering import Line, Tone
from allocsync.web.control import add_control_routes
from allocsync.web.server import serve_web
from tests.support.recording_daemon import TOKEN, RecordingDaemon

LINES = [Line("everything is paused", Tone.WAIT), Line("and more", Tone.WAIT)]
STORED = {"id": None, "stored": True}
NOT_STORED = {"id": None, "stored": False, "error": "in force, but not stored: \x1b[2Ja full disk"}


@pytest.mark.parametrize("answer", [STORED, {"id": None}])
def test_what_is_stored_or_need_not_be_is_printed_and_exits_with_0(
    capsys: pytest.CaptureFixture[str], answer: dict[str, object]
) -> None:
    assert write_answer(answer, LINES) == errors.EXIT_FINE
    assert capsys.readouterr().out == "everything is paused\nand more\n"
    assert write_answer(answer, None) == errors.EXIT_FINE
    assert json.loads(capsys.readouterr().out) == {"schema": 1, **answer}


def test_what_is_not_stored_is_one_line_of_an_error_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(errors.DaemonError) as raised:
        write_answer(NOT_STORED, LINES)
    assert str(raised.value).startswith("everything is paused; and more; in force, but not stored: ")
    assert str(raised.value).isprintable()
    assert raised.value.exit_code == errors.EXIT_ERROR
    assert capsys.readouterr().out == ""


def test_what_is_not_stored_is_printed_as_json_too_and_exits_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert write_answer(NOT_STORED, None) == errors.EXIT_ERROR
    assert json.loads(capsys.readouterr().out) == {"schema": 1, **NOT_STORED}


def test_an_answer_that_does_not_say_why_is_not_from_allocsync() -> None:
    assert is_stored({"stored": False})
    assert not is_stored({"stored": False, "error": "why"})


async def test_what_is_not_stored_is_an_answer_and_what_is_refused_is_an_error() -> None:
    async def answer_507(_request: web.Request) -> web.Response:
        return web.json_response({}, status=507)

    daemon = RecordingDaemon(disk="database or disk is full")
    app = web.Application()
    add_control_routes(app, daemon.control())
    app.router.add_post("/other", answer_507)
    async with serve_web("127.0.0.1:0", app) as (host, port):
        url = f"http://{host}:{port}"
        answer = await send_command(url, "/-/approve", {"revision": daemon.held}, token=TOKEN)
        assert (answer["changes"], answer["stored"]) == (7, False)
        assert daemon.done, "it is in force"
        with pytest.raises(errors.DaemonError, match="no revision awaits approval"):
            await send_command(url, "/-/approve", {"revision": "00000000"}, token=TOKEN)
        with pytest.raises(errors.DaemonError, match="does not accept this token"):
            await send_command(url, "/-/approve", {"revision": daemon.held}, token="wrong")
        with pytest.raises(errors.DaemonError, match="HTTP 507"):
            await send_command(url, "/other", {}, token=TOKEN)
