"""Where settings come from besides flags: the environment, secret files, a YAML file.

Each reader answers with what it found as text, and where, so that a later error can say where a wrong value
stands. Whatever cannot be read becomes a line in `problems`; nothing here raises.

The rules: scalars of the YAML file are taken as they are written (`off` is no boolean, `1:30` no number);
a file is read up to a bound; a value is shown on one line that a terminal survives.

Left out: what a value must be (`settings`).
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

PREFIX = "ALLOCSYNC_"
_SHOWN_LENGTH = 120
_BIGGEST_FILE_BYTES = 1_000_000
_NEARLY = 0.8  # of the letters: ALLOCSYNC_RESYNC_SECS is a slip, ALLOCSYNC_OWNER is somebody's own
# What Kubernetes sets for a Service whose name begins with allocsync.
_OF_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?)$")


@dataclass(frozen=True, slots=True)
class Given:
    """One value as it was given, and where, as it is said in an error."""

    value: object
    origin: str


def variable_name(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def flag_name(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def from_environment(names: Collection[str], environ: Mapping[str, str]) -> dict[str, Given]:
    """Read ALLOCSYNC_<NAME> of each setting; an empty one counts as not set."""
    return {
        name: Given(environ[variable], "from the environment")
        for name in names
        if environ.get(variable := variable_name(name))
    }


def misspelt_variables(names: Collection[str], environ: Mapping[str, str]) -> list[str]:
    """Say which ALLOCSYNC_* are nearly a setting; others are let be, and so is what Kubernetes makes."""
    problems = []
    for variable in sorted(environ):
        asked = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or not environ[variable] or _OF_A_SERVICE.search(variable):
            continue
        if variable in map(variable_name, names):
            continue
        close = difflib.get_close_matches(asked, names, n=1, cutoff=_NEARLY)
        if close:
            problems.append(
                f"{shown(variable)} is not a setting (from the environment). "
                f"Did you mean {variable_name(close[0])}?"
            )
    return problems


def from_secret_files(
    names: Collection[str], directories: Sequence[Path], problems: list[str]
) -> dict[str, Given]:
    """Read `allocsync_<name>` of each setting from the first directory that has it."""
    found: dict[str, Given] = {}
    for name in names:
        for directory in directories:
            file = directory / (PREFIX + name).lower()
            try:
                if name not in found and file.exists():
                    found[name] = Given(_read_text(file).strip(), f"from {shown(file)}")
            except (OSError, ValueError) as error:
                problems.append(f"{variable_name(name)}: cannot read {shown(file)}: {_why(error)}")
                break
    return found


def from_yaml(names: Collection[str], file: Path, problems: list[str]) -> dict[str, Given]:
    """Read `name: scalar` lines; whatever is wrong is added to `problems`."""
    try:
        root = yaml.compose(_read_text(file), Loader=yaml.SafeLoader)
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        problems.append(f"the settings file {shown(file)} cannot be read: {_why(error)}")
        return {}
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        problems.append(f"{shown(file)}:{line}: the settings file is not a mapping. Try `mode: observe`.")
        return {}
    found: dict[str, Given] = {}
    for key, value in root.value:
        where = f"{shown(file)}:{key.start_mark.line + 1}"
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in names:
            problems.append(f"{where}: {shown(name)!r} is not a setting.{_suggestion(name, names)}")
        elif name in found:
            problems.append(f"{where}: {name} is set twice ({found[name].origin}, too). Remove one.")
        elif not isinstance(value, yaml.ScalarNode) or value.tag.endswith(":null"):
            problems.append(
                f"{where}: {name} has no single value. Give one, or leave it out for the default."
            )
        else:
            found[name] = Given(value.value, f"from {where}")
    return found


def _read_text(file: Path) -> str:
    with file.open("rb") as stream:
        data = stream.read(_BIGGEST_FILE_BYTES + 1)
    if len(data) > _BIGGEST_FILE_BYTES:
        raise ValueError(f"longer than {_BIGGEST_FILE_BYTES} bytes")
    return data.decode()


def _why(error: Exception) -> str:
    """Say why a file cannot be read, on one line and without its content."""
    if isinstance(error, OSError):
        return (error.strerror or "unreadable").lower()
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        # What stands in quotes is text of the file: a secret may begin with `*` or `!`.
        problem = re.sub("'.*'", "…", shown(error.problem or "not YAML"))
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return "it is not YAML" if isinstance(error, yaml.YAMLError) else str(error)


def _suggestion(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
    return f" Did you mean {close[0]}?" if close else f" The settings are {', '.join(names)}."


def shown(value: object) -> str:
    """Show a value on one line that a terminal survives."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"
