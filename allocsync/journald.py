"""The priority of a line for the systemd journal, which reads it from `<4>` before the line and removes it.

The rule: a line has a priority only if its stream leads directly to the journal, as JOURNAL_STREAM says.

Left out: what is written (`telemetry.log_setup`, `cli.root`).
"""

import os
from collections.abc import Mapping
from typing import TextIO

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog's


def leads_to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether the stream is the systemd journal, whose device and inode JOURNAL_STREAM names."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def with_priority(level: str, text: str) -> str:
    """Begin each line of the text with the priority of this level; that of info for an unknown one."""
    prefix = f"<{PRIORITIES.get(level, PRIORITIES['info'])}>"
    return "\n".join(prefix + line for line in text.split("\n"))
