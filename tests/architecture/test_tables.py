"""The generated tables of the documents are up to date, and each is in exactly one place."""

from pathlib import Path

import pytest

from tests.architecture import tables

CLI = Path("allocsync/cli/README.md")


@pytest.fixture(name="texts", scope="module")
def _texts() -> tables.Texts:
    return tables.read_documents()


def test_the_tables_of_all_documents_are_up_to_date(texts: tables.Texts) -> None:
    outdated = [path.as_posix() for path, text in tables.with_tables(texts).items() if text != texts[path]]
    assert not outdated, f"out of date: {', '.join(outdated)}; make tables"


def test_an_outdated_table_is_regenerated(texts: tables.Texts) -> None:
    stale = texts[CLI].replace("| 78 |", "| 79 |")
    assert stale != texts[CLI]
    assert tables.with_tables({**texts, CLI: stale}) == texts


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_a_missing_place_for_a_table_is_an_error(texts: tables.Texts, name: str) -> None:
    marker = f"<!-- table: {name} -->"
    without = {path: text.replace(marker, "") for path, text in texts.items()}
    with pytest.raises(ValueError, match=f"the table {name} must be in one place; .* no document"):
        tables.with_tables(without)


def test_a_table_in_two_places_is_an_error(texts: tables.Texts) -> None:
    twice = texts[CLI] + "\n<!-- table: faults -->\n<!-- end -->\n"
    with pytest.raises(ValueError, match=r"the table faults must be in one place; it is in .*, "):
        tables.with_tables({**texts, CLI: twice})


def test_a_marker_that_names_no_table_is_an_error(texts: tables.Texts) -> None:
    unknown = texts[CLI] + "\n<!-- table: weather -->\n<!-- end -->\n"
    with pytest.raises(ValueError, match="no table is named weather"):
        tables.with_tables({**texts, CLI: unknown})


def test_a_table_without_an_end_is_an_error(texts: tables.Texts) -> None:
    open_end = texts[CLI].replace("<!-- end -->", "", 1)
    with pytest.raises(ValueError, match="a table has no <!-- end -->"):
        tables.with_tables({**texts, CLI: open_end})
