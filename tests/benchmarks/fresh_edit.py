"""How long a fresh edit takes to the wire while everything is looked at, with a hundred thousand declared.

All are in sync, and one resync follows the other, one by one or in bulk. An edit puts one file of twenty anew
in which one allocation has another region; what is measured is from there until the server has received the
POST.

The daemon loads the whole directory at each edit, whichever file it was. So two more times are told: of a
load in a process that does nothing else (`load_seconds`), and from the line that says that the new generation
is in force until the POST (`from_adoption_seconds`).

Left out: an edit during the very first look at everything, when all are new and as urgent as it is.
"""

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from allocsync.desired.loader import load
from allocsync.model.cloud import leaf
from allocsync.model.desired_state import Mode
from tests.benchmarks.storm import declare, drifted, reference_server, rewrite
from tests.support import server_log_oracle
from tests.support.processes import Daemon, daemon, eventually

EDITS, BETWEEN_SECONDS = 7, 3.0
# Shorter than a pass takes, but what a single look showed must not be too old before the next one.
RESYNC_SECONDS = {"on": 5, "off": 20}
SENT_SECONDS = 120.0
FIRST_LOOK_SECONDS = 600.0


async def measure(number: int, bulk: Literal["on", "off"], edits: int = EDITS) -> dict[str, object]:
    """The seconds of each edit, and what the server was asked meanwhile."""
    clouds, declared = drifted(number)
    for cloud in clouds:
        declared[str(cloud["id"])]["region"] = str(leaf(cloud, "region"))
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        declare(home / "desired", declared)
        begun = time.perf_counter()
        load(home / "desired", default_mode=Mode.ENFORCE)
        load_seconds = time.perf_counter() - begun
        options = ("--bulk", bulk, "--resync-seconds", str(RESYNC_SECONDS[bulk]))
        edited: dict[str, float] = {}
        async with (
            reference_server(home, clouds, {}) as url,
            daemon(url, home / "desired", home / "daemon.jsonl", *options) as running,
        ):
            await eventually(lambda: running.events("all_in_sync"), FIRST_LOOK_SECONDS)
            await asyncio.sleep(RESYNC_SECONDS[bulk])
            for key in sorted(declared)[:: max(1, number // edits)][:edits]:
                declared[key]["region"] = "fresh"
                rewrite(home / "desired", declared, [key])
                edited[key] = time.time()
                await eventually(partial(_sent, running, key), SENT_SECONDS)
                await asyncio.sleep(BETWEEN_SECONDS)
            adopted = [_at(row) for row in running.events("revision_activated")]
        records = server_log_oracle.read_log(home / "log.jsonl")
    arrived = {row["id"]: row["received_at"] for row in reversed(records) if row["op"] == "update"}
    seconds = sorted(arrived[key] - at for key, at in edited.items())
    loop = sorted(arrived[key] - min(each for each in adopted if each >= at) for key, at in edited.items())
    return {
        "allocations": number,
        "bulk": bulk,
        "load_seconds": round(load_seconds, 2),
        "to_the_wire_seconds": [round(each, 2) for each in seconds],
        "from_adoption_seconds": [round(each, 2) for each in loop],
        "lists": sum(row["op"] == "list" for row in records),
        "looks_per_second": _looks_per_second(records, min(edited.values()), max(arrived.values())),
    }


def _at(row: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(row["ts"]).timestamp()


def _sent(running: Daemon, key: str) -> bool:
    return any(row["allocation"] == key for row in running.events("update_accepted"))


def _looks_per_second(records: Sequence[server_log_oracle.Record], begin: float, end: float) -> int:
    """Those one by one; a list is one request, whatever it holds."""
    reads = [row for row in records if row["op"] == "snapshot" and begin <= row["received_at"] <= end]
    return round(len(reads) / max(1e-3, end - begin))
