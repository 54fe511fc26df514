"""The judge of the journal's file."""

from contextlib import closing
from pathlib import Path

import pytest

from allocsync.journal.database import NAME
from tests.simulation.engine.history import History
from tests.simulation.engine.process import rows_of
from tests.simulation.oracles.change_limit import Rail
from tests.simulation.oracles.history_evidence import Ended
from tests.simulation.oracles.journal import Audit
from tests.unit.journal.test_damage import SCHEMA, damage, write_journal


@pytest.mark.parametrize("over", [True, False])
def test_a_file_that_cannot_be_read_is_a_breach_and_ends_no_judge(tmp_path: Path, *, over: bool) -> None:
    write_journal(tmp_path)
    damage(tmp_path, *SCHEMA)
    broken = list[tuple[str, str]]()
    audit = Audit(History({}, Rail(100.0)), Ended(), lambda promise, what: broken.append((promise, what)))
    with closing(rows_of(tmp_path / NAME)) as journal:
        if over:
            audit.over(journal, settled=lambda _: True)
        else:
            audit.started(journal, gap_at=None)
    ((promise, what),) = broken
    assert promise == "P7"
    assert "malformed" in what
