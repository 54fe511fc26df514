"""`python -m tests.soak.kills --runs 10`: the daemon is killed again and again in a storm of 504s.

Every allocation is declared anew. Half of all updates end with a 504: half of these are applied, and a fifth
of those only after their answer. The daemon is killed with SIGKILL several times, in the middle of its work.
After each time another client changes some declared values at the server, and the daemon starts again with
the same state directory. Then the faults stop.

The rules: everything must be in sync within the time that P1 allows. No update may be needless or a duplicate
beyond what an unknown outcome excuses, and at the end no allocation may be Ignored or in Conflict. A run in
which a fault did not happen is a failure. The server's log and the journal are the judges. The figures go to
kills.jsonl.

Left out: other faults, and edits (`run`); crashes at each step of the program (the simulation).
"""

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from allocsync.journal import reader
from allocsync.model.cloud import Cloud
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.benchmarks.machine import stamp
from tests.support import server_log_oracle
from tests.support.processes import Daemon, daemon, declare, eventually
from tests.support.server_log_oracle import Finding, Record

RESULTS = Path(__file__).with_name("kills.jsonl")
SETTLE_SECONDS, RESYNC_SECONDS = 5.0, 10.0
FAULTS = ("timeout_before", "timeout_after", "timeout_late")
SHARES = (0.25, 0.2, 0.05)  # half of all updates end with a 504, half of these are applied, a fifth late
DECLARED = {"region": "mars-north1", "version": "9.9"}
# P1: a probe of an outage, the longest backoff, one resync, and the work itself.
PROBE_SECONDS, BACKOFF_SECONDS = 30.0, 300.0


@dataclass(frozen=True)
class Plan:
    """How large a run is.

    Before each kill the server has answered `updates_before_kill` (fewest, most) further updates.
    `struck` are the fields that the other client changes, each value at most once; `strikes` is their number
    after each kill. The fields of `kept` are as declared from the start.
    """

    allocations: int = 1500
    kills: int = 6
    strikes: int = 40
    struck: tuple[str, ...] = tuple(DECLARED)
    kept: tuple[str, ...] = ()
    updates_before_kill: tuple[int, int] = (150, 400)
    late_seconds: tuple[float, float] = (1.0, 20.0)


class Storm:
    """One run: the server, the file, and what was done to the daemon."""

    def __init__(self, plan: Plan, home: Path, seed: int) -> None:
        self.plan = plan
        self.home = home
        self.rng = random.Random(seed)
        kept = {field: DECLARED[field] for field in plan.kept}
        self.clouds: list[Cloud] = [{**cloud, **kept} for cloud in sample_clouds(plan.allocations, seed)]
        self.open_at_kill: list[int] = []
        self._lives = 0
        values = [(str(cloud["id"]), field) for cloud in self.clouds for field in plan.struck]
        self._targets = iter(self.rng.sample(values, plan.kills * plan.strikes))

    @property
    def desired(self) -> Path:
        """The declaration file."""
        return self.home / "allocations.yaml"

    @property
    def state(self) -> Path:
        """The state directory, which every process of the daemon uses."""
        return self.home / "state"

    async def run(self) -> dict[str, Any]:
        """Run it. Returns the figures; what is wrong is under `violations`."""
        declare(self.desired, self.clouds, **DECLARED)
        faults = {
            "seed": self.rng.randrange(10**6),
            "update": {
                **dict(zip(FAULTS, SHARES, strict=True)),
                "late_seconds": list(self.plan.late_seconds),
            },
        }
        async with ReferenceServer.start(self.clouds, faults=faults, log_all=True) as server:
            begun = time()
            for number in range(self.plan.kills):
                await self._live_and_die(server)
                self._strike(server, number)
            async with self._daemon(server) as running:
                at = len(_updates(server.records))
                await eventually(
                    lambda: len(_updates(server.records)) >= at + self.plan.updates_before_kill[0], 120
                )
                storm_seconds = time() - begun
                rate = len(_updates(server.records)) / storm_seconds
                server.set_faults({})
                stopped = time()
                allowed = PROBE_SECONDS + BACKOFF_SECONDS + RESYNC_SECONDS + self.plan.allocations / rate
                reached = await _settled(running, self.plan.allocations, stopped + allowed)
                reported = json.loads((await running.get("/api/v1/status"))[1])["conditions"]
                messages = running.events("library_message")
            fired = {name: server.fired[f"update.{name}"] for name in FAULTS}
            records = [dict(record) for record in server.records]
        declared = {str(cloud["id"]): DECLARED for cloud in self.clouds}
        truth = {str(cloud["id"]): cloud for cloud in self.clouds}
        finding = server_log_oracle.judge(records, truth, declared, settle_seconds=SETTLE_SECONDS)
        late = sum((row["applied_at"] or 0.0) > row["answered_at"] + 0.5 for row in _updates(records))
        struck = sum(row["op"] == "writer" for row in records)
        return {
            "allocations": self.plan.allocations,
            "kills": self.plan.kills,
            "open_at_kill": self.open_at_kill,
            "struck": struck,
            "updates": finding.posts,
            "reads": finding.reads,
            "faults": fired,
            "applied_late": late,
            "storm_seconds": round(storm_seconds, 1),
            "in_sync_after_seconds": round(max(0.0, _in_sync_at(records, truth, declared) - stopped), 1),
            "reported_after_seconds": None if reached is None else round(reached - stopped, 1),
            "allowed_seconds": round(allowed, 1),
            "needless": [finding.needless, len(finding.avoidable_needless)],
            "duplicates": [finding.duplicates, len(finding.avoidable_duplicates)],
            "reported": {name: count for name, count in reported.items() if count},
            "violations": [
                *self._not_happened(fired, late, struck),
                *_broken(finding, records, reported, self.plan.allocations),
                *([] if reached is not None else [f"not in sync after {allowed:.0f} s"]),
                *(f"logged: {line}" for line in messages),
                *self._broken_journal(),
            ],
        }

    def _daemon(self, server: ReferenceServer) -> Any:  # noqa: ANN401 - the context manager of `daemon`
        self._lives += 1
        return daemon(
            server.url,
            self.desired,
            self.home / f"daemon-{self._lives}.jsonl",
            *("--state-dir", str(self.state), "--settle-seconds", str(SETTLE_SECONDS)),
            *("--resync-seconds", str(RESYNC_SECONDS)),
        )

    async def _live_and_die(self, server: ReferenceServer) -> None:
        """Run the daemon until it has sent some updates and a 504 is open; then kill it."""
        before, number = len(_updates(server.records)), self.rng.randint(*self.plan.updates_before_kill)
        async with self._daemon(server) as running:
            await eventually(lambda: len(_updates(server.records)) >= before + number, 120)
            running.process.send_signal(signal.SIGKILL)
            await running.process.wait()
        with reader.opened(self.state) as connection:
            self.open_at_kill.append(connection.execute("SELECT count(*) FROM open_intents").fetchone()[0])

    def _strike(self, server: ReferenceServer, number: int) -> None:
        """Another client changes declared values, while no daemon runs."""
        for _ in range(self.plan.strikes):
            key, field = next(self._targets)
            server.set_field(key, field, f"theirs-{number}")

    def _not_happened(self, fired: Mapping[str, int], late: int, struck: int) -> Iterator[str]:
        for name, count in fired.items():
            if not count:
                yield f"the fault {name} did not happen"
        if not late:
            yield "no update was applied late"
        if struck != self.plan.kills * self.plan.strikes:
            yield f"{struck} values were changed by somebody else"
        if sum(map(bool, self.open_at_kill)) * 2 < self.plan.kills:
            yield f"most kills found no open update: {self.open_at_kill}"

    def _broken_journal(self) -> Iterator[str]:
        with reader.opened(self.state) as connection:
            yield from (f"journal: {problem}" for problem in reader.verify(connection).problems)
            left = connection.execute("SELECT count(*) FROM open_intents").fetchone()[0]
        if left:
            yield f"{left} open updates in the journal at the end"


