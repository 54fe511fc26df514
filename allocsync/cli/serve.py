"""`allocsync serve`: the reference Allocation API as a process of its own."""

import asyncio
import json
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from allocsync import errors
from allocsync.api.server import ReferenceServer
from allocsync.api.server.faults import FaultsError
from allocsync.api.server.sample import sample_clouds
from allocsync.api.server.store import read_seed
from allocsync.settings import parse_listen

SAMPLE = 24


@click.command()
@click.option("--listen", default="127.0.0.1:0", show_default=True, help="HOST:PORT; port 0: any.")
@click.option(
    "--seed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Clouds: a saved answer of GET /allocations, JSON or YAML. Default: {SAMPLE} samples.",
)
@click.option(
    "--state",
    default=":memory:",
    show_default=True,
    metavar="FILE|:memory:",
    help="Where the clouds survive.",
)
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="One JSON line per POST.")
@click.option("--log-all", is_flag=True, help="Log reads, the other writer and faults too.")
@click.option("--faults", metavar="FILE|JSON", help="Faults to begin with; PUT /-/faults changes them.")
def serve(
    listen: str, seed: Path | None, state: str, log: Path | None, log_all: bool, faults: str | None
) -> None:
    """Run the reference Allocation API, with faults where you want them."""
    try:
        address = parse_listen(listen)
    except ValueError as error:
        raise errors.UsageError(f"--listen {listen}: {error}. Try 127.0.0.1:0.") from error
    clouds = read_seed(seed) if seed else sample_clouds(SAMPLE, 1)
    try:
        asyncio.run(
            _serve(
                ReferenceServer.start(
                    clouds,
                    faults=_faults(faults),
                    state=None if state == ":memory:" else Path(state),
                    log_file=log,
                    log_all=log_all,
                    listen=address,
                )
            )
        )
    except FaultsError as error:
        raise errors.UsageError(f"--faults: {error}") from error


def _faults(given: str | None) -> object:
    if given is None:
        return None
    text = given if given.lstrip().startswith("{") else _read(Path(given))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise errors.UsageError(f"--faults: not JSON: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise errors.UsageError(f"--faults {path}: {error.strerror}") from error


async def _serve(starting: AbstractAsyncContextManager[ReferenceServer]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with starting as server:
        if server.resumed:
            click.echo("the state file is used and the seed is not", err=True)
        click.echo(f"reference API  {server.url}  {len(server.clouds)} allocations")
        await stop.wait()
