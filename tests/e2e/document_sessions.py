"""Runs the shell blocks of a document as a reader would: in one shell, in order, on the shipped files.

The rules: a session is the blocks from one `setup` note to the next. One bash runs them, and exits at the
first command that fails. Its working directory has a copy of what the repository ships. Its home directory is
empty. Its environment has the variables of the setup, the caller's PATH, and the `allocsync` package that the
test imports. A command must print the output that the document shows; `…` stands for any text, and alone on
a line for any lines.

Setups: `files` has the files alone. `api` adds a reference server with the allocations of
`config/allocations.yaml` and some more. `daemon` adds an `allocsync run` with an `allocations.yaml` that is
in sync. `repository` has the sources and the tests, and nothing else.

Left out: what a block is (`tests/support/documents.py`).
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import allocsync
from allocsync.desired.loader import load
from allocsync.model.cloud import Cloud
from allocsync.model.desired_state import Mode
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.documents import ROOT, Block, Command

SHIPPED = ("config", "deploy", "systemd")
SOURCES = ("allocsync", "tests", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "Makefile")
SAMPLE = ROOT / "config" / "allocations.yaml"
DESIRED = "allocations.yaml"
ALLOCATIONS, DECLARED, SEED = 24, 12, 1
SECONDS = 120.0
MARK = "@@ command: "
START_DAEMON = f"""\
allocsync run 2> daemon.log &
for _ in {{1..200}}; do
    sleep 0.1
    in_sync=$(curl -s "http://$ALLOCSYNC_LISTEN/metrics" | grep '^allocsync_allocations.*"InSync"' || true)
    [[ $in_sync != *" {DECLARED}.0" ]] || break
