"""Whether the daemon is alive, started and ready. Pure: the input is the status and the elapsed seconds.

The rules: *live* says only whether the controller makes progress, because a supervisor kills a process that
is not live; an outage of the API is not a stall. *Started* becomes true once the API has answered or failed,
once it is known that nothing is declared, or after ten seconds. systemd waits for it before it starts
dependent units, and ends a daemon that does not start in time. *Ready*, for people and load balancers, also
needs a desired state that has loaded (its revision may still await approval) and a journal that can be
written, and ends when the daemon stops.

Left out: how progress is measured (`reconcile.controller`), and who asks (`web.server`, `runtime.systemd`).
"""

from dataclasses import dataclass

from allocsync.reconcile.status.controller_status import ControllerStatus

START_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class HealthResult:
    """The result of one check, and the reason for it, for people."""

    ok: bool
    reason: str


def check_live(status: ControllerStatus) -> HealthResult:
    """Check that the controller makes progress."""
    if status.stalled is not None:
        return HealthResult(ok=False, reason=f"stalled: {status.stalled}")
    return HealthResult(ok=True, reason="the controller makes progress")


def check_started(
    status: ControllerStatus, *, up_seconds: float, files_rejected: bool = False
) -> HealthResult:
    """Check that the start is over: the API has answered or failed once, or START_GRACE_SECONDS have passed.

    It is over at once if nothing is declared, as when the files are missing (`files_rejected`): then the API
    is not asked. `up_seconds` is the time since the daemon started, in monotonic seconds. A daemon with wrong
    settings ends before its listener is bound, so this check never calls it started.
    """
    if files_rejected if status.revision is None else not any(status.conditions.values()):
        return HealthResult(ok=True, reason="nothing is declared, so the API is not asked")
    if status.first_answer_seen:
        return HealthResult(ok=True, reason="the API has answered or failed")
    if up_seconds >= START_GRACE_SECONDS:
        return HealthResult(ok=True, reason=f"up for {START_GRACE_SECONDS:g} s, without an answer of the API")
    return HealthResult(ok=False, reason="starting: waiting for the first answer or failure of the API")


def check_ready(
    status: ControllerStatus, *, up_seconds: float, journal_problem: str | None = None
) -> HealthResult:
    """Check that the daemon does its work: started, not stopping, files loaded, journal writable.

    `journal_problem` says why the journal cannot be written, or is None.
    """
    if status.stopping:
        return HealthResult(ok=False, reason="stopping")
    if status.revision is None:
        return HealthResult(ok=False, reason="no desired state has loaded yet; see `allocsync validate`")
    if journal_problem is not None:
        return HealthResult(
            ok=False,
            reason=f"the journal cannot be written: {journal_problem}; no updates are sent meanwhile",
        )
    start = check_started(status, up_seconds=up_seconds)
    return HealthResult(ok=True, reason="ready") if start.ok else start
