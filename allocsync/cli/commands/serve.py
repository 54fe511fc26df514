"""`allocsync serve`: runs the reference Allocation API as a process of its own.

The rules: the first line on standard output says where it listens. If it cannot start, it prints an error on
standard error instead. SIGTERM and SIGINT end it with exit code 0. The variable ALLOCSYNC_SERVE_<FLAG>
sets a flag that is not given.

Left out: the server and its faults (`reference_server`).
"""

import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from allocsync import errors
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.fault_config import FaultConfigError, decode_fault_config
from allocsync.reference_server.sample import sample_clouds
from allocsync.reference_server.seed import read_seed, schema_warnings
from allocsync.settings.validators import parse_listen

SAMPLE, SAMPLE_SEED = 24, 1
IN_MEMORY = ":memory:"


@click.command(context_settings={"auto_envvar_prefix": "ALLOCSYNC_SERVE"})
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, help="HOST:PORT; port 0 lets the system choose."
)
@click.option(
    "--seed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Clouds: a saved answer of GET /allocations, JSON or YAML. Default: {SAMPLE} samples.",
)
@click.option(
    "--state",
    default=IN_MEMORY,
    show_default=True,
    metavar="FILE|:memory:",
    help="Where the clouds are kept; if the file exists, the seed is not used.",
)
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="One JSON line per POST.")
@click.option("--log-all", is_flag=True, help="Also log reads, the other writer and faults.")
@click.option("--faults", metavar="FILE|JSON", help="Faults at the start; PUT /-/faults changes them.")
def serve(
    listen: str, seed: Path | None, state: str, log: Path | None, log_all: bool, faults: str | None
) -> None:
    """Run the reference Allocation API, with optional faults."""
    try:
        address = parse_listen(listen)
    except ValueError as error:
        raise errors.UsageError(f"--listen {listen}: {error}. Try 127.0.0.1:0.") from error
    file = None if state == IN_MEMORY else Path(state)
    seed_is_used = file is None or not file.exists()
    clouds = read_seed(seed) if seed and seed_is_used else sample_clouds(SAMPLE, SAMPLE_SEED)
    try:
        fault_config = None if faults is None else decode_fault_config(_read_faults_text(faults))
        starting = ReferenceServer.start(
            clouds,
            faults=fault_config,
            state=file,
            log=log,
            log_all=log_all,
            keep_records=False,
            listen=address,
        )
        asyncio.run(_serve(starting, ignored_seed=seed))
    except FaultConfigError as error:
        raise errors.UsageError(f"--faults: {error}") from error


def _read_faults_text(faults: str) -> str:
    if faults.lstrip().startswith("{"):
        return faults
    try:
        return Path(faults).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise errors.UsageError(f"--faults {faults}: not a text file") from error
    except OSError as error:
        why = f"{error.strerror}. Give a file, or the JSON itself"
        raise errors.UsageError(f"--faults {faults}: {why}.") from error


async def _serve(
    starting: AbstractAsyncContextManager[ReferenceServer], *, ignored_seed: Path | None
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with starting as server:
        if server.resumed and ignored_seed is not None:
            click.echo(f"the state file exists already: the seed {ignored_seed} is not used", err=True)
        for warning in schema_warnings(server.clouds.values()):
            click.echo(warning, err=True)
        click.echo(f"reference API  {server.url}  {len(server.clouds)} allocations")
        await stop.wait()
