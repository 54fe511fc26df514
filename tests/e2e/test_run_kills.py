"""The daemon is killed in a storm of 504s, and somebody else changes values; larger: `tests/soak/kills`."""

from pathlib import Path

import pytest

from tests.soak.kills import Plan, Storm

SMALL = Plan(
    allocations=150,
    kills=2,
    strikes=10,
    struck=("version",),  # its update would need the propagation window of a minute
    kept=("version",),
    updates_before_kill=(40, 80),
    late_seconds=(1.0, 8.0),
)


@pytest.mark.slow
async def test_everything_is_in_sync_after_kills_a_storm_and_the_writes_of_others(tmp_path: Path) -> None:
    figures = await Storm(SMALL, tmp_path, 5).run()
    assert not figures["violations"]
    assert min(figures["faults"].values()) > 0
    assert figures["applied_late"] > 0
    assert figures["struck"] == SMALL.kills * SMALL.strikes
    assert len(figures["open_at_kill"]) == SMALL.kills
    assert max(figures["open_at_kill"]) > 0
    assert figures["needless"][1] == figures["duplicates"][1] == 0
    assert figures["reported"] == {"InSync": SMALL.allocations}
