"""allocsync on an event loop whose clock a test can advance: each SIGUSR1 adds half an hour.

If the variable ADVANCED_SECONDS_FILE names a file, each SIGUSR1 sets the clock forward by the seconds that
the file says instead, counted from the start of the process. So several daemons can have the same time.

Timers that are due by then fire at once. Nothing else differs, and allocsync does not notice. Tests start
this module in place of `python -m allocsync`.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from allocsync.cli.root import main

HALF_AN_HOUR_SECONDS = 1800.0
FILE_VARIABLE = "ADVANCED_SECONDS_FILE"
PROGRAM = (sys.executable, "-m", "tests.support.fast_clock_daemon")


class FastClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is that of the machine plus `added_seconds`."""

    added_seconds = 0.0

    def time(self) -> float:
        """Return monotonic seconds."""
        return super().time() + self.added_seconds


class FastClockPolicy(asyncio.DefaultEventLoopPolicy):
    """A policy that creates these event loops."""

    def new_event_loop(self) -> FastClockLoop:
        """Create an event loop whose clock SIGUSR1 advances."""
        loop = FastClockLoop()
        file = os.environ.get(FILE_VARIABLE)

        def advance(*_: object) -> None:
            if file is None:
                loop.added_seconds += HALF_AN_HOUR_SECONDS
            else:
                loop.added_seconds = float(Path(file).read_text())

        signal.signal(signal.SIGUSR1, advance)
        return loop


if __name__ == "__main__":
    asyncio.set_event_loop_policy(FastClockPolicy())
    main()
