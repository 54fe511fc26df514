"""sd_notify, heard by a real datagram socket; and compared with what systemd's own program sends."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.runtime.systemd import Notifier


@pytest.fixture(name="heard")
def _heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def notifier_for(listener: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(listener.getsockname())})


def test_each_message_is_one_datagram(heard: socket.socket) -> None:
    notifier = notifier_for(heard)

    for sent, expected in (
        (notifier.ready(), b"READY=1"),
        (notifier.ready("24 in sync"), b"READY=1\nSTATUS=24 in sync"),
        (notifier.status("ünïcode"), "STATUS=ünïcode".encode()),
        (notifier.reloading(123456), b"RELOADING=1\nMONOTONIC_USEC=123456"),
        (notifier.stopping("draining"), b"STOPPING=1\nSTATUS=draining"),
        (notifier.watchdog(), b"WATCHDOG=1"),
    ):
        assert sent
        assert heard.recv(4096) == expected


def test_a_status_cannot_smuggle_in_another_assignment(heard: socket.socket) -> None:
    assert notifier_for(heard).status("all well\nREADY=1")

    assert heard.recv(4096) == b"STATUS=all well READY=1"


def test_an_abstract_socket_is_reached() -> None:
    name = f"allocsync-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(5)

        assert Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert listener.recv(100) == b"READY=1"


def test_without_a_socket_nothing_happens() -> None:
    notifier = Notifier({})

    assert not notifier.enabled
    assert notifier.ready()
    assert notifier.watchdog()


@pytest.mark.parametrize("address", ["/nonexistent/notify", "vsock:2:1234", "@" + "x" * 200, "/a\0b"])
def test_a_socket_that_is_not_there_is_answered_by_false(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})

    assert notifier.enabled
    assert not notifier.ready()


def test_a_reader_that_reads_nothing_does_not_hold_the_daemon_up(heard: socket.socket) -> None:
    notifier = notifier_for(heard)
    begun = time.monotonic()

    while notifier.watchdog():  # until the queue is full
        assert time.monotonic() - begun < 10

    begun = time.monotonic()
    assert not notifier.watchdog()
    assert time.monotonic() - begun < 5


def test_a_watchdog_of_a_minute_is_fed_every_fifteen_seconds() -> None:
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_interval_seconds == 15


@pytest.mark.parametrize(
    ("usec", "watched", "expected"),
    [
        ("60000000", "41", 15.0),
        ("60000000", "", 15.0),
        ("60000000", "42", None),  # inherited from a parent that is watched, not we
        ("0", "41", None),
        ("", "41", None),
        ("-5", "41", None),
        ("soon", "41", None),
    ],
)
def test_who_is_watched(usec: str, watched: str, expected: float | None) -> None:
    notifier = Notifier({"WATCHDOG_USEC": usec, "WATCHDOG_PID": watched}, pid=41)

    assert notifier.watchdog_interval_seconds == expected


@given(st.dictionaries(st.sampled_from(["WATCHDOG_USEC", "WATCHDOG_PID"]), st.text()))
def test_no_environment_breaks_it(environ: dict[str, str]) -> None:
    interval = Notifier(environ).watchdog_interval_seconds

    assert interval is None or interval > 0


@pytest.mark.real
def test_systemds_own_program_sends_the_same(heard: socket.socket) -> None:
    if shutil.which("systemd-notify") is None:
        pytest.skip("apt-get install systemd")
    environ = {**os.environ, "NOTIFY_SOCKET": str(heard.getsockname())}
    command = ["systemd-notify", "--no-block", "--ready", "--status=in sync"]
    subprocess.run(command, env=environ, check=True, timeout=30)
    theirs = heard.recv(4096).decode().splitlines()

    assert notifier_for(heard).ready("in sync")
    ours = heard.recv(4096).decode().splitlines()

    assert sorted(ours) == sorted(line for line in theirs if not line.startswith("MAINPID="))
