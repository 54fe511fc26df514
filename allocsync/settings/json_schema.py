"""The JSON Schema of the settings file, for editors and CI.

The rule: it accepts every file that the settings accept, as a YAML 1.2 reader parses it (`off` is a text); a
number may also be in quotes. Limits, choices and defaults come from `settings.model`. Secrets are accepted
but marked as deprecated, because each belongs in a file of its own.

Left out: what a pattern cannot check of a URL or an address, and whether a path exists.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeAlias, get_args, get_origin

from pydantic.fields import FieldInfo

from allocsync.settings.model import Settings, is_secret
from allocsync.settings.sources import flag_name, variable_name
from allocsync.settings.validators import Expects

Schema: TypeAlias = "bool | int | float | str | Sequence[Schema] | Mapping[str, Schema]"

DIALECT = "http://json-schema.org/draft-07/schema#"
_TEXT: Mapping[str, Schema] = {"type": ["string", "number", "boolean"]}
_NUMBER_IN_QUOTES = r"^\s*[0-9+.eE_-]+\s*$"
_PATTERNS = {
    "api_url": r"^(auto|[hH][tT][tT][pP][sS]?://[^ ?#]+)$",
    "listen": r"^.+:[0-9]+$",
}


def settings_schema() -> dict[str, Schema]:
    """The schema of the settings file."""
    return {
        "$schema": DIALECT,
        "title": "allocsync settings",
        "description": "The order of precedence: flags, environment, secret files, this file.",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _setting_schema(name, field) for name, field in Settings.model_fields.items()},
    }


def _setting_schema(name: str, field: FieldInfo) -> Schema:
    expects = next(note for note in field.metadata if isinstance(note, Expects))
    description = f"{field.description} Also {variable_name(name)}"
    description += "." if is_secret(name) else f" and {flag_name(name)}."
    schema: dict[str, Schema] = {
        "description": f"{description} It is {expects.what}.",
        **_type_schema(name, field),
    }
    if is_secret(name):
        where = f"/run/secrets/allocsync_{name}"
        schema["deprecationMessage"] = f"Use a file of its own: {where}, or a systemd credential."
    elif field.default is not None:
        schema["default"] = str(field.default) if isinstance(field.default, Path) else field.default
    return schema


def _type_schema(name: str, field: FieldInfo) -> Mapping[str, Schema]:
    kinds = get_args(field.annotation) or (field.annotation,)
    if get_origin(field.annotation) is Literal:
        return {"enum": [str(kind) for kind in kinds]}
    if isinstance(kinds[0], type) and issubclass(kinds[0], StrEnum):
        return {"enum": [each.value for each in kinds[0]]}
    if kinds[0] in (int, float):
        number = "integer" if kinds[0] is int else "number"
        return {"type": [number, "string"], **_bounds(field), "pattern": _NUMBER_IN_QUOTES}
    if is_secret(name):
        return {**_TEXT, "pattern": "^[!-~]+$"}
    return {"type": "string", "pattern": _PATTERNS[name]} if name in _PATTERNS else _TEXT


def _bounds(field: FieldInfo) -> dict[str, Schema]:
    words = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum"}
    return {
        word: getattr(note, bound)
        for note in field.metadata
        for bound, word in words.items()
        if hasattr(note, bound)
    }
