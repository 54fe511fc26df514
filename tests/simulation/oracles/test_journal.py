"""The oracle of the journal's file."""

from contextlib import closing
from pathlib import Path

import pytest

from allocsync.journal.database import NAME
from tests.simulation.engine.history import History
from tests.simulation.engine.process import rows_of
from tests.simulation.oracles.change_limit import ChangeLimitOracle
from tests.simulation.oracles.history_evidence import ProcessEnds
from tests.simulation.oracles.journal import JournalOracle
from tests.unit.journal.test_damage import SCHEMA, damage, write_journal


@pytest.mark.parametrize("over", [True, False])
def test_a_journal_that_cannot_be_read_is_reported_as_a_breach(tmp_path: Path, *, over: bool) -> None:
    write_journal(tmp_path)
    damage(tmp_path, *SCHEMA)
    broken = list[tuple[str, str]]()
    journal_oracle = JournalOracle(
        History({}, ChangeLimitOracle(100.0)),
        ProcessEnds(),
        lambda promise, what: broken.append((promise, what)),
    )
    with closing(rows_of(tmp_path / NAME)) as journal:
        if over:
            journal_oracle.run_ended(journal, settled=lambda _: True)
        else:
            journal_oracle.process_started(journal, gap_at=None)
    ((promise, what),) = broken
    assert promise == "P7"
    assert "malformed" in what
