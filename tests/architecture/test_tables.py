"""The tables of README.md are what the code says now."""

import pytest

from tests.architecture import tables


def test_the_tables_of_the_readme_are_current() -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert tables.with_tables(text) == text, "README.md is behind the code: make tables"


def test_a_stale_table_is_noticed_and_mended() -> None:
    text = tables.README.read_text(encoding="utf-8")
    stale = text.replace("| 78 |", "| 79 |")
    assert stale != text
    assert tables.with_tables(stale) == text


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_a_place_that_is_missing_is_an_error(name: str) -> None:
    text = tables.README.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="places for tables"):
        tables.with_tables(text.replace(f"<!-- table: {name} -->", ""))
