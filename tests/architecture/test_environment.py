"""The environment of the tests: loopback only, no settings of the user, no skip where none is allowed."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHER_MACHINE = "192.0.2.1"  # TEST-NET-1: assigned to nobody


@pytest.fixture(name="inner")
def _inner(tmp_path: Path) -> Path:
    """Return a folder for an inner test run with the same conftest.py."""
    (tmp_path / "conftest.py").write_bytes((ROOT / "tests/conftest.py").read_bytes())
    return tmp_path


def _run(folder: Path, test: str, *options: str, **environment: str) -> str:
    (folder / "test_inner.py").write_text(test, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", *options, "test_inner.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.stdout


def test_a_connection_to_another_machine_fails_the_test_even_if_the_error_is_suppressed(inner: Path) -> None:
    output = _run(
        inner,
        "import contextlib, socket\n"
        "def test_it():\n"
        "    with contextlib.suppress(OSError), socket.socket() as s:\n"
        f"        s.connect(('{OTHER_MACHINE}', 80))\n",
    )
    assert "1 passed, 1 error" in output
    assert OTHER_MACHINE in output


@pytest.mark.parametrize(
    "call",
    [
        f"socket.create_connection(('{OTHER_MACHINE}', 80))",
        f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{OTHER_MACHINE}', 80))",
        "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
        "socket.getaddrinfo('example.com', 80)",
    ],
)
def test_every_kind_of_connection_to_another_machine_is_stopped(inner: Path, call: str) -> None:
    output = _run(inner, f"import socket\ndef test_it():\n    {call}\n")
    assert "tests use loopback only" in output
    assert "1 failed, 1 error" in output


def test_connections_over_loopback_are_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    # The guard would raise PermissionError. A machine without /etc/hosts does not know the name, which is
    # allowed.
    with contextlib.suppress(socket.gaierror):
        socket.getaddrinfo("localhost", 80)


async def test_a_name_under_invalid_does_not_resolve() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await session.get("http://api.invalid/")


def test_exported_variables_of_the_user_do_not_reach_a_test(inner: Path) -> None:
    output = _run(
        inner,
        "import os\n"
        "def test_it():\n"
        "    assert not [n for n in os.environ if n.startswith('ALLOCSYNC_') or n == 'NOTIFY_SOCKET']\n",
        ALLOCSYNC_API_URL="http://127.0.0.1:1",
        NOTIFY_SOCKET="/run/systemd/notify",
    )
    assert "1 passed" in output


SKIPPED_TESTS = """
import pytest

def test_it():
    pytest.skip("promtool is not here")

@pytest.mark.skip("kubectl is not here")
def test_another():
    pass
"""
SKIPPED_MODULE = 'import pytest\npytest.skip("groff is not here", allow_module_level=True)\n'


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two"])
def test_a_skip_is_a_failure_if_the_environment_says_so(inner: Path, options: tuple[str, ...]) -> None:
    (inner / "test_module.py").write_text(SKIPPED_MODULE, encoding="utf-8")
    options = (*options, "--continue-on-collection-errors", "test_module.py")
    assert "3 skipped" in _run(inner, SKIPPED_TESTS, *options).splitlines()[-1]
    strict = _run(inner, SKIPPED_TESTS, *options, ALLOCSYNC_TEST_NO_SKIPS="1")
    assert "1 failed, 2 errors" in strict.splitlines()[-1]
    assert "skipped" not in strict.splitlines()[-1]
    for missing in ("promtool", "kubectl", "groff"):
        assert f"{missing} is not here" in strict


def test_a_failure_found_by_hypothesis_is_printed_with_the_line_that_repeats_it(inner: Path) -> None:
    output = _run(
        inner,
        "from hypothesis import given, strategies as st\n"
        "@given(st.integers())\n"
        "def test_it(n):\n    assert n < 1000\n",
    )
    assert "@reproduce_failure(" in output


def test_the_fast_tier_omits_slow_tests_and_runs_fewer_random_examples(inner: Path) -> None:
    tests = """
import hypothesis, pytest

def test_it():
    assert hypothesis.settings().max_examples == {examples}

@pytest.mark.slow
def test_another():
    pass
"""
    (inner / "pytest.ini").write_text("[pytest]\nmarkers = slow\n", encoding="utf-8")
    assert "1 passed, 1 deselected" in _run(inner, tests.format(examples=20))
    assert "2 passed" in _run(inner, tests.format(examples=100), "--tier=all")
