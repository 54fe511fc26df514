"""The active fault configuration: which phase is active, and the changes that happen without a request.

The rules:
- Whatever runs by itself (the timeline, the other client, the changes of `updated`) belongs to the server and
  stops with it.
- A new configuration replaces all of the old one at once and draws from the start of its seed.

Left out: what a request meets (`reference_server.handlers`).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from allocsync.model.cloud import Cloud
from allocsync.model.times import Monotonic
from allocsync.reference_server.fault_config import parse_phases
from allocsync.reference_server.faults import FaultDraw, FaultSampler, Phase, Writer
from allocsync.reference_server.request_log import RequestLog
from allocsync.reference_server.store import Store


class FaultTimeline:
    """The active fault configuration, and how often each fault has fired.

    Raises:
        FaultConfigError: the configuration is wrong.
    """

    def __init__(self, given: object, *, store: Store, log: RequestLog, group: asyncio.TaskGroup) -> None:
        self.fired: Counter[str] = Counter()
        self._store = store
        self._log = log
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        self._next_phase_task: asyncio.Task[None] | None = None
        self._index = 0
        self._stale_list: tuple[Monotonic, list[Cloud]] | None = None
        self._phases = parse_phases({} if given is None else given)
        self._sampler = FaultSampler(self._phases[0], self.fired)

    def start(self) -> None:
        """Enter the first phase."""
        self._enter(0)

    def stop(self) -> None:
        """Stop the tasks of the active phase."""
        for task in (*self._tasks, self._next_phase_task):
            if task is not None:
                task.cancel()

    def replace(self, given: object) -> None:
        """Replace the whole configuration; its first phase begins now.

        Raises:
            FaultConfigError: the new configuration is wrong; nothing changes.
        """
        phases = parse_phases(given)
        self.stop()
        self._phases = phases
        self._enter(0)

    def as_json(self) -> Mapping[str, object]:
        """Return the configuration, the index of the active phase, and how often each fault has fired.

        A single phase without an end is returned as that phase, without an index.
        """
        bodies = [phase.body for phase in self._phases]
        if len(bodies) == 1 and self._phases[0].seconds is None:
            return {**bodies[0], "fired": self.fired}
        return {"timeline": bodies, "phase": self._index, "fired": self.fired}

    def draw(self, operation: str) -> FaultDraw:
        """Draw what the next request of this operation meets."""
        return self._sampler.draw(operation)

    def apply_to_list(self, clouds: list[Cloud]) -> list[Cloud]:
        """Return what a list shows of these clouds: some may be missing, or all may be outdated."""
        now = Monotonic(asyncio.get_running_loop().time())
        stale = self._sampler.phase.settings["list"].stale_seconds
        if not stale or self._stale_list is None or now - self._stale_list[0] >= stale:
            self._stale_list = (now, clouds)
        elif self._stale_list[1] != clouds:
            self.fired["list.stale_seconds"] += 1
        return [cloud for cloud in self._stale_list[1] if not self._sampler.draw_omission()]

    def _enter(self, index: int) -> None:
        self._index = index
        phase = self._phases[index]
        self._sampler = FaultSampler(phase, self.fired)
        self._tasks = []
        if phase.writer is not None:
            self._tasks.append(self._group.create_task(self._run_writer(phase.writer)))
        if phase.ticks_per_second:
            self._tasks.append(self._group.create_task(self._run_ticks(phase)))
        self._next_phase_task = None
        if phase.seconds is not None and index + 1 < len(self._phases):
            self._next_phase_task = self._group.create_task(self._advance_after(phase.seconds, index + 1))

    async def _advance_after(self, seconds: float, index: int) -> None:
        await asyncio.sleep(seconds)
        for task in self._tasks:
            task.cancel()
        self._enter(index)

    async def _run_writer(self, writer: Writer) -> None:
        sampler = self._sampler
        while True:
            await asyncio.sleep(sampler.draw_interval_seconds("writer", writer.per_second))
            change = self._choose_change(writer, sampler)
            if change is not None:
                self.fired["writer.write"] += 1
                self.set_field(*change)

    async def _run_ticks(self, phase: Phase) -> None:
        sampler = self._sampler
        while True:
            await asyncio.sleep(sampler.draw_interval_seconds("ticks", phase.ticks_per_second))
            keys = list(self._store.clouds)
            if keys:
                self.fired["ticks"] += 1
                self._store.touch_updated(keys[sampler.draw_index("ticks", len(keys))])

    def set_field(self, key: str, path: str, value: str | None) -> None:
        """Change one field as another client, or remove it with None.

        Raises:
            KeyError: there is no cloud with this id.
        """
        changed = self._store.set_field(key, path, value)
        if changed:
            self._log.write_event("writer", id=key, applied_at=self._log.now(), changed=changed)

    def _choose_change(self, writer: Writer, sampler: FaultSampler) -> tuple[str, str, str | None] | None:
        """Choose a cloud for the other client: (id, path, value), or None if it can change none.

        Only fields that a cloud has are changed, because a URL without its status is not valid.
        """
        keys = list(self._store.clouds)
        first = sampler.draw_index("writer", len(keys)) if keys else 0
        for key in (*keys[first:], *keys[:first]):
            value = self._store.initial_text(key, writer.field) if writer.value is None else writer.value
            now = self._store.value_at(key, writer.field)
            if now is not None and value is not None and (writer.value is not None or now != value):
                return key, writer.field, value
        return None