def _updates(records: Sequence[Record]) -> list[Record]:
    return [row for row in records if row["op"] == "update"]


async def _settled(running: Daemon, number: int, end: float) -> float | None:
    """Wait until it reports everything InSync and no update is open; returns when, None: not until `end`."""
    while time() < end:
        status = json.loads((await running.get("/api/v1/status"))[1])
        if status["conditions"]["InSync"] == number and not await running.metric("allocsync_open_intents"):
            return time()
        await asyncio.sleep(0.2)
    return None


def _in_sync_at(
    records: Sequence[Record],
    seed: Mapping[str, Mapping[str, Any]],
    declared: Mapping[str, Mapping[str, str]],
) -> float:
    """When the server had every declared value for good; infinity if it has not."""
    by_id: dict[str, list[Record]] = {key: [] for key in declared}
    for row in records:
        if row["op"] in {"update", "writer"}:
            by_id[row["id"]].append(row)
    since = [
        server_log_oracle.Truth(seed[key], rows).equal_from(declared[key]) for key, rows in by_id.items()
    ]
    return max(float("inf") if at is None else at for at in since)


def _broken(
    finding: Finding, records: Sequence[Record], reported: Mapping[str, int], number: int
) -> Iterator[str]:
    yield from (f"needless: {each}" for each in finding.avoidable_needless)
    yield from (f"duplicate: {each}" for each in finding.avoidable_duplicates)
    yield from (f"without a read: {each}" for each in finding.blind)
    yield from (f"at once: {each}" for each in finding.at_once)
    for row in _updates(records):
        yield from (f"{row['id']}: {name} was changed" for name in row["changed"] if name not in DECLARED)
    if reported["InSync"] != number:
        yield f"at the end: {dict(Counter({name: count for name, count in reported.items() if count}))}"


def main() -> int:
    """Run it as often as told, and print and store the figures of each run."""
    parser = argparse.ArgumentParser(description="Kill the daemon again and again in a storm of 504s.")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    broken = 0
    for seed in range(given.seed, given.seed + given.runs):
        home = Path(tempfile.mkdtemp(prefix="allocsync-kills-"))
        figures = {**stamp(), "seed": seed, **asyncio.run(Storm(Plan(), home, seed).run())}
        sys.stderr.write(json.dumps(figures) + "\n")
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        if figures["violations"]:
            broken += 1
            sys.stderr.write(f"seed {seed}: {len(figures['violations'])} violations; the logs: {home}\n")
        else:
            shutil.rmtree(home)
    sys.stderr.write(f"{given.runs - broken} of {given.runs} runs are as promised\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
