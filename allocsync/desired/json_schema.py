"""The JSON Schema of the desired state, for editors and CI, made from the tables that the loader uses.

The rule: it accepts everything that the loader accepts. Values are read as text, so `version: 1.10`,
`project: 7` and `user: no` are valid; null, lists and mappings are not. It also accepts some mistakes that a
schema cannot see: a duplicate key, an id in two documents, defaults that declare nothing.

The dialect is draft-07, which the YAML language server supports. Patterns use only syntax that has the same
meaning in ECMA 262 and Python, and end with a lookahead because Python's `$` also matches before a final
line break.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from allocsync.desired.schema import API_VERSION, MAX_ID_LENGTH, MAX_TEXT_LENGTH, STATUS_FIELDS, fields_under
from allocsync.model.cloud import DECLARABLE, STATUSES, UNDECLARABLE_STATUSES
from allocsync.model.desired_state import Mode

Schema: TypeAlias = "bool | int | str | Sequence[Schema] | Mapping[str, Schema]"

DIALECT = "http://json-schema.org/draft-07/schema#"
# White space, control and invisible characters. `schema.id_problem` refuses each of them, and others too.
_UNSEEN = r"\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
ID_PATTERN = rf"^(?!(.*[/\\])?\.\.?([/\\]|$))[^{_UNSEEN}]+$(?!\n)"
_TEXT: Mapping[str, Schema] = {"type": ["string", "number", "boolean"]}

DESCRIPTIONS: Mapping[str, str] = {
    "user": "Id of the user that the allocation belongs to.",
    "project": "Project that the allocation runs in.",
    "region": "Region that the allocation runs in, such as us-central1.",
    "version": "Version of the server. Read as text: 1.10 is not 1.1.",
    "status": "Status of the allocation.",
    "status.cloud": "Status of the cloud as a whole; PENDING and UNKNOWN are set by the server only.",
    "urls": "Addresses of the allocation.",
    "urls.base": "Address assigned by the provider.",
    "urls.base.status": "Status of the base address.",
    "urls.base.url": "The base address.",
    "urls.id": "Address made from the id.",
    "urls.id.status": "Status of the address made from the id.",
    "urls.id.url": "The address made from the id.",
    "urls.vanity": "Address with a chosen name. A new one needs both its url and its status.",
    "urls.vanity.status": "Status of the vanity address.",
    "urls.vanity.url": "The vanity address.",
}
MODES: Mapping[Mode, str] = {
    Mode.ENFORCE: "Read the allocation, and update it if it differs.",
    Mode.OBSERVE: "Read the allocation, and report differences; never update it.",
    Mode.SUSPEND: "Neither read nor update the allocation.",
}


def desired_schema() -> dict[str, Schema]:
    """The schema of one document of the desired state."""
    return {
        "$schema": DIALECT,
        "title": "allocsync desired state",
        "description": "What allocsync keeps in sync. Only declared fields are managed; others stay as is.",
        "type": ["object", "null"],  # an empty document beside others is ignored
        "required": ["apiVersion", "allocations"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"description": "The format of this document.", "const": API_VERSION},
            "defaults": {
                "description": "Fields for every allocation of this document; its own fields override them.",
                "allOf": [{"$ref": "#/definitions/body"}],  # draft-07 ignores what is beside a plain $ref
            },
            "allocations": {
                "description": "The allocations, each under its id.",
                "type": "object",
                "propertyNames": {
                    "description": "Id of an allocation, without spaces and without . or .. between slashes.",
                    "maxLength": MAX_ID_LENGTH,
                    "pattern": ID_PATTERN,
                    "patternErrorMessage": "An id has no spaces, controls, or . and .. between slashes",
                },
                "additionalProperties": {"$ref": "#/definitions/body"},
            },
        },
        # Without defaults an empty allocation declares nothing.
        "if": {"not": {"required": ["defaults"]}},
        "then": {"properties": {"allocations": {"additionalProperties": {"minProperties": 1}}}},
        "definitions": {
            "body": {
                "type": "object",
                "additionalProperties": False,
                "properties": {**_fields(""), "mode": _mode()},
            },
        },
    }


def _fields(parent: str) -> dict[str, Schema]:
    names = {name: f"{parent}.{name}" if parent else name for name in fields_under(parent)}
    return {name: {"description": DESCRIPTIONS[full], **_field(full)} for name, full in names.items()}


def _field(name: str) -> Mapping[str, Schema]:
    if name in STATUS_FIELDS:
        return {"enum": [status for status in STATUSES if status not in UNDECLARABLE_STATUSES]}
    if name in DECLARABLE:
        return {**_TEXT, "maxLength": MAX_TEXT_LENGTH}
    return {"type": "object", "additionalProperties": False, "properties": _fields(name)}


def _mode() -> Schema:
    return {
        "description": "What to do about a difference; by default the mode of the settings.",
        "enum": [mode.value for mode in Mode],
        "enumDescriptions": [MODES[mode] for mode in Mode],
    }
