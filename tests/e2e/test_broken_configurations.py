"""The error messages alone are enough to correct broken configurations.

`Reader` knows only what `allocsync validate` prints: the place that a message names, the text that it says
to write,
and its suggestions. If a mistake cannot be corrected from its message, the message is not good enough.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.processes import command

DOCUMENT = "apiVersion: allocsync/v1\nallocations:\n"
CONFIGURATIONS = {
    "misspelt names": {
        "a.yaml": DOCUMENT + "  a1:\n    regoin: us-east1\n    status: {clod: RUNNING}\n"
        "    urls:\n      vanty: {url: a, status: RUNING}\n"
    },
    "an unknown version and an allocation that is declared twice": {
        "a.yaml": "apiVersion: allocsync/v2\nallocations:\n  a1: {region: x}\n  a1: {region: y}\n"
    },
    "tabs, and the mistakes that they hide": {"a.yaml": DOCUMENT + "\ta1:\n\t\tregoin: us-east1\n"},
    "invalid values": {
        "a.yaml": DOCUMENT + "  a1:\n    region:\n    mode: enforced\n    status:\n      cloud: PENDING\n"
    },
    "two files and the settings": {
        "a.yaml": DOCUMENT + "  a1: {region: x}\n",
        "b.yaml": DOCUMENT + "  a1: {region: x}\n  b1: {regionn: x}\n",
        "settings": "resync_second: 60\nbulk: of\nsettle_seconds: 1min\n",
        "ALLOCSYNC_MODE": "observed",
        "ALLOCSYNC_LISTEN": "9847",
    },
}


@dataclass
class Reader:
    """Corrects files and settings as the messages say; `corrected` are the files that it changed."""

    desired: Path
    settings: Path
    environ: dict[str, str]
    corrected: set[Path] = field(default_factory=set)

    def correct(self, message: str) -> bool:
        """Do what one message says; returns False if the message says nothing that can be done."""
        if place := re.match(r"(?P<file>/\S+?):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<advice>.*)", message):
            file, line = Path(place["file"]), int(place["line"]) - 1
            return self._edit(file, line, int(place["column"] or 1) - 1, place["advice"])
        if setting := re.search(
            r"(\w+)=.* \((from the environment|from (/\S+):(\d+))\)\. Try (\S+)\.$", message
        ):
            if setting[3] is None:
                self.environ[setting[1]] = setting[5]
            else:
                self._replace(Path(setting[3]), int(setting[4]) - 1, r": .*", f": {setting[5]}")
            return True
        return False

    def _edit(self, file: Path, line: int, column: int, advice: str) -> bool:
        if found := re.search(r"[Dd]id you mean (\S+)\?", advice):
            self._replace(file, line, r"[^\s:,{}]+", found[1], column)
        elif found := re.search(r"; write (\S+)$", advice):
            self._replace(file, line, r"\S+", found[1], column)
        elif "declared twice" in advice or "leave the key out" in advice or "cannot be declared" in advice:
            self._replace(file, line, r".*", "")
        elif "indent with spaces" in advice:
            self._replace(file, line, r"\t", "  ")
        else:
            return False
        return True

    def _replace(self, file: Path, line: int, pattern: str, text: str, column: int = 0) -> None:
        lines = file.read_text().split("\n")
        old = lines[line]
        lines[line] = old[:column] + re.sub(pattern, text, old[column:], count=0 if pattern == r"\t" else 1)
        file.write_text("\n".join(lines))
        self.corrected.add(file)


@pytest.mark.parametrize("name", CONFIGURATIONS)
async def test_a_configuration_can_be_corrected_from_its_messages_alone(tmp_path: Path, name: str) -> None:
    given = CONFIGURATIONS[name]
    desired, settings = tmp_path / "desired", tmp_path / "settings.yaml"
    desired.mkdir()
    settings.write_text(given.get("settings", ""))
    environ = {key: value for key, value in given.items() if key.isupper()}
    for file in given:
        if file.endswith(".yaml"):
            (desired / file).write_text(given[file])
    reader = Reader(desired, settings, {**environ, "ALLOCSYNC_DESIRED": str(desired)})
    for attempt in range(4):
        line = ("--config", str(settings), "validate", str(desired))
        status, text, stderr = await command(*line, environ=reader.environ)
        if status == 0:
            assert attempt > 0, "it was not broken"
            return
        messages = [row.removeprefix("allocsync: ") for row in (stderr + text).splitlines()]
        messages = [row for row in messages if "Nothing was changed" not in row]
        stuck = [row for row in reversed(messages) if not reader.correct(row)]
        assert stuck == []
        assert messages
    raise AssertionError("four readings were not enough")
