"""Explains the errors of a YAML parser to somebody who edits a file.

The rule: no message uses the parser's own vocabulary (token, block end, context). If no phrase of
_EXPLANATIONS occurs in the error, the message only says that the file is not valid YAML from there on. The
phrases cover the messages of both parsers: libyaml, and PyYAML's own, which is used where libyaml is missing.

Left out: errors in valid YAML (`desired.yaml_parser`, `desired.schema`).
"""

import re

import yaml

from allocsync.desired.source_text import SourceText, excerpt

_INDENTATION = (
    "this does not match the lines above; check indentation, and that quotes and brackets are closed"
)
_ESCAPE = "not a valid escape sequence; in single quotes a backslash stands for itself"
_NAME = "`&` or `*` needs a name of letters, digits, `-` and `_` after it; or put the value in quotes"
_DIRECTIVE = (
    "`%` begins a YAML directive, which is not supported; remove the line, or put the value in quotes"
)
_VALUES = "a second `: ` in one value; put the value in quotes, or check the indentation"
_CONFLICT = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)  # as version control systems leave them
_UNRESOLVED = "an unresolved merge conflict; keep one side, and remove the lines of `<`, `=` and `>`"
_EXPLANATIONS = (  # the first whose phrase occurs in the error applies; {begin} is where its context begins
    ("tab character", "a tab; indent with spaces"),
    ("hexdecimal", _ESCAPE),
    ("hexadecimal", _ESCAPE),
    ("escape character", _ESCAPE),
    ("escape code", _ESCAPE),
    ("mapping values are not allowed", _VALUES),
    ("could not find expected ':'", "a key without `:`; write `key: value`, and check the indentation"),
    ("unexpected end of stream", "the quotes that open at {begin} are never closed"),
    ("unexpected document indicator", "the quotes that open at {begin} are not closed before this"),
    ("',' or ']'", "the list that opens at {begin} lacks a `,` or its closing `]`"),
    ("',' or '}'", "the mapping that opens at {begin} lacks a `,` or its closing `}}`"),
    ("sequence entries are not allowed", "a list item `- ` is not allowed here; check the indentation"),
    ("indentation indicator", "only `+`, `-` or a digit from 1 to 9 may follow `|` or `>`"),
    ("scanning a block scalar", "the text after `|` or `>` begins on the next line"),
    ("scanning an anchor", _NAME),
    ("scanning an alias", _NAME),
    ("directive", _DIRECTIVE),
    ("YAML document", _DIRECTIVE),
    (
        "<document start>",
        "the document ends before this; begin another with `---`, or check the indentation",
    ),
    ("tag", "`!` begins a YAML tag, which is not supported; put the value in quotes"),
    ("expected key", _INDENTATION),
    ("'-' indicator", _INDENTATION),
    ("<block end>", _INDENTATION),
    ("node content", "a value is missing here"),
)


def explain(error: Exception, source: SourceText) -> tuple[int, str]:
    """Return the offset of a parser's error, and an explanation in plain words."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return 0, "this file cannot be read as YAML"
    conflict = _CONFLICT.search(source.text)
    if conflict is not None:
        return conflict.start(), _UNRESOLVED
    offset = error.problem_mark.index
    message = f"{error.context}: {error.problem}"
    if "cannot start any token" in message:
        return offset, _cannot_start(source.text[offset : offset + 1])
    begin = source.place(error.context_mark.index if error.context_mark else offset)
    for phrase, explanation in _EXPLANATIONS:
        if phrase in message:
            return offset, explanation.format(begin=begin)
    return offset, "this is not valid YAML from here on; check quotes, brackets and indentation"


def _cannot_start(character: str) -> str:
    if character == "\t":
        return "a tab; indent with spaces"
    return f"a value cannot begin with {excerpt(character)}; put it in quotes"
