"""Where and when figures were measured, for the files that store them."""

import os
import platform
import subprocess
from datetime import UTC, datetime


def stamp() -> dict[str, object]:
    """The commit, date, Python version and number of cores."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "commit": commit,
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
