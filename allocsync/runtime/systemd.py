"""Messages to systemd: one datagram for each, to the socket that NOTIFY_SOCKET names.

The rule: a failure here never stops the daemon. Without NOTIFY_SOCKET every method does nothing and returns
True. If the socket is gone or full, a method returns False after at most half a second.

Left out: when the daemon is ready or alive (`web.health`), and when messages are sent (`runtime.daemon`).
"""

import os
import socket
from collections.abc import Mapping

_SEND_SECONDS = 0.5
_FEEDS_PER_WATCHDOG = 4  # WatchdogSec=60 is fed every 15 s, so three in a row may be lost
_MICROSECONDS = 1_000_000


class Notifier:
    """Sends the notifications of sd_notify(3). Each method returns False only if its message was lost."""

    def __init__(self, environ: Mapping[str, str], *, pid: int | None = None) -> None:
        """`environ` is the environment of the process; `pid` is this process unless given."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_seconds = _watchdog_seconds(environ, os.getpid() if pid is None else pid)

    @property
    def enabled(self) -> bool:
        """Whether systemd expects notifications."""
        return bool(self._address)

    @property
    def watchdog_interval_seconds(self) -> float | None:
        """How often `watchdog` should be called; None if systemd does not watch this process."""
        return self._watchdog_seconds

    def ready(self, status: str = "") -> bool:
        """Report that the start, or a reload, is complete."""
        return self._send("READY=1", status=status)

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send(status=text)

    def reloading(self, monotonic_usec: int) -> bool:
        """Report that a reload begins, at this CLOCK_MONOTONIC time in microseconds; `ready` ends it.

        The time is in the same datagram: without it, `systemctl reload` would wait forever.
        """
        return self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_usec}")

    def stopping(self, status: str = "", *, within_seconds: float) -> bool:
        """Report that the shutdown has begun and may take this long, whatever TimeoutStopSec= says."""
        extend = f"EXTEND_TIMEOUT_USEC={within_seconds * _MICROSECONDS:.0f}"
        return self._send("STOPPING=1", extend, status=status)

    def watchdog(self) -> bool:
        """Report that the controller makes progress."""
        return self._send("WATCHDOG=1")

    def _send(self, *assignments: str, status: str = "") -> bool:
        """Send one datagram; False if it was lost."""
        if not self._address:
            return True
        # A line break in the status would begin another assignment.
        lines = [*assignments, f"STATUS={' '.join(status.split())}"] if status else assignments
        # A leading @ stands for the NUL of Linux's abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_SECONDS)
                sender.sendto("\n".join(lines).encode(errors="replace"), address)
        except (OSError, ValueError):
            return False
        return True


def _watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    usec = environ.get("WATCHDOG_USEC", "")
    watched = environ.get("WATCHDOG_PID") or str(pid)
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0 or watched != str(pid):
        return None
    return int(usec) / _MICROSECONDS / _FEEDS_PER_WATCHDOG
