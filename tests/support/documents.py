"""The documents of the repository, and the fenced blocks in them.

The rules: a document is a Markdown file that git tracks, or that is new and not ignored; without git, any
that is in no hidden directory. Notes directly above a block say how a test treats it:
`<!-- setup: NAME -->` begins a new session, `<!-- file: NAME -->` makes the block a file of the session,
`<!-- yaml: KIND -->` says what a YAML block is, and `<!-- not run: REASON -->` why a test cannot run it.

Left out: running a block (`tests/e2e/document_sessions.py`), and the generated tables
(`tests/architecture/tables.py`).
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = ("console", "sh")
NOTES = ("setup", "file", "yaml", "not run")
PROMPT = "$ "

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\S*)\s*$")
_NOTE = re.compile(r"^ *<!-- (?P<name>[a-z ]+): (?P<text>.*\S) -->$")
_COMMENT = re.compile(r"^ *<!-- .* -->$")


@dataclass(frozen=True, slots=True)
class Command:
    """A command, the line on which it begins, and the output that the document shows; empty if none."""

    line: int
    text: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `document` is relative to the root, `line` is the number of its first line."""

    document: Path
    line: int
    language: str
    text: str
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Return the location, such as `README.md:12`."""
        return f"{self.document.as_posix()}:{self.line}"

    @property
    def runs(self) -> bool:
        """Return whether a test runs it."""
        return self.language in SHELL and "not run" not in self.notes

    def commands(self) -> list[Command]:
        """Return the commands of a shell block; a `sh` block is one command.

        Raises:
            ValueError: a `console` block does not begin with a command.
        """
        if self.language == "sh":
            return [Command(self.line + 1, self.text)]
        found: list[Command] = []
        for number, line in enumerate(self.text.splitlines(), self.line + 1):
            if line.startswith(PROMPT):
                found.append(Command(number, line.removeprefix(PROMPT)))
            elif not found:
                raise ValueError(f"{self.document}:{number}: a console block begins with `{PROMPT}command`")
            elif found[-1].text.endswith("\\") and not found[-1].output:
                found[-1] = Command(found[-1].line, f"{found[-1].text}\n{line}")
            else:
                found[-1] = Command(found[-1].line, found[-1].text, f"{found[-1].output}{line}\n")
        return found


def documents(root: Path = ROOT) -> list[Path]:
    """Return the Markdown files of the repository, relative to its root, sorted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # a tree that was unpacked, or a machine without git
        found = (path.relative_to(root) for path in root.rglob("*.md"))
        return sorted(path for path in found if not any(part.startswith(".") for part in path.parts))
    return sorted(Path(name) for name in {*listed.split("\0")} - {""} if (root / name).exists())


def blocks(document: Path, root: Path = ROOT) -> list[Block]:
    """Return the fenced blocks of one document, in order.

    Raises:
        ValueError: a fence is not closed, or no block follows a note.
    """
    return list(_blocks(document, (root / document).read_text(encoding="utf-8").splitlines()))


def _blocks(document: Path, lines: list[str]) -> Iterator[Block]:
    notes: dict[str, str] = {}
    opened: tuple[int, re.Match[str]] | None = None
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if opened is not None:
            begin, first = opened
            if fence and fence["ticks"] == first["ticks"] and not fence["language"]:
                indent = len(first["indent"])
                text = "".join(f"{each[indent:]}\n" for each in lines[begin : number - 1])
                yield Block(document, begin, first["language"], text, notes)
                opened, notes = None, {}
        elif fence:
            opened = number, fence
        elif (note := _NOTE.match(line)) and note["name"] in NOTES:
            notes[note["name"]] = note["text"]
        elif notes and line.strip() and not _COMMENT.match(line):
            raise ValueError(f"{document}:{number}: {', '.join(notes)}: no block follows directly")
    if opened or notes:
        raise ValueError(f"{document}: a fence is not closed, or a note has no block")
