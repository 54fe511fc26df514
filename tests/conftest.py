"""What holds for every test: a clean environment, no network but loopback, and failures that can be repeated.

The rules: no variable that the user has exported reaches a test. A connection or a name look-up that would
leave this machine fails the test, even if the code under test suppresses the error. A failure found by
Hypothesis is printed with the line that repeats it. With ALLOCSYNC_TEST_NO_SKIPS=1 a skip is a failure.

The tests have three tiers. The fast tier omits the tests marked `slow` and runs only a part of the random
cases: EXAMPLES percent of them in every test (`support/tier.py`). `--tier=all`, as in CI, runs everything but
the tests marked `distribution`, which build packages and images for a quarter of an hour; `--tier=packages`
runs only these.

Left out: the network of processes that a test starts; such tests give them loopback addresses only.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Generator, Iterator
from ipaddress import ip_address
from typing import Protocol

import hypothesis
import pytest

NO_SKIPS = "ALLOCSYNC_TEST_NO_SKIPS"
# Hypothesis examples per property in each tier. `part_of` scales all other random counts by the same ratio.
EXAMPLES = {"fast": 20, "all": 100, "packages": 100}
# Variables set by systemd, make and terminals, which programs under test would take as their own.
FOREIGN = frozenset(
    {
        *("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID"),
        *("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
        "PYTHONDONTWRITEBYTECODE",  # hundreds of processes would each compile all modules again
    }
)


class Worker(Protocol):
    """The part of a worker process of pytest-xdist that is used here; the package has no types."""

    config: pytest.Config
    workerinput: dict[str, object]


class NetworkGuard:
    """An audit hook that stops and records connections and look-ups that would leave this machine.

    Names under `.invalid` never resolve (RFC 6761), so they fail without a look-up.
    """

    def __init__(self) -> None:
        self.breaches: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Check one audit event. Python calls this for every event, so others return early."""
        if not event.startswith("socket."):
            return
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            self._check_address(event, arguments[1])
        elif event == "socket.getaddrinfo":
            self._check_name(arguments[0])

    def _check_address(self, event: str, address: object) -> None:
        if isinstance(address, tuple) and address and isinstance(address[0], str):
            host = address[0].partition("%")[0]
            if host and not _is_loopback(host):
                self._stop(f"{event} to {address}")

    def _check_name(self, name: object) -> None:
        host = name.decode(errors="replace") if isinstance(name, bytes) else name
        if not isinstance(host, str) or not host:
            return
        if host.rstrip(".").endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not _is_loopback(host) and not _is_address(host):
            self._stop(f"look-up of {host}")

    def _stop(self, what: str) -> None:
        self.breaches.append(what)
        raise PermissionError(f"tests use loopback only: {what}")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


GUARD = pytest.StashKey[NetworkGuard]()
SKIPS_FAIL = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that selects the tier."""
    text = "all: also run slow tests, and five times as many random cases; packages: only what is built"
    parser.addoption("--tier", choices=EXAMPLES, default="fast", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment, install the network guard and configure Hypothesis."""
    worker_input: dict[str, bool] = getattr(config, "workerinput", {})
    config.stash[SKIPS_FAIL] = worker_input.get(NO_SKIPS, os.environ.get(NO_SKIPS, "") not in ("", "0"))
    for name in list(os.environ):
        if name.startswith("ALLOCSYNC_") or name in FOREIGN:
            del os.environ[name]
    config.stash[GUARD] = NetworkGuard()
    sys.addaudithook(config.stash[GUARD])
    # A deadline would measure the machine, not the code; print_blob prints the line that repeats a failure.
    for tier, examples in EXAMPLES.items():
        hypothesis.settings.register_profile(tier, deadline=None, print_blob=True, max_examples=examples)
    hypothesis.settings.load_profile(config.getoption("tier"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of other tiers. They are not skipped, because a skip can be a failure."""
    kept = [item for item in items if _is_in(config.getoption("tier"), item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    for item in items:
        # By default looptime runs 42 idle iterations of the event loop before it advances the time.
        if item.get_closest_marker("looptime"):
            item.add_marker(pytest.mark.looptime(noop_cycles=0))


def _is_in(tier: str, item: pytest.Item) -> bool:
    is_built = item.get_closest_marker("distribution") is not None
    if tier == "packages" or is_built:
        return tier == "packages" and is_built
    return tier == "all" or item.get_closest_marker("slow") is None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Worker) -> None:
    """Pass the setting to a worker, whose environment no longer has the variable."""
    node.workerinput[NO_SKIPS] = node.config.stash[SKIPS_FAIL]


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that tried to leave this machine, even if it suppressed the error."""
    breaches = request.config.stash[GUARD].breaches
    breaches.clear()
    yield
    assert not breaches


@pytest.fixture(scope="session", autouse=True)
def _no_implicit_event_loop() -> None:
    """Keep Python 3.11 from creating an event loop when pytest-asyncio asks for the current one.

    Nobody would close that loop, and warnings are errors.
    """
    asyncio.set_event_loop(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure if skips are not allowed."""
    report = yield
    if report.skipped and item.config.stash[SKIPS_FAIL] and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure if skips are not allowed."""
    report = yield
    if report.skipped and collector.config.stash[SKIPS_FAIL]:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{reason}\n{NO_SKIPS} is set: a skip is a failure here."
