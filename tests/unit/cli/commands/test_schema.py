"""`allocsync schema` prints the schemas in `config/`, and the sample files name them."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from allocsync.cli.root import allocsync

CONFIG = Path(__file__).parents[4] / "config"


@pytest.mark.parametrize(("what", "sample"), [("desired", "allocations"), ("settings", "allocsync")])
def test_the_schema_in_config_is_current_and_its_sample_names_it(what: str, sample: str) -> None:
    file = CONFIG / f"{sample}.schema.json"
    result = CliRunner().invoke(allocsync, ["schema", what])

    assert result.exit_code == 0
    assert result.stdout == file.read_text(), f"stale: allocsync schema {what} > config/{file.name}"
    first = (CONFIG / f"{sample}.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={file.name}"


def test_an_unknown_schema_is_a_usage_error() -> None:
    result = CliRunner().invoke(allocsync, ["schema", "desire"])

    assert result.exit_code == 2
    assert "'desired', 'settings'" in result.output
