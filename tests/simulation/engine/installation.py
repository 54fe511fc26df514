"""One allocsync of a run: its files, its machine, the oracles that judge it, and the API as it sees it.

The rule: a second allocsync is judged like the first. To each of them, what the other one writes is the write
of another client.

Left out: the events of a run, and until when it goes on (`world`).
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import replace

from allocsync.journal.database import NAME
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from tests.simulation.disk.disk import Disk
from tests.simulation.engine.files import Files
from tests.simulation.engine.machine import Machine
from tests.simulation.engine.process import rows_of
from tests.simulation.engine.schedule import Schedule, Seam, SecondAllocsync, SecondKind
from tests.simulation.engine.server import Server, id_of
from tests.simulation.oracles import convergence
from tests.simulation.oracles.history_evidence import unsettled
from tests.simulation.oracles.load import measure_load
from tests.simulation.oracles.promises import PromiseOracle
from tests.simulation.oracles.write_gates import WriteGatesOracle
from tests.simulation.report.outcome import Outcome

SECOND_SEED = 10**9  # is added to the seed of the schedule
SECOND_VALUE = "second"


class Installation:
    """See the module."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        files: Files,
        disk: Disk,
        outcome: Outcome,
        on_seam: Callable[[Seam], None],
        clock_ahead_seconds: float = 0.0,
    ) -> None:
        self._resync_seconds = schedule.resync_seconds
        self._outcome = outcome
        self.files = files
        self.server = Server(schedule, outcome.note)
        self.gates = WriteGatesOracle(
            schedule.closed_minutes, schedule.max_writes_per_hour, len(schedule.allocations)
        )
        self.promises = PromiseOracle(
            self.server,
            gates=self.gates,
            resync_seconds=schedule.resync_seconds,
            bulk=schedule.bulk != "off" and schedule.has_list_route,
            report_breach=outcome.report_breach,
            note=outcome.note,
        )
        self.machine = Machine(
            schedule,
            server=self.server,
            files=files,
            promises=self.promises,
            disk=disk,
            outcome=outcome,
            on_seam=on_seam,
            clock_ahead_seconds=clock_ahead_seconds,
        )

    async def run_from(self, begin: float) -> None:
        """Run the machine from `begin` on, until it is switched off."""
        await asyncio.sleep(begin)
        await self.machine.run()

    def convergence_seconds(self) -> float:
        """How long it may take from now until everything has converged."""
        return convergence.convergence_seconds(
            self.server.history,
            self.promises.liveness,
            self.gates,
            now=self.server.now(),
            resync_seconds=self._resync_seconds,
        )

    def differences(self, disputed: Collection[AllocationId]) -> list[str]:
        """What has not converged, in words; the fields of disputed allocations need not."""
        return convergence.differences(
            self.server, self.promises.liveness, self.files.declared, self.promises.journal, disputed
        )

    def check_end(self) -> None:
        """Judge the load and the journal, after the machine is switched off."""
        sent = measure_load(
            self.server.history, self.gates, now=self.server.now(), resync_seconds=self._resync_seconds
        )
        if sent.is_excessive:
            self._outcome.report_breach("P5", str(sent))
            return
        with closing(rows_of(self.machine.disk.directory / NAME)) as journal:
            self.promises.journal_oracle.run_ended(
                journal, settled=lambda truth: not unsettled(truth, self.server.history.gap_at)
            )


def build_second(
    schedule: Schedule, second: SecondAllocsync, *, first: Installation, disk: Disk, outcome: Outcome
) -> Installation:
    """The second allocsync, on the API of the first, without gates and events of its own."""
    installation = Installation(
        replace(
            schedule,
            seed=schedule.seed + SECOND_SEED,
            events=(),
            max_changes_percent=100.0,
            canary=0,
            max_writes_per_hour=None,
            closed_minutes=None,
        ),
        files=Files(()),
        disk=disk,
        outcome=outcome,
        on_seam=lambda _: None,
        clock_ahead_seconds=second.clock_ahead_seconds,
    )
    installation.server.share_truth(first.server)
    follow_files(installation, second, first.files)
    return installation


def follow_files(installation: Installation, second: SecondAllocsync, files: Files) -> None:
    """Give the second allocsync its declarations, which are partly those of the first in `files`."""
    declared = {}
    for number, kind, field in second.wanted:
        key = id_of(number)
        if kind is not SecondKind.SAME:
            declared[key] = Desired(key, ((field, SECOND_VALUE),))
        elif key in files.declared:
            declared[key] = files.declared[key]
    if declared != installation.files.declared:
        installation.files.replace(declared)
        installation.machine.deliver_files()
