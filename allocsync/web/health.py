"""Is the daemon alive, started, ready? Pure: status and elapsed seconds in, an answer with its reason out.

Three questions, because three askers do different things with the answer. A supervisor kills what is not
*live*, so only the loop's own progress counts: an outage of the API is not a stall. systemd waits for
*started* before it starts what comes after, and gives up if that never comes, so ten seconds are enough
whatever happened. *Ready* is for people and load balancers: it also wants a desired state to work from, and a
journal that can be written.

Left out: how progress is watched (`reconcile`), and who asks (`web`, `systemd`).
"""

from dataclasses import dataclass

from allocsync.reconcile.status.controller_status import LoopStatus

START_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Yes or no, and why."""

    holds: bool
    reason: str


def live(status: LoopStatus) -> Verdict:
    """Whether the loop makes progress."""
    if status.stalled is not None:
        return Verdict(holds=False, reason=f"stalled: {status.stalled}")
    return Verdict(holds=True, reason="the loop makes progress")


def started(status: LoopStatus, *, up_seconds: float) -> Verdict:
    """Whether the start is over: the first answer or failure was seen, or ten seconds have passed.

    Asked once the listener is bound; settings that do not hold never come this far.
    """
    if status.first_answer_seen:
        return Verdict(holds=True, reason="the first pass has begun and the API was heard of")
    if up_seconds >= START_GRACE_SECONDS:
        return Verdict(holds=True, reason=f"up for {START_GRACE_SECONDS:g} s, without a first answer")
    return Verdict(holds=False, reason="starting: waiting for the first answer or failure of the API")


def ready(status: LoopStatus, *, up_seconds: float, journal_problem: str | None = None) -> Verdict:
    """Whether the daemon does its work: started, not stopping, with a desired state in force."""
    if status.stopping:
        return Verdict(holds=False, reason="stopping")
    if status.revision is None:
        return Verdict(holds=False, reason="no desired state has loaded yet; see `allocsync validate`")
    if journal_problem is not None:
        return Verdict(
            holds=False,
            reason=f"the journal cannot be written: {journal_problem}; nothing is sent without it",
        )
    start = started(status, up_seconds=up_seconds)
    return Verdict(holds=True, reason="ready") if start.holds else start
