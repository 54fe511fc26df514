"""The tables in README.md are up to date."""

import pytest

from tests.architecture import tables


def test_the_tables_in_the_readme_are_up_to_date() -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert tables.with_tables(text) == text, "README.md is out of date: make tables"


def test_an_outdated_table_is_regenerated() -> None:
    text = tables.README.read_text(encoding="utf-8")
    stale = text.replace("| 78 |", "| 79 |")
    assert stale != text
    assert tables.with_tables(stale) == text


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_a_missing_place_for_a_table_is_an_error(name: str) -> None:
    text = tables.README.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="places for tables"):
        tables.with_tables(text.replace(f"<!-- table: {name} -->", ""))
