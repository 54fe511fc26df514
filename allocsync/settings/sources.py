"""Reads settings from the environment, from secret files and from a YAML file.

Each `from_` function returns the values as text, each with the place it comes from, for error messages. What
cannot be read becomes a line in `problems`; they raise nothing.

The rules: scalars of the YAML file are kept as they are written (`off` is not a boolean, `1:30` not a
number); a file longer than _MAX_FILE_BYTES is an error; in messages, values are escaped and shortened.

Left out: what a valid value is (`settings.model`, `settings.validators`).
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from allocsync.model.escaping import escape, shorten

PREFIX = "ALLOCSYNC_"
_EXCERPT_LENGTH = 120
_MAX_FILE_BYTES = 1_000_000
_SIMILARITY = 0.8  # for difflib: ALLOCSYNC_RESYNC_SECS is a misspelt setting, ALLOCSYNC_OWNER is not
# Variables that Kubernetes sets for a Service whose name begins with allocsync.
_KUBERNETES_SERVICE_VARIABLE = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?)$"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and its place in words for error messages."""

    value: object
    origin: str


def variable_name(name: str) -> str:
    """The name of the environment variable of a setting."""
    return PREFIX + name.upper()


def flag_name(name: str) -> str:
    """The command line flag of a setting."""
    return "--" + name.replace("_", "-")


def from_environment(names: Collection[str], environ: Mapping[str, str]) -> dict[str, Given]:
    """Read ALLOCSYNC_<NAME> for each setting; an empty variable counts as not set."""
    return {
        name: Given(environ[variable], "from the environment")
        for name in names
        if environ.get(variable := variable_name(name))
    }


def misspelt_variables(names: Collection[str], environ: Mapping[str, str]) -> list[str]:
    """Return one error line for each ALLOCSYNC_* variable that is no setting but resembles one.

    Variables that do not, empty ones and those of Kubernetes are ignored.
    """
    problems = []
    for variable in sorted(environ):
        asked = variable.removeprefix(PREFIX).lower()
        if (
            not variable.startswith(PREFIX)
            or not environ[variable]
            or _KUBERNETES_SERVICE_VARIABLE.search(variable)
        ):
            continue
        if variable in map(variable_name, names):
            continue
        close = difflib.get_close_matches(asked, names, n=1, cutoff=_SIMILARITY)
        if close:
            problems.append(
                f"{excerpt(variable)} is not a setting (from the environment). "
                f"Did you mean {variable_name(close[0])}?"
            )
    return problems


def from_secret_files(
    names: Collection[str], directories: Sequence[Path], problems: list[str]
) -> dict[str, Given]:
    """Read `allocsync_<name>` for each setting from the first directory that has it.

    White space around the text is removed. Unlike an empty variable, an empty file counts as a value.
    """
    found: dict[str, Given] = {}
    for name in names:
        for directory in directories:
            file = directory / (PREFIX + name).lower()
            try:
                if name not in found and file.exists():
                    found[name] = Given(_read_text(file).strip(), f"from {excerpt(file)}")
            except (OSError, ValueError) as error:
                problems.append(f"{variable_name(name)}: cannot read {excerpt(file)}: {_reason(error)}")
                break
    return found


def from_yaml(names: Collection[str], file: Path, problems: list[str]) -> dict[str, Given]:
    """Read `name: scalar` lines; mistakes are added to `problems`."""
    try:
        root = yaml.compose(_read_text(file), Loader=yaml.SafeLoader)
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        problems.append(f"the settings file {excerpt(file)} cannot be read: {_reason(error)}")
        return {}
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        problems.append(f"{excerpt(file)}:{line}: the settings file is not a mapping. Try `mode: observe`.")
        return {}
    found: dict[str, Given] = {}
    for key, value in root.value:
        where = f"{excerpt(file)}:{key.start_mark.line + 1}"
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in names:
            problems.append(f"{where}: {excerpt(name)!r} is not a setting.{_suggestion(name, names)}")
        elif name in found:
            problems.append(f"{where}: {name} is set twice (also {found[name].origin}). Remove one.")
        elif not isinstance(value, yaml.ScalarNode) or value.tag.endswith(":null"):
            problems.append(
                f"{where}: {name} needs a single value. Give one, or remove it to use the default."
            )
        else:
            found[name] = Given(value.value, f"from {where}")
    return found


def _read_text(file: Path) -> str:
    with file.open("rb") as stream:
        data = stream.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"longer than {_MAX_FILE_BYTES} bytes")
    return data.decode()


def _reason(error: Exception) -> str:
    """Why a file cannot be read, on one line and without any of its content."""
    if isinstance(error, OSError):
        return (error.strerror or "unreadable").lower()
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        # Text in quotes is from the file and may be a secret that begins with `*` or `!`.
        problem = re.sub("'.*'", "…", excerpt(error.problem or "not YAML"))
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return "it is not YAML" if isinstance(error, yaml.YAMLError) else str(error)


def _suggestion(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
    return f" Did you mean {close[0]}?" if close else f" The settings are {', '.join(names)}."


def excerpt(value: object) -> str:
    """A value for a message: escaped, and cut after _EXCERPT_LENGTH characters."""
    return shorten(escape(str(value)), _EXCERPT_LENGTH)