done
[[ $in_sync == *" {DECLARED}.0" ]]"""
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Setup:
    """What a session has at its start; `copied` are paths relative to the root."""

    api: bool = False
    daemon: bool = False
    copied: Sequence[str] = SHIPPED


SETUPS: Mapping[str, Setup] = {
    "files": Setup(),
    "api": Setup(api=True),
    "daemon": Setup(api=True, daemon=True),
    "repository": Setup(copied=SOURCES),
}


@dataclass(frozen=True, slots=True)
class Session:
    """Blocks that share one shell."""

    setup: str
    blocks: tuple[Block, ...]

    @property
    def place(self) -> str:
        """Return the location of its first block."""
        return self.blocks[0].place


def sessions(blocks: Iterable[Block]) -> list[Session]:
    """Return the sessions of one document, without those in which nothing runs."""
    found = [Session("files", ())]
    for block in blocks:
        if "setup" in block.notes:
            found.append(Session(block.notes["setup"], ()))
        if block.runs or "file" in block.notes:
            found[-1] = Session(found[-1].setup, (*found[-1].blocks, block))
    return [session for session in found if any(block.runs for block in session.blocks)]


async def run(session: Session, directory: Path) -> None:
    """Run the session in this directory, which exists and is empty.

    Raises:
        AssertionError: a command fails, or does not print what the document shows.
    """
    setup, work = SETUPS[session.setup], directory / "work"
    for name in setup.copied:
        copy, source = work / name, ROOT / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, copy)
    async with _environment(setup, directory) as environment:
        commands = [command for block in session.blocks if block.runs for command in block.commands()]
        status, printed = await _bash(_script(session, setup), environment, work)
    for place, command in zip(_places(session), commands, strict=True):
        assert place in printed, f"{place} was not reached: {printed}"
        last = place == [*printed][-1]
        assert status == 0 or not last, f"{place}: `{command.text}` ends with {status}:\n{printed[place]}"
        problem = difference(command, printed[place])
        assert not problem, f"{place}: {problem}"


def difference(command: Command, printed: str) -> str:
    """Return how the output differs from the document; empty if it agrees, or if none is shown."""
    shown = command.output.rstrip()
    if not shown or re.fullmatch(_pattern(shown), printed.rstrip(), re.DOTALL):
        return ""
    return f"`{command.text}` prints\n{printed.rstrip()}\nand the document shows\n{shown}"


def _pattern(shown: str) -> str:
    """Return a regular expression for the output that is shown."""
    lines = (".*" if line.strip() == "…" else _line(line) for line in shown.splitlines())
    return r"\n".join(lines).replace(r".*\n", r"(?:.*\n)?")


def _line(line: str) -> str:
    return r"[^\n]*".join(re.escape(part) for part in line.rstrip().split("…")) + r" *"


def _places(session: Session) -> list[str]:
    return [
        f"{block.document.as_posix()}:{command.line}"
        for block in session.blocks
        if block.runs
        for command in block.commands()
    ]


def _script(session: Session, setup: Setup) -> str:
    """Return the session as a bash script that prints a line with the location before each command."""
    lines = ["set -euo pipefail"]
    for block in session.blocks:
        if "file" in block.notes:
            end = "end of file"
            lines.append(f"cat > {shlex.quote(block.notes['file'])} << '{end}'\n{block.text}{end}")
    if setup.daemon:
        lines.append(START_DAEMON)
    commands = [command for block in session.blocks if block.runs for command in block.commands()]
    for place, command in zip(_places(session), commands, strict=True):
        lines += [f"echo {shlex.quote(MARK + place)}", command.text]
    return "\n".join(lines) + "\n"


async def _bash(script: str, environment: Mapping[str, str], work: Path) -> tuple[int, dict[str, str]]:
    """Run a script; returns its exit status and the output by location. Ends what it left running."""
    output = work.parent / "output"
    with output.open("w") as file:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=work,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            status = await asyncio.wait_for(process.wait(), SECONDS)
        finally:
            await _end_group(process.pid)
    before, *parts = output.read_text(encoding="utf-8").split(MARK)
    assert parts or status == 0, f"the setup ends with {status}:\n{before}{_log(work)}"
    return status, {place: printed for place, _, printed in (part.partition("\n") for part in parts)}


def _log(work: Path) -> str:
    log = work / "daemon.log"
    return log.read_text(encoding="utf-8") if log.exists() else ""


async def _end_group(group: int) -> None:
    """Send SIGTERM to the process group, and SIGKILL if it still exists after five seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for attempt in range(100):
            with suppress(ProcessLookupError):
                os.killpg(group, number if attempt == 0 else 0)
                await asyncio.sleep(0.05)
                continue
            return


@asynccontextmanager
async def _environment(setup: Setup, directory: Path) -> AsyncIterator[dict[str, str]]:
    """Return the environment of a session; its API exists while the context lasts."""
    home = directory / "home"
    home.mkdir()
    environment = {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(allocsync.__file__).parents[1]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ALLOCSYNC_STATE_DIR": str(directory / "state"),
        "ALLOCSYNC_LISTEN": f"127.0.0.1:{_free_port()}",
        "ALLOCSYNC_SERVE_LISTEN": f"127.0.0.1:{_free_port()}",
    }
    if setup.daemon:
        environment["ALLOCSYNC_DESIRED"] = DESIRED
        rows = "".join(
            f"  {cloud['id']}: {{region: {cloud['region']}}}\n" for cloud in seed_clouds()[:DECLARED]
        )
        (directory / "work" / DESIRED).write_text(f"apiVersion: allocsync/v1\nallocations:\n{rows}")
    if not setup.api:
        yield environment
        return
    async with ReferenceServer.start(seed_clouds()) as server:
        yield {**environment, "ALLOCSYNC_API_URL": server.url}


def seed_clouds() -> list[Cloud]:
    """Return sample clouds; the first ones have the ids that the shipped example declares."""
    keys = load(SAMPLE, default_mode=Mode.ENFORCE).revision.allocations
    clouds = sample_clouds(ALLOCATIONS, SEED)
    named = [{**cloud, "id": key} for key, cloud in zip(keys, clouds, strict=False)]
    return [*named, *clouds[len(named) :]]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
