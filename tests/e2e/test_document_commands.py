"""Every block of every document is of a known kind, and its commands work as they are printed."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from allocsync.desired.loader import load
from allocsync.model.desired_state import Mode
from allocsync.settings.loader import load_settings
from tests.e2e.document_sessions import SETUPS, Session, difference, run, sessions
from tests.packaging.conftest import require
from tests.support.documents import ROOT, SHELL, Block, Command, blocks, documents

KINDS = {*SHELL, "yaml", "json", "text", "python", "ini", "toml", "promql", "mermaid"}
YAML_KINDS = {"desired state", "settings", "kubernetes", "prometheus"}
# The blocks that no test runs, by document and first command; a note above each says why.
NOT_RUN = {
    ("CONTRIBUTING.md", "make test"),
    ("README.md", "make demo"),
    ("README.md", "DEMO_SECONDS=25 make demo"),
    ("README.md", "python3 -m venv venv"),
    ("deploy/README.md", "apt install ./allocsync_*+deb12_*.deb"),
    ("deploy/README.md", "install -m 600 new_token /etc/allocsync/api_token"),
    ("deploy/README.md", "make install PREFIX=/usr"),
    ("deploy/README.md", "install -d /etc/allocsync/allocations"),
    ("deploy/README.md", "make image BASE=python:3.13-slim"),
    ("deploy/README.md", "kubectl create secret generic allocsync --from-file=allocsync_api_token=./token"),
    ("deploy/README.md", "python -m tests.benchmarks.memory 1000 5000 10000 20000 50000"),
    ("tests/README.md", "make test"),
    ("tests/benchmarks/README.md", "make bench"),
}
BLOCKS = [block for document in documents() for block in blocks(document)]
SESSIONS = [
    session
    for document in documents()
    for session in sessions(block for block in BLOCKS if block.document == document)
]


@pytest.mark.parametrize("session", [pytest.param(each, id=each.place) for each in SESSIONS])
async def test_every_command_of_a_session_works_as_printed(session: Session, tmp_path: Path) -> None:
    require("curl")
    await run(session, tmp_path)


@pytest.mark.parametrize("block", [pytest.param(each, id=each.place) for each in BLOCKS])
def test_every_block_is_of_a_known_kind(block: Block) -> None:
    assert block.language in KINDS, f"{block.place}: use one of these languages: {', '.join(sorted(KINDS))}"
    assert block.notes.get("setup", "files") in SETUPS
    assert block.notes.get("yaml", "settings") in YAML_KINDS


def test_the_blocks_that_no_test_runs_are_listed() -> None:
    skipped = [block for block in BLOCKS if block.language in SHELL and "not run" in block.notes]
    found = {(block.document.as_posix(), _first_words(block)) for block in skipped}
    assert found == NOT_RUN


@pytest.mark.parametrize(
    "block", [pytest.param(each, id=each.place) for each in BLOCKS if "not run" in each.notes]
)
def test_a_block_that_no_test_runs_is_bash_and_names_targets_that_exist(block: Block) -> None:
    text = "\n".join(command.text for command in block.commands())
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets


@pytest.mark.parametrize(
    "block", [pytest.param(each, id=each.place) for each in BLOCKS if each.language == "yaml"]
)
def test_a_yaml_block_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(block.text, encoding="utf-8")
    rows = [row for row in yaml.safe_load_all(block.text) if row is not None]
    ours = any("allocsync" in str(row.get("apiVersion", "")) for row in rows)
    kind = block.notes.get("yaml", "desired state" if ours else "settings")
    if kind == "desired state":
        loaded = load(file, default_mode=Mode.ENFORCE)
        assert loaded.revision.allocations
        assert not loaded.problems
    elif kind == "settings":
        load_settings(file, {}, {}, secrets_directory=tmp_path / "none")


@pytest.mark.parametrize(
    ("shown", "printed", "verdict"),
    [
        ("", "anything", "right"),
        ("2 in sync", "2 in sync\n", "right"),
        ("2 in sync", "3 in sync\n", "wrong"),
        ("2 in sync", "2 in sync\nand more\n", "wrong"),
        ("… in sync", "2 in sync", "right"),
        ("… in sync", "2\nin sync", "wrong"),
        ("a\n…\nb", "a\n1\n2\nb", "right"),
        ("a\n…\nb", "a\nb", "right"),
        ("a\n…", "b\na\n1", "wrong"),
    ],
)
def test_shown_output_is_compared_with_printed_output(shown: str, printed: str, verdict: str) -> None:
    assert bool(difference(Command(1, "true", shown), printed)) is (verdict == "wrong")


async def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    block = Block(Path("x.md"), 7, "console", "$ true\n$ echo text; false\n$ true\n")
    with pytest.raises(AssertionError, match=r"x\.md:9: `echo text; false` ends with 1:\ntext"):
        await run(Session("files", (block,)), tmp_path)


async def test_a_command_that_prints_something_else_is_named(tmp_path: Path) -> None:
    block = Block(Path("x.md"), 7, "console", "$ echo one\ntwo\n")
    with pytest.raises(AssertionError, match=r"x\.md:8: `echo one` prints\none\nand the document shows\ntwo"):
        await run(Session("files", (block,)), tmp_path)


def test_an_open_fence_and_a_note_without_a_block_are_errors(tmp_path: Path) -> None:
    for text in ("```sh\ntrue\n", "<!-- not run: needs root -->\n\nSome text.\n"):
        (tmp_path / "x.md").write_text(text)
        with pytest.raises(ValueError, match=r"x\.md"):
            blocks(Path("x.md"), tmp_path)


@pytest.mark.parametrize("document", [pytest.param(each, id=each.as_posix()) for each in documents()])
def test_the_target_of_every_link_exists(document: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = ROOT / document.parent / path if path else ROOT / document
        assert linked.exists(), f"{document}: {target} does not exist"
        if anchor:
            page = linked / "README.md" if linked.is_dir() else linked
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, f"{document}: no heading {target}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _first_words(block: Block) -> str:
    return block.commands()[0].text.splitlines()[0].split("#")[0].split("&&")[0].strip()
