"""Measures how long a fresh edit takes to its update while a hundred thousand allocations are read.

All allocations are in sync, and resyncs follow each other, one by one or by list. An edit rewrites one file
of twenty, in which one allocation gets another region. The time runs from there until the server receives the
POST.

The daemon loads the whole directory after each edit, whichever file changed. So two more times are measured:
of a load in a process that does nothing else (`load_seconds`), and from the log line that a revision is
active until the POST (`from_activation_seconds`).

Left out: an edit during the first pass over everything, when all allocations are as urgent as the edited one.
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
from allocsync.model.cloud import field_value
from allocsync.model.desired_state import Mode
from tests.benchmarks.storm import declare, drifted, reference_server, rewrite
from tests.support import server_log_oracle
from tests.support.processes import Daemon, daemon, eventually

EDITS, BETWEEN_SECONDS = 7, 3.0
# Shorter than a pass, but long enough that the result of a read is not too old before the next one.
RESYNC_SECONDS = {"on": 5, "off": 20}
SENT_SECONDS = 120.0
FIRST_PASS_SECONDS = 600.0


async def measure(number: int, bulk: Literal["on", "off"], edits: int = EDITS) -> dict[str, object]:
    """Measure the seconds of each edit, and count the requests meanwhile."""
    clouds, declared = drifted(number)
    for cloud in clouds:
        declared[str(cloud["id"])]["region"] = str(field_value(cloud, "region"))
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
            await eventually(lambda: running.events("all_in_sync"), FIRST_PASS_SECONDS)
            await asyncio.sleep(RESYNC_SECONDS[bulk])
            for key in sorted(declared)[:: max(1, number // edits)][:edits]:
                declared[key]["region"] = "fresh"
                rewrite(home / "desired", declared, [key])
                edited[key] = time.time()
                await eventually(partial(_is_sent, running, key), SENT_SECONDS)
                await asyncio.sleep(BETWEEN_SECONDS)
            activated = [_time_of(row) for row in running.events("revision_activated")]
        records = server_log_oracle.read_log(home / "log.jsonl")
    arrived = {row["id"]: row["received_at"] for row in reversed(records) if row["op"] == "update"}
    seconds = sorted(arrived[key] - at for key, at in edited.items())
    from_activation = sorted(
        arrived[key] - min(each for each in activated if each >= at) for key, at in edited.items()
    )
    return {
        "allocations": number,
        "bulk": bulk,
        "load_seconds": round(load_seconds, 2),
        "to_the_wire_seconds": [round(each, 2) for each in seconds],
        "from_activation_seconds": [round(each, 2) for each in from_activation],
        "lists": sum(row["op"] == "list" for row in records),
        "reads_per_second": _reads_per_second(records, min(edited.values()), max(arrived.values())),
    }


def _time_of(row: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(row["ts"]).timestamp()


def _is_sent(running: Daemon, key: str) -> bool:
    return any(row["allocation"] == key for row in running.events("update_accepted"))


def _reads_per_second(records: Sequence[server_log_oracle.Record], begin: float, end: float) -> int:
    """Single reads per second; a list is one request, whatever it contains."""
    reads = [row for row in records if row["op"] == "snapshot" and begin <= row["received_at"] <= end]
    return round(len(reads) / max(1e-3, end - begin))
