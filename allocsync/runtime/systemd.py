"""Talking to systemd: one datagram a message, over the socket that NOTIFY_SOCKET names.

The rule: this never fails the daemon. Without the variable every method does nothing; a socket that is gone
or full costs half a second at most and is answered by False, which is worth a log line and nothing more.

Left out: when the daemon is ready or alive (`observe.health`), and who calls the watchdog when.
"""

import os
import socket
from collections.abc import Mapping

_SEND_SECONDS = 0.5
_FEEDS_PER_WATCHDOG = 4  # WatchdogSec=60 is fed every 15 s: three may be lost
_MICROSECONDS = 1_000_000


class Notifier:
    """The service's side of sd_notify(3)."""

    def __init__(self, environ: Mapping[str, str], *, pid: int | None = None) -> None:
        """`environ` is what systemd started us with; `pid` is our own unless a test says otherwise."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_seconds = _watchdog_seconds(environ, os.getpid() if pid is None else pid)

    @property
    def enabled(self) -> bool:
        """Whether anyone wants to be told."""
        return bool(self._address)

    @property
    def watchdog_interval_seconds(self) -> float | None:
        """How often `watchdog` must be called; None where systemd does not watch this process."""
        return self._watchdog_seconds

    def ready(self, status: str = "") -> bool:
        """Say that the start, or a reload, is complete."""
        return self._send("READY=1", status=status)

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send(status=text)

    def reloading(self, monotonic_usec: int) -> bool:
        """Say that a reload begins, at this CLOCK_MONOTONIC time in microseconds; `ready` ends it.

        Both go in one datagram: without the time in the same one, `systemctl reload` waits for ever.
        """
        return self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_usec}")

    def stopping(self, status: str = "") -> bool:
        """Say that the shutdown has begun."""
        return self._send("STOPPING=1", status=status)

    def watchdog(self) -> bool:
        """Say that the loop makes progress."""
        return self._send("WATCHDOG=1")

    def _send(self, *assignments: str, status: str = "") -> bool:
        """Send one datagram; True when it left or nobody listens, False when it was lost."""
        if not self._address:
            return True
        # A line break would begin another assignment.
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
