"""A stand-in for the daemon behind the HTTP commands: it records what it is told to do."""

import asyncio
from dataclasses import dataclass, field

from allocsync.errors import JournalUnavailable, NotAwaitingApprovalError
from allocsync.model.ids import AllocationId, NotFound
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.pause_control import Begun, Lifted
from allocsync.web.control import Control

TOKEN = "t" * 43
RELOADED_AT = WallTime(1_764_547_200.0)


@dataclass
class RecordingDaemon:
    """Accepts `token`, and has one revision to approve, `held`; `done` records the commands in order."""

    token: str = TOKEN
    held: str = "7f3a91c2"
    done: list[str] = field(default_factory=list)
    pauses: dict[str | None, Pause] = field(default_factory=dict)
    flushed: list[str] = field(default_factory=list)  # the commands that were stored, or could not be
    disk: str = ""  # why nothing can be stored; "hangs" if the disk does not answer

    def control(self) -> Control:
        return Control(
            token=lambda: self.token,
            sync=self._sync,
            reload=self._reload,
            approve=self._approve,
            retry=self._retry,
            pauses=self,
            flush=self._flush,
            flush_seconds=0.2,
        )

    async def _flush(self) -> None:
        self.flushed = list(self.done)
        if self.disk == "hangs":
            await asyncio.Event().wait()
        elif self.disk:
            raise JournalUnavailable(self.disk)

    def _sync(self) -> int:
        self.done.append("sync")
        return 3

    def _reload(self) -> WallTime:
        self.done.append("reload")
        return RELOADED_AT

    def _approve(self, revision: str, owner: str) -> int:
        if revision != self.held:
            raise NotAwaitingApprovalError("no revision awaits approval: there is nothing to approve")
        self.done.append(f"approve {revision} by {owner}")
        return 7

    def _retry(self, name: str | None, owner: str) -> int | NotFound:
        if name == "nobody":
            return NotFound("nobody: no such allocation is declared", (AllocationId("nobody-1"),))
        self.done.append(f"retry {name} {owner}")
        return 3 if name is None else 1

    def begin(self, name: str | None, *, seconds: float, reason: str, owner: str) -> Begun | NotFound:
        if name == "nobody":
            return NotFound("nobody: no such allocation is declared", (AllocationId("nobody-1"),))
        self.done.append(f"pause {name} {seconds:g} {reason} {owner}")
        self.pauses[name] = Pause(
            until=Monotonic(seconds), ends_at=WallTime(seconds), ends="later", reason=reason, owner=owner
        )
        return Begun(None if name is None else AllocationId(name), self.pauses[name])

    def lift(self, name: str | None, *, by: str) -> Lifted | NotFound:
        if name == "nobody":
            return NotFound("nobody: no such allocation is declared", ())
        self.done.append(f"resume {name} {by}")
        was_paused = self.pauses.pop(name, None) is not None
        others = sum(each is not None for each in self.pauses)
        everything = self.pauses.get(None) if name is not None else None
        key = None if name is None else AllocationId(name)
        return Lifted(key=key, was_paused=was_paused, others=others, everything=everything)
