"""The messages of sd_notify, received by a real datagram socket and compared with those of systemd-notify."""

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


@pytest.fixture(name="listener")
def _listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def notifier_for(listener: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(listener.getsockname())})


def test_each_message_is_one_datagram(listener: socket.socket) -> None:
    notifier = notifier_for(listener)

    for sent, expected in (
        (notifier.ready(), b"READY=1"),
        (notifier.ready("24 in sync"), b"READY=1\nSTATUS=24 in sync"),
        (notifier.status("ünïcode"), "STATUS=ünïcode".encode()),
        (notifier.reloading(123456), b"RELOADING=1\nMONOTONIC_USEC=123456"),
        (
            notifier.stopping("draining", within_seconds=30),
            b"STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=draining",
        ),
        (notifier.watchdog(), b"WATCHDOG=1"),
    ):
        assert sent
        assert listener.recv(4096) == expected


def test_a_line_break_in_a_status_cannot_add_another_assignment(listener: socket.socket) -> None:
    assert notifier_for(listener).status("all well\nREADY=1")

    assert listener.recv(4096) == b"STATUS=all well READY=1"


def test_a_message_reaches_an_abstract_socket() -> None:
    name = f"allocsync-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(5)

        assert Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert listener.recv(100) == b"READY=1"


def test_without_a_socket_every_message_succeeds_and_nothing_is_sent() -> None:
    notifier = Notifier({})

    assert not notifier.enabled
    assert notifier.ready()
    assert notifier.watchdog()


@pytest.mark.parametrize("address", ["/nonexistent/notify", "vsock:2:1234", "@" + "x" * 200, "/a\0b"])
def test_a_message_to_a_socket_that_does_not_exist_returns_false(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})

    assert notifier.enabled
    assert not notifier.ready()


def test_a_full_socket_delays_a_message_by_a_bounded_time(listener: socket.socket) -> None:
    notifier = notifier_for(listener)
    begun = time.monotonic()

    while notifier.watchdog():  # until the queue is full
        assert time.monotonic() - begun < 10

    begun = time.monotonic()
    assert not notifier.watchdog()
    assert time.monotonic() - begun < 5


def test_the_watchdog_interval_is_a_quarter_of_the_watchdog_time() -> None:
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_interval_seconds == 15


@pytest.mark.parametrize(
    ("usec", "watched", "expected"),
    [
        ("60000000", "41", 15.0),
        ("60000000", "", 15.0),
        ("60000000", "42", None),  # inherited from a parent process that is watched instead
        ("0", "41", None),
        ("", "41", None),
        ("-5", "41", None),
        ("soon", "41", None),
    ],
)
def test_the_watchdog_is_fed_only_if_systemd_watches_this_process(
    usec: str, watched: str, expected: float | None
) -> None:
    notifier = Notifier({"WATCHDOG_USEC": usec, "WATCHDOG_PID": watched}, pid=41)

    assert notifier.watchdog_interval_seconds == expected


@given(st.dictionaries(st.sampled_from(["WATCHDOG_USEC", "WATCHDOG_PID"]), st.text()))
def test_any_environment_gives_no_interval_or_a_positive_one(environ: dict[str, str]) -> None:
    interval = Notifier(environ).watchdog_interval_seconds

    assert interval is None or interval > 0


@pytest.mark.real
def test_the_messages_are_those_of_systemd_notify(listener: socket.socket) -> None:
    if shutil.which("systemd-notify") is None:
        pytest.skip("apt-get install systemd")
    environ = {**os.environ, "NOTIFY_SOCKET": str(listener.getsockname())}
    command = ["systemd-notify", "--no-block", "--ready", "--status=in sync"]
    subprocess.run(command, env=environ, check=True, timeout=30)
    theirs = listener.recv(4096).decode().splitlines()

    assert notifier_for(listener).ready("in sync")
    ours = listener.recv(4096).decode().splitlines()

    assert sorted(ours) == sorted(line for line in theirs if not line.startswith("MAINPID="))
