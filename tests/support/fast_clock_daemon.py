"""allocsync as it is, on an event loop whose clock can be moved on: at each SIGUSR1 half an hour has passed.

What waits for a time that has come by then is due at once; nothing else is different, and allocsync does not
know of it. Not a test: tests start it in place of `python -m allocsync`.
"""

import asyncio
import signal
import sys

from allocsync.cli.root import main

HALF_AN_HOUR_SECONDS = 1800.0
PROGRAM = (sys.executable, "-m", "tests.support.fast_clock_daemon")


class Loop(asyncio.SelectorEventLoop):
    """Its clock is that of the machine, and what was added to it."""

    added_seconds = 0.0

    def time(self) -> float:
        """Seconds."""
        return super().time() + self.added_seconds


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes such loops."""

    def new_event_loop(self) -> Loop:
        """One more, which the signal moves on."""
        loop = Loop()

        def pass_time(*_: object) -> None:
            loop.added_seconds += HALF_AN_HOUR_SECONDS

        signal.signal(signal.SIGUSR1, pass_time)
        return loop


if __name__ == "__main__":
    asyncio.set_event_loop_policy(Policy())
    main()
