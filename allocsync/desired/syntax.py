"""What a YAML parser's complaint means to somebody who edits a file.

The rule: no word of a parser's own vocabulary (token, block end, context) reaches a person; what cannot be
put better is called unreadable from its place on. Both parsers that may be at work (libyaml, and PyYAML's own
where libyaml is missing) are covered by words that their messages share.
"""

import yaml

from allocsync.desired.text import SourceText, shown

_INDENTATION = (
    "this line does not fit those above; check its indentation, and that quotes and brackets are closed"
)
_MEANINGS = (  # the first whose words occur in the complaint
    ("tab character", "a tab; indent with spaces"),
    (
        "mapping values are not allowed",
        "a second `: ` in one line; put the value in quotes, or check the indentation",
    ),
    ("could not find expected ':'", "a key without `:`; write `key: value`, and check the indentation"),
    ("unexpected end of stream", "a quoted text that begins above is not closed"),
    (
        "unexpected document indicator",
        "a quoted text that begins above is not closed before this `---` or `...`",
    ),
    ("escape", "an escape that does not exist; in single quotes a backslash is only a backslash"),
    ("hexadecimal", "an escape that does not exist; in single quotes a backslash is only a backslash"),
    ("',' or ']'", "a list in brackets goes wrong here; a `,` or the closing `]` is missing"),
    ("',' or '}'", "a mapping in braces goes wrong here; a `,` or the closing `}` is missing"),
    ("block sequence entries", "a list item `- ` cannot stand here; check the indentation"),
    ("document start", "something stands before the document's `---`, or outside the indentation above"),
    ("indentation indicator", "after `|` or `>` only `+`, `-` or a digit from 1 to 9 may stand"),
    ("comment or", "after `|` or `>` the text begins on the next line"),
    ("anchor", "after `&` or `*` a name of letters, digits, `-` and `_` must stand"),
    ("alias", "after `&` or `*` a name of letters, digits, `-` and `_` must stand"),
    ("tag", "`!` begins a tag, and tags are not used here; put the value in quotes"),
    ("directive", "`%` begins a directive, and none is used here; remove the line"),
    ("version number", "`%` begins a directive, and none is used here; remove the line"),
    ("expected key", _INDENTATION),
    ("'-' indicator", _INDENTATION),
    ("<block end>", _INDENTATION),
    ("node content", "a value is missing here"),
)


def explain(error: Exception, source: SourceText) -> tuple[int, str]:
    """The position that a parser complains of, and what is wrong there in plain words."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if mark is None or not isinstance(error, yaml.MarkedYAMLError):
        return 0, "this file cannot be read as YAML"
    complaint = error.problem or ""
    character = source.text[mark.index : mark.index + 1]
    if "cannot start any token" in complaint:
        return mark.index, _cannot_start(character)
    for words, meaning in _MEANINGS:
        if words in complaint:
            return mark.index, meaning
    return mark.index, "this cannot be read as YAML from here on; check quotes, brackets and indentation"


def _cannot_start(character: str) -> str:
    if character == "\t":
        return "a tab; indent with spaces"
    return f"a value cannot begin with {shown(character)}; put it in quotes"
