"""The desired state as JSON Schema, for editors and CI: made from the tables that the loader judges by.

The rule: what the loader accepts, this accepts. A value is read as text, so `version: 1.10`, `project: 7` and
`user: no` are right here, too; only null, lists and mappings are not. It may let pass what no schema can
see: a key that is there twice, an id in two documents, defaults that declare nothing.

The dialect is draft-07, the one of the YAML language server. Patterns use only what ECMA 262 and Python read
alike, and end with a look ahead because Python's `$` stands before a last line break, too.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from allocsync.desired.schema import API_VERSION, MAX_ID_LENGTH, MAX_TEXT_LENGTH, STATUS_FIELDS, fields_under
from allocsync.model.cloud import DECLARABLE, STATUSES, UNDECLARABLE_STATUSES
from allocsync.model.desired_state import Mode

Schema: TypeAlias = "bool | int | str | Sequence[Schema] | Mapping[str, Schema]"

DIALECT = "http://json-schema.org/draft-07/schema#"
# White space, controls and invisible marks: some of what Python calls not printable, and nothing else.
_UNSEEN = r"\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
ID_PATTERN = rf"^(?!(.*[/\\])?\.\.?([/\\]|$))[^{_UNSEEN}]+$(?!\n)"
_TEXT: Mapping[str, Schema] = {"type": ["string", "number", "boolean"]}

DESCRIPTIONS: Mapping[str, str] = {
    "user": "Id of the user whom the allocation belongs to.",
    "project": "Project that the allocation runs in.",
    "region": "Region that the allocation runs in, such as us-central1.",
    "version": "Version of the server. Read as text: 1.10 is not 1.1.",
    "status": "Status of the allocation.",
    "status.cloud": "Status of the cloud as a whole; PENDING and UNKNOWN are the server's to say.",
    "urls": "Addresses of the allocation.",
    "urls.base": "Address that the provider gave.",
    "urls.base.status": "Status of the base address.",
    "urls.base.url": "The base address.",
    "urls.id": "Address made from the id.",
    "urls.id.status": "Status of the address made from the id.",
    "urls.id.url": "The address made from the id.",
    "urls.vanity": "Address with a name of choice. A new one needs both its url and its status.",
    "urls.vanity.status": "Status of the vanity address.",
    "urls.vanity.url": "The vanity address.",
}
MODES: Mapping[Mode, str] = {
    Mode.ENFORCE: "Look, and repair what differs.",
    Mode.OBSERVE: "Look, and report what differs; never update.",
    Mode.SUSPEND: "Neither look nor update.",
}


def desired_schema() -> dict[str, Schema]:
    """One document of the desired state."""
    return {
        "$schema": DIALECT,
        "title": "allocsync desired state",
        "description": "What allocsync keeps true. Only what is declared is owned; all else stays as it is.",
        "type": ["object", "null"],  # an empty document beside others is let be
        "required": ["apiVersion", "allocations"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"description": "The form of this document.", "const": API_VERSION},
            "defaults": {
                "description": "Put under every allocation of this document; its own fields win.",
                "allOf": [{"$ref": "#/definitions/body"}],  # beside a bare $ref nothing else would count
            },
            "allocations": {
                "description": "The allocations, each under its id.",
                "type": "object",
                "propertyNames": {
                    "description": "Id of an allocation: no spaces, and no . or .. between slashes.",
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
        "description": "What to do about a difference; the settings say what holds without it.",
        "enum": [mode.value for mode in Mode],
        "enumDescriptions": [MODES[mode] for mode in Mode],
    }
