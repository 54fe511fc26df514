"""The priority of a line for the systemd journal."""

import io
import os
from pathlib import Path

from allocsync.journald import leads_to_journal, with_priority


def test_only_the_stream_that_journal_stream_names_leads_to_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        assert leads_to_journal(stream, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not leads_to_journal(stream, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not leads_to_journal(stream, {})


def test_a_stream_without_a_descriptor_does_not_lead_to_the_journal() -> None:
    assert not leads_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:1"})


def test_each_line_of_a_text_has_the_priority_of_its_level() -> None:
    assert with_priority("warning", "a\nb") == "<4>a\n<4>b"
    assert with_priority("unknown", "a") == "<6>a"
