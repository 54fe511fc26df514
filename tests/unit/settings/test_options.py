"""Settings as flags of commands."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from allocsync.cli.options import Flags, setting_options, settings_from
from allocsync.errors import SettingsError


@click.group()
@click.option("--config", "config_file")
@click.pass_context
def root(context: click.Context, config_file: str | None) -> None:
    context.obj = config_file


@root.command()
@setting_options("api_url", "desired", "resync_seconds")
@click.option("--other", default="x")
@click.pass_context
def show(context: click.Context, flags: Flags, other: str) -> None:
    """Print the flags given and the resulting settings."""
    settings = settings_from(context, flags)
    click.echo(f"{sorted(flags.items())} {other} {settings.api_url} {settings.desired} {settings.mode.value}")


def test_a_command_gets_only_the_flags_that_were_given(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("mode: observe\napi_url: http://file\n")

    result = CliRunner().invoke(
        root,
        ["--config", str(config), "show", "--api-url", "http://flag"],
        env={"ALLOCSYNC_DESIRED": "/from/env"},
    )

    assert result.output == "[('api_url', 'http://flag')] x http://flag /from/env observe\n"


def test_a_wrong_flag_is_reported_as_a_settings_error() -> None:
    result = CliRunner().invoke(root, ["show", "--resync-seconds", "1min"])

    assert isinstance(result.exception, SettingsError)
    assert "(from the flag --resync-seconds). Try 60." in str(result.exception)


def test_the_help_describes_each_flag_with_its_variable_and_default() -> None:
    text = " ".join(CliRunner().invoke(root, ["show", "--help"]).output.split())

    assert "--api-url URL Base URL of the Allocation API; auto finds one on this machine." in text
    assert "[ALLOCSYNC_API_URL; default http://localhost:1000]" in text
    assert text.index("--api-url") < text.index("--desired") < text.index("--other")


@pytest.mark.parametrize("name", ["api_token", "application_id", "nonsense"])
def test_a_secret_is_never_a_flag(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be a flag"):
        setting_options(name)
