"""One pause: until when updates are paused, why and by whom. Pure.

Left out: setting and lifting a pause, and when one is over and removed (`pause_control`), and what it
prevents (`write_gate`).
"""

from dataclasses import dataclass

from allocsync.model.times import Monotonic, WallTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """No update is sent before `until`.

    Attributes:
        until: the end, in monotonic seconds.
        ends_at: the same moment, in wall-clock seconds since the epoch.
        ends: the same moment as text (UTC), for people.
        reason: why updates are paused.
        owner: who paused them.
    """

    until: Monotonic
    ends_at: WallTime
    ends: str
    reason: str
    owner: str

    def __str__(self) -> str:
        """When it ends, who set it, and why."""
        return f"paused until {self.ends} by {self.owner}: {self.reason}"
