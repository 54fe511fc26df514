"""The knobs in force: which phase of the timeline it is, and what goes on by itself meanwhile.

The rule: whatever goes on by itself (the timeline, another writer, `updated` that ticks) belongs to the
server and ends with it; new knobs replace all others at once, with fresh dice.

Left out: what a request meets (`app`).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from allocsync.model.cloud import Cloud
from allocsync.reference_server.fault_config import phases_of
from allocsync.reference_server.faults import Dice, Hit, Phase, Writer
from allocsync.reference_server.request_log import RequestLog
from allocsync.reference_server.store import Store


class Phases:
    """The knobs in force and what has fired.

    Raises:
        FaultsError: a knob is wrong.
    """

    def __init__(self, given: object, *, store: Store, log: RequestLog, group: asyncio.TaskGroup) -> None:
        self.fired: Counter[str] = Counter()
        self._store = store
        self._log = log
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        self._timeline: asyncio.Task[None] | None = None
        self._index = 0
        self._old: tuple[float, list[Cloud]] | None = None
        self._phases = phases_of({} if given is None else given)
        self._dice = Dice(self._phases[0], self.fired)

    def begin(self) -> None:
        """Let the first phase begin."""
        self._enter(0)

    def end(self) -> None:
        """Stop whatever goes on by itself."""
        for task in (*self._tasks, self._timeline):
            if task is not None:
                task.cancel()

    def replace(self, given: object) -> None:
        """Put these knobs in force in place of all others.

        Raises:
            FaultsError: they are wrong; nothing changes.
        """
        phases = phases_of(given)
        self.end()
        self._phases = phases
        self._enter(0)

    def shown(self) -> Mapping[str, object]:
        """The knobs as they were given, which phase it is, and what has fired."""
        bodies = [phase.body for phase in self._phases]
        if len(bodies) == 1:
            return {**bodies[0], "fired": self.fired}
        return {"timeline": bodies, "phase": self._index, "fired": self.fired}

    def throw(self, operation: str) -> Hit:
        """Throw the dice for one request."""
        return self._dice.throw(operation)

    def listed(self, clouds: list[Cloud]) -> list[Cloud]:
        """What a list shows of these clouds: some left out, or all as they were."""
        now = asyncio.get_running_loop().time()
        stale = self._dice.phase.knobs["list"].stale_seconds
        if not stale or self._old is None or now - self._old[0] >= stale:
            self._old = (now, clouds)
        elif self._old[1] != clouds:
            self.fired["list.stale_seconds"] += 1
        return [cloud for cloud in self._old[1] if not self._dice.omitted()]

    def _enter(self, index: int) -> None:
        self._index = index
        phase = self._phases[index]
        self._dice = Dice(phase, self.fired)
        self._tasks = []
        if phase.writer is not None:
            self._tasks.append(self._group.create_task(self._write(phase.writer)))
        if phase.ticks_per_second:
            self._tasks.append(self._group.create_task(self._tick(phase)))
        self._timeline = None
        if phase.seconds is not None and index + 1 < len(self._phases):
            self._timeline = self._group.create_task(self._turn(phase.seconds, index + 1))

    async def _turn(self, seconds: float, index: int) -> None:
        await asyncio.sleep(seconds)
        for task in self._tasks:
            task.cancel()
        self._enter(index)

    async def _write(self, writer: Writer) -> None:
        dice = self._dice
        while True:
            await asyncio.sleep(dice.seconds_to_next("writer", writer.per_second))
            found = self._victim(writer, dice)
            if found is not None:
                self.fired["writer.write"] += 1
                self.set_leaf(*found)

    async def _tick(self, phase: Phase) -> None:
        dice = self._dice
        while True:
            await asyncio.sleep(dice.seconds_to_next("ticks", phase.ticks_per_second))
            keys = list(self._store.clouds)
            if keys:
                self.fired["ticks"] += 1
                self._store.tick(keys[dice.choose("ticks", len(keys))])

    def set_leaf(self, key: str, path: str, value: str | None) -> None:
        """Another client changes one leaf, or (None) takes it away.

        Raises:
            KeyError: there is no such cloud.
        """
        changed = self._store.set_leaf(key, path, value)
        if changed:
            self._log.other("writer", id=key, applied_at=self._log.now(), changed=changed)

    def _victim(self, writer: Writer, dice: Dice) -> tuple[str, str, str | None] | None:
        """A cloud that the writer can change, and how: a url without a status would be no AllocationCloud."""
        keys = list(self._store.clouds)
        first = dice.choose("writer", len(keys)) if keys else 0
        for key in (*keys[first:], *keys[:first]):
            value = self._store.first(key, writer.field) if writer.value is None else writer.value
            now = self._store.leaf(key, writer.field)
            if now is not None and value is not None and (writer.value is not None or now != value):
                return key, writer.field, value
        return None
