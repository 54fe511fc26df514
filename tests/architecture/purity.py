"""Checks that import contracts cannot express: the imports of pure modules, and names without a meaning.

    python tests/architecture/purity.py [ROOT]      prints `file:line: problem`, exits with 1 if there is any

The rules: `model`, `planning` and the deciding modules of `reconcile` import only what their list allows,
and use no name that does I/O or reaches a module in another way. No file or folder has a name that says
nothing about its contents.

Left out: layers (import-linter), and the length and complexity of functions (ruff). The check finds
accidents, not
deliberate circumvention.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEANINGLESS_NAMES = frozenset({"utils", "util", "helpers", "helper", "manager", "common", "misc", "base"})
PURE_IMPORTS = frozenset({"dataclasses", "enum", "typing", "collections", "itertools", "json", "hashlib"})
FORBIDDEN_NAMES = frozenset(
    {
        *("open", "print", "input", "breakpoint", "help", "exit", "quit"),
        *("__import__", "exec", "eval", "compile", "globals", "locals", "vars"),
        *("getattr", "setattr", "delattr", "__builtins__", "__loader__", "__spec__"),
    }
)
FORBIDDEN_ATTRIBUTES = frozenset(
    {
        *("__builtins__", "__globals__", "__loader__", "__spec__"),
        *("__subclasses__", "__getattribute__", "__code__"),
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Modules, as patterns below the root, and everything that they may import."""

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
    """Yield every problem below the root, one a line, in the order of the files."""
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
        if part in MEANINGLESS_NAMES:
            yield f"{name}:1: {part} says nothing about the contents; name it after them"


def impurities(text: str, allowed: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield line and reason for each import that is not allowed and each name that circumvents the list."""
    tree = ast.parse(text)
    modules = frozenset(_names_of_modules(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                wrong = [alias.name for alias in names if not _is_allowed(alias.name, allowed)]
            case ast.ImportFrom():
                wrong = list(_wrong_from(node, allowed))
            case ast.Name(id=name) if name in FORBIDDEN_NAMES:
                yield node.lineno, f"{name} does I/O, or reaches a module that is not allowed"
                continue
            case ast.Attribute(attr=name) if name in FORBIDDEN_ATTRIBUTES or _is_borrowed(node, modules):
                yield node.lineno, f".{name} reaches a module that is not allowed"
                continue
            case _:
                continue
        for name in wrong:
            yield node.lineno, f"imports {name}; allowed here: {', '.join(sorted(allowed))}"


def _names_of_modules(tree: ast.AST) -> Iterator[str]:
    """Yield the names under which this file has imported modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


def _wrong_from(node: ast.ImportFrom, allowed: frozenset[str]) -> Iterator[str]:
    module = "." * node.level + (node.module or "")
    for alias in node.names:
        whole = f"{module}.{alias.name}"
        # `from allocsync import planning` names a module; `from dataclasses import sys` borrows one.
        if not (_is_allowed(module, allowed) or _is_allowed(whole, allowed)):
            yield module if module not in ("allocsync", "allocsync.reconcile") else whole
        elif alias.name == "*" or (
            not module.startswith("allocsync") and _is_foreign_module(whole, alias.name)
        ):
            yield whole


def _is_allowed(module: str, allowed: frozenset[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def _is_borrowed(node: ast.Attribute, modules: frozenset[str]) -> bool:
    """Return whether this is a module that another module has imported: `dataclasses.sys`."""
    if not isinstance(node.value, ast.Name) or node.value.id not in modules:
        return False
    return _is_foreign_module(f"{node.value.id}.{node.attr}", node.attr)


def _is_foreign_module(whole: str, name: str) -> bool:
    return whole != "collections.abc" and (name in sys.stdlib_module_names or name.startswith("_"))


def main(arguments: list[str]) -> int:
    """Check the tree that the first argument names, or else the tree of this file."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    found = list(problems(root))
    for problem in found:
        print(problem)  # noqa: T201 - this is a command; its findings are its output
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
