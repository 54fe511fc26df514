"""`allocsync status --wait`: waits until everything is in sync, by reads that began after it asked.

It has the daemon read the files, takes the time of that, and asks for one read of everything. So an edit that
was written just before counts, and what an earlier read showed does not.

The rules: the wait ends with success when every allocation is in sync by a read that began later, and neither
the files nor a revision wait for a person. It ends
with an error at once if only a person can help, and otherwise at its timeout. Whoever waits at the same time
shares a read (`Resync.request_sync`). Without a token that the daemon accepts nothing is asked for: the wait
then relies on the daemon's own reads, and takes up to a resync longer.

Left out: what counts as in sync, and what only a person can help (`cli.daemon_status`), and what is
printed and the exit code (`cli.commands.status`).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from allocsync.cli import daemon_client
from allocsync.cli.daemon_status import DaemonStatus, fetch_status
from allocsync.model.times import Monotonic

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How a wait ended: the last status, and whether all is in sync or a person is needed."""

    status: DaemonStatus
    in_sync: bool
    needs_person: bool


async def wait_until_in_sync(
    url: str, *, find_token: Callable[[], str | None], limit_seconds: float
) -> WaitResult:
    """Wait for at most `limit_seconds`; a daemon that is still starting is waited for too.

    `find_token` returns the daemon's token, or None if this user cannot read it; it is called again while the
    daemon starts, because only a daemon that runs has a token.

    Raises:
        NoAnswerError: no daemon answered until the limit.
        DaemonError: what answers is not this version of allocsync.
    """
    ends = _now() + limit_seconds
    wait: _Wait | None = None
    while True:
        begun = _now()
        try:
            wait = wait or await _begin(url, find_token)
            status = await fetch_status(url)
            await wait.ask_for_reads(status)
            in_sync = status.is_in_sync_since(wait.asked_at)
            needs_person = not in_sync and status.waits_for_person(wait.asked_at)
            if in_sync or needs_person or _now() >= ends:
                return WaitResult(status, in_sync, needs_person)
        except daemon_client.NoAnswerError:
            if _now() >= ends:
                raise
        # The longer the daemon takes to answer, the less often it is asked: waiting must not load it.
        pause = max(POLL_SECONDS, 5 * (_now() - begun))
        await asyncio.sleep(min(pause, max(0.0, ends - _now())))


@dataclass(slots=True)
class _Wait:
    """A wait that has begun: the files count if they were read at `asked_at` (RFC 3339) or later.

    `token` is None if no more is to be asked for.
    """

    url: str
    asked_at: str
    token: str | None

    async def ask_for_reads(self, status: DaemonStatus) -> None:
        """Have every allocation read, once, as soon as the files have been read."""
        if self.token is not None and status.files_are_read_since(self.asked_at):
            await daemon_client.send_command(self.url, "/-/sync", {}, token=self.token)
            self.token = None


async def _begin(url: str, find_token: Callable[[], str | None]) -> _Wait:
    """Have the daemon read the files again."""
    await fetch_status(url)  # a daemon that answers has created its token
    token = find_token()
    if token is not None:
        code, answer = await daemon_client.request(url, "/-/reload", command={}, token=token)
        if code == HTTPStatus.ACCEPTED:
            try:
                return _Wait(url, datetime.fromisoformat(str(answer["at"])).isoformat(), token)
            except (KeyError, ValueError) as error:
                raise daemon_client.unexpected_answer(url, code) from error
    return _Wait(url, datetime.now(UTC).isoformat(), None)


def _now() -> Monotonic:
    return Monotonic(time.monotonic())
