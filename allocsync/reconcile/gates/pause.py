"""One pause: until when, why and by whom nothing is sent. Pure.

Left out: who sets and lifts pauses (`pause_control`) and what they forbid (`write_gate`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """No updates before `until`; `ends_at` is the same moment on the wall clock, `ends` for people."""

    until: float
    ends_at: float
    ends: str
    reason: str
    owner: str

    def __str__(self) -> str:
        """When it ends, whose it is and why."""
        return f"paused until {self.ends} by {self.owner}: {self.reason}"
