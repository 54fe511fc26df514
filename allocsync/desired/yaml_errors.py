"""What a YAML parser's complaint means to somebody who edits a file.

The rule: no word of a parser's own vocabulary (token, block end, context) reaches a person; what cannot be
put better is called unreadable from its place on. Both parsers that may be at work (libyaml, and PyYAML's own
where libyaml is missing) are covered by words that their messages share.
"""

import re

import yaml

from allocsync.desired.source_text import SourceText, shown

_INDENTATION = (
    "this does not fit what stands above; check indentation, and that quotes and brackets are closed"
)
_ESCAPE = "an escape that does not exist; in single quotes a backslash is only a backslash"
_NAME = "after `&` or `*` a name of letters, digits, `-` and `_` must stand; or put the value in quotes"
_DIRECTIVE = "`%` begins a directive, and none is used here; remove the line, or put the value in quotes"
_VALUES = "a second `: ` in one value; put the value in quotes, or check the indentation"
_CONFLICT = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)  # as git leaves them
_UNMERGED = "a merge conflict is left here; keep one side, and remove the lines of `<`, `=` and `>`"
_MEANINGS = (  # the first whose words occur in the complaint; {begin} is where what goes wrong begins
    ("tab character", "a tab; indent with spaces"),
    ("hexdecimal", _ESCAPE),
    ("hexadecimal", _ESCAPE),
    ("escape character", _ESCAPE),
    ("escape code", _ESCAPE),
    ("mapping values are not allowed", _VALUES),
    ("could not find expected ':'", "a key without `:`; write `key: value`, and check the indentation"),
    ("unexpected end of stream", "the quotes that open at {begin} are never closed"),
    ("unexpected document indicator", "the quotes that open at {begin} are not closed before this"),
    ("',' or ']'", "in the list that opens at {begin} a `,` or the closing `]` is missing"),
    ("',' or '}'", "in the mapping that opens at {begin} a `,` or the closing `}}` is missing"),
    ("sequence entries are not allowed", "a list item `- ` cannot stand here; check the indentation"),
    ("indentation indicator", "after `|` or `>` only `+`, `-` or a digit from 1 to 9 may stand"),
    ("scanning a block scalar", "after `|` or `>` the text begins on the next line"),
    ("scanning an anchor", _NAME),
    ("scanning an alias", _NAME),
    ("directive", _DIRECTIVE),
    ("YAML document", _DIRECTIVE),
    (
        "<document start>",
        "a document has ended above; begin another one with `---`, or check the indentation",
    ),
    ("tag", "`!` begins a tag, and tags are not used here; put the value in quotes"),
    ("expected key", _INDENTATION),
    ("'-' indicator", _INDENTATION),
    ("<block end>", _INDENTATION),
    ("node content", "a value is missing here"),
)


def explain(error: Exception, source: SourceText) -> tuple[int, str]:
    """The position that a parser complains of, and what is wrong there in plain words."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return 0, "this file cannot be read as YAML"
    conflict = _CONFLICT.search(source.text)
    if conflict is not None:
        return conflict.start(), _UNMERGED
    at = error.problem_mark.index
    complaint = f"{error.context}: {error.problem}"
    if "cannot start any token" in complaint:
        return at, _cannot_start(source.text[at : at + 1])
    begin = source.place(error.context_mark.index if error.context_mark else at)
    for words, meaning in _MEANINGS:
        if words in complaint:
            return at, meaning.format(begin=begin)
    return at, "this cannot be read as YAML from here on; check quotes, brackets and indentation"


def _cannot_start(character: str) -> str:
    if character == "\t":
        return "a tab; indent with spaces"
    return f"a value cannot begin with {shown(character)}; put it in quotes"
