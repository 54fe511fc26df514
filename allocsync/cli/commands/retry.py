"""`allocsync retry ID…|--all`: has the daemon try again now what waits after a failure.

The rule: every name is looked up before the first command is sent, so that a wrong name changes nothing.

Left out: what the daemon forgets and what it keeps (`Controller.retry`).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import click

from allocsync.cli import daemon_client
from allocsync.cli.commands.explain import fetch_explanation
from allocsync.cli.commands.pause import parse_target
from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.cli.owner import owner_option
from allocsync.model.condition import Condition
from allocsync.model.escaping import visible
from allocsync.planning.rendering import Line, Tone, count

_PATH = "/-/retry"
_HELD_BACK = frozenset(
    {
        *(Condition.OUTCOME_UNKNOWN, Condition.AWAITING_APPROVAL, Condition.BLOCKED),
        *(Condition.SUSPENDED, Condition.DRIFTED),
    }
)


@click.command()
@click.argument("allocation_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All allocations.")
@owner_option
@click.option("--url", metavar="URL", help="Address of the daemon; default: where ALLOCSYNC_LISTEN says.")
@click.option("--json", "as_json", is_flag=True, help="Print how many allocations are retried, as JSON.")
@setting_options("listen", "state_dir")
@click.pass_context
def retry(
    context: click.Context,
    flags: Flags,
    allocation_ids: tuple[str, ...],
    everything: bool,
    owner: str,
    url: str | None,
    as_json: bool,
) -> int:
    """Try again now what waits after a failure.

    For use after the cause is mended. The daemon forgets backoffs, rejections, and fields that are Ignored
    or in Conflict. It reads at once and updates what differs. A Retry-After of the API, pauses and all other
    limits still hold. ID may be shortened to 8 or more characters with which only one id begins.
    """
    target = parse_target(next(iter(allocation_ids), None), everything=everything)
    settings = settings_from(context, flags)
    address = daemon_client.daemon_url(url, settings)
    token = daemon_client.load_token(settings)
    if everything:
        command = {**target, "owner": owner}
        retried = [asyncio.run(daemon_client.send_command(address, _PATH, command, token=token))]
        explanations: list[Mapping[str, Any]] = []
    else:
        retried, explanations = asyncio.run(_retry_each(address, allocation_ids, owner=owner, token=token))
    try:
        number = sum(int(answer["allocations"]) for answer in retried)
        lines = list(format_retries(explanations, datetime.now(UTC)))
    except (KeyError, TypeError, ValueError) as error:
        raise daemon_client.unexpected_answer(address, HTTPStatus.ACCEPTED) from error
    if everything:
        text = f"retrying {count(number, 'allocation')} now, or when a Retry-After or a pause ends"
        lines = [Line(text, Tone.GOOD)]
    # Of several answers, one says if anything is not stored.
    answer: Mapping[str, Any] = min(retried, key=daemon_client.is_stored)
    answer = {**answer, "allocations": number}
    return daemon_client.write_answer(answer, None if as_json else lines)


async def _retry_each(
    url: str, names: Sequence[str], *, owner: str, token: str
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Retry the allocations with these names; return the answers, and what the daemon says of each then."""
    try:
        keys = dict.fromkeys([str((await fetch_explanation(url, name))["id"]) for name in names])
    except KeyError as error:
        raise daemon_client.unexpected_answer(url, HTTPStatus.OK) from error
    retried = [
        await daemon_client.send_command(url, _PATH, {"id": key, "owner": owner}, token=token) for key in keys
    ]
    return retried, [await fetch_explanation(url, key) for key in keys]


def format_retries(explanations: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Line]:
    """Format one line for each allocation, from what the daemon says of it after the retry.

    Raises:
        KeyError, TypeError, ValueError: an explanation does not have the shape that the daemon gives it.
    """
    for answer in explanations:
        key, obstacles = visible(str(answer["id"])), list(_obstacles(answer, now))
        if obstacles:
            yield Line(f"retrying {key}; {visible('; '.join(obstacles))}", Tone.WAIT)
        else:
            yield Line(f"retrying {key} now", Tone.GOOD)


def _obstacles(answer: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Yield what still holds back an update, such as Retry-After or a pause."""
    if answer["no_update_before"] is not None:
        yield f"no update before {daemon_client.format_time(answer['no_update_before'], now)}"
    if (pause := answer["paused"]) is not None:
        yield f"paused by {pause['owner']}: {pause['reason']}"
    if answer["condition"] in _HELD_BACK:
        yield f"{answer['condition']}: {answer['reason']}"
