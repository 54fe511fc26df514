"""Checks what import contracts cannot say: what pure modules may import, and names that say nothing.

    python tests/architecture/purity.py [ROOT]      prints `file:line: what is wrong`, exits 1 if anything is

The rules: `model`, `planning` and the deciders of `reconcile` import from a list of what is allowed and from
nothing else, and use no name that reaches the world or fetches a module another way. No file and no folder
has a name that says nothing about its contents.

Left out: layers (import-linter), the length and complexity of functions (ruff). This finds accidents and
short cuts, not somebody who works at hiding one.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAMES_OF_NOTHING = frozenset({"utils", "util", "helpers", "helper", "manager", "common", "misc", "base"})
PURE_IMPORTS = frozenset({"dataclasses", "enum", "typing", "collections", "itertools", "json", "hashlib"})
REACHES_OUT = frozenset(
    {
        *("open", "print", "input", "breakpoint", "help", "exit", "quit"),
        *("__import__", "exec", "eval", "compile", "globals", "locals", "vars"),
        *("getattr", "setattr", "delattr", "__builtins__", "__loader__", "__spec__"),
    }
)
REACHES_THROUGH = frozenset(
    {
        *("__builtins__", "__globals__", "__loader__", "__spec__"),
        *("__subclasses__", "__getattribute__", "__code__"),
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Modules, by pattern below the root, and all that they may import."""

    files: tuple[str, ...]
    imports: frozenset[str]


VALUES = PURE_IMPORTS | {"allocsync.model"}
DECIDERS = frozenset(
    {
        *("allocsync.reconcile.allocation", "allocsync.reconcile.gates", "allocsync.reconcile.scheduling"),
        *("allocsync.reconcile.status", "allocsync.reconcile.operation", "allocsync.reconcile.parameters"),
        *("allocsync.reconcile.events", "allocsync.reconcile.ports"),
    }
)
RULES = (
    Rule(files=("allocsync/model/**/*.py",), imports=VALUES),
    Rule(
        files=("allocsync/planning/**/*.py", "allocsync/desired/export.py"),
        imports=VALUES | {"allocsync.planning"},
    ),
    Rule(
        files=(
            "allocsync/reconcile/allocation/**/*.py",
            "allocsync/reconcile/gates/**/*.py",
            "allocsync/reconcile/scheduling/**/*.py",
            "allocsync/reconcile/status/**/*.py",
            "allocsync/reconcile/operation.py",
            "allocsync/reconcile/parameters.py",
            "allocsync/reconcile/rollout/canaries.py",
            "allocsync/reconcile/checkpoint_codecs.py",
        ),
        imports=VALUES | DECIDERS | {"allocsync.planning", "heapq", "math"},
    ),
)


def problems(root: Path) -> Iterator[str]:
    """Yield every breach below the root, one a line, in the order of the files."""
    allowed = {file: rule.imports for rule in RULES for pattern in rule.files for file in root.glob(pattern)}
    for file in _python_files(root):
        name = file.relative_to(root)
        text = file.read_text(encoding="utf-8")
        yield from _names(name)
        if file in allowed:
            yield from (f"{name}:{line}: {what}" for line, what in impurities(text, allowed[file]))


def _python_files(root: Path) -> list[Path]:
    return sorted(file for folder in ("allocsync", "tests") for file in (root / folder).rglob("*.py"))


def _names(name: Path) -> Iterator[str]:
    for part in (*name.parent.parts, name.stem):
        if part in NAMES_OF_NOTHING:
            yield f"{name}:1: {part} says nothing about what is inside; name it after that"


def impurities(text: str, allowed: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield line and reason for each import outside the list and each name that gets round it."""
    tree = ast.parse(text)
    modules = frozenset(_names_of_modules(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                wrong = [alias.name for alias in names if not _is_allowed(alias.name, allowed)]
            case ast.ImportFrom():
                wrong = list(_wrong_from(node, allowed))
            case ast.Name(id=name) if name in REACHES_OUT:
                yield node.lineno, f"{name} reaches the world, or a module past the list"
                continue
            case ast.Attribute(attr=name) if name in REACHES_THROUGH or _is_borrowed(node, modules):
                yield node.lineno, f".{name} reaches a module past the list"
                continue
            case _:
                continue
        for name in wrong:
            yield node.lineno, f"imports {name}; allowed here: {', '.join(sorted(allowed))}"


def _names_of_modules(tree: ast.AST) -> Iterator[str]:
    """Yield the names by which this file knows modules of the standard library."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


def _wrong_from(node: ast.ImportFrom, allowed: frozenset[str]) -> Iterator[str]:
    module = "." * node.level + (node.module or "")
    for alias in node.names:
        whole = f"{module}.{alias.name}"
        # `from allocsync import planning` names a module; `from dataclasses import sys` steals one.
        if not (_is_allowed(module, allowed) or _is_allowed(whole, allowed)):
            yield module if module not in ("allocsync", "allocsync.reconcile") else whole
        elif alias.name == "*" or (not module.startswith("allocsync") and _is_stolen(whole, alias.name)):
            yield whole


def _is_allowed(module: str, allowed: frozenset[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def _is_borrowed(node: ast.Attribute, modules: frozenset[str]) -> bool:
    """Whether this is a module that another one happens to have imported: `dataclasses.sys`."""
    if not isinstance(node.value, ast.Name) or node.value.id not in modules:
        return False
    return _is_stolen(f"{node.value.id}.{node.attr}", node.attr)


def _is_stolen(whole: str, name: str) -> bool:
    return whole != "collections.abc" and (name in sys.stdlib_module_names or name.startswith("_"))


def main(arguments: list[str]) -> int:
    """Check the tree that the first argument names, or else the one that this file is in."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    found = list(problems(root))
    for problem in found:
        print(problem)  # noqa: T201 - this is a command; its findings are its output
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
