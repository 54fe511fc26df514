"""The judge of the journal's file."""

from contextlib import closing
from pathlib import Path

import pytest

from allocsync.journal.file import NAME
from tests.journal.test_journal_damage import SCHEMA, damage, written
from tests.simulation.audit import Audit
from tests.simulation.evidence import Ended
from tests.simulation.history import History
from tests.simulation.process import rows_of
from tests.simulation.rail import Rail


@pytest.mark.parametrize("over", [True, False])
def test_a_file_that_cannot_be_read_is_a_breach_and_ends_no_judge(tmp_path: Path, *, over: bool) -> None:
    written(tmp_path)
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
