"""What code imports, told by reading it: nothing is imported to find out."""

from __future__ import annotations

import ast
import dis
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

#: Statements after which an import is still sure to run, if nothing is called in them.
_PLAIN = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign, ast.AnnAssign, ast.Expr, ast.Pass)


@dataclass(frozen=True)
class Imports:
    """Top-level modules by name, in the order of the code. ``certain``: imported at the top of it, before anything is called that could
    install them or fail first: without one of these the code fails at once, and has done nothing. ``possible``: all others, in a
    function, an ``if``, a ``try``, behind other work."""

    certain: tuple[str, ...] = ()
    possible: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.certain, *self.possible)))


NOTHING = Imports()


def imports_of(python: str) -> Imports:
    """Of Python source. Code with a syntax error imports nothing: it will show that error. Relative imports stay inside of a package, and
    are left out."""
    if "import" not in python:
        return NOTHING
    try:
        tree = ast.parse(python)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return NOTHING
    certain: dict[str, None] = {}
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            certain.update(dict.fromkeys(_tops(statement)))
        elif not isinstance(statement, _PLAIN) or _calls(statement):
            break
    every = dict.fromkeys(name for node in ast.walk(tree) for name in _tops(node))
    return Imports(tuple(certain), tuple(n for n in every if n not in certain))


def imports_of_cell(python: str, magics: Callable[[str], Iterator[str]]) -> Imports:
    """Of a cell whose magics are calls already; ``magics`` gives the Python that these run."""
    found = imports_of(python)
    if found is NOTHING or "get_ipython" not in python:
        return found
    inner = [name for body in magics(python) for name in imports_of(body).all]
    return Imports(found.certain, tuple(n for n in dict.fromkeys((*found.possible, *inner)) if n not in found.certain))


@lru_cache(maxsize=4096)
def imports_in(code: CodeType) -> frozenset[str]:
    """Top-level modules that a function's code imports when it runs, nested functions included."""
    found: set[str] = set()
    todo = [code]
    while todo:
        each = todo.pop()
        todo += [c for c in each.co_consts if isinstance(c, CodeType)]
        level: object = 0
        recent: list[object] = []
        for op in dis.get_instructions(each):
            if op.opname == "IMPORT_NAME":
                level = recent[-2] if len(recent) > 1 else 0
                if level == 0:
                    found.add(str(op.argval).partition(".")[0])
            elif op.opname.startswith("LOAD_"):
                recent.append(op.argval)
    return frozenset(found)


def _tops(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield node.module.partition(".")[0]


def _calls(statement: ast.stmt) -> bool:
    """Whether running it may do more than bind a name. A function's body does not run; its decorators and defaults do."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if statement.decorator_list:
            return True
        parts: list[ast.AST] = [*statement.args.defaults, *filter(None, statement.args.kw_defaults)]
    else:
        parts = [statement]
    plain = (ast.Constant, ast.Name, ast.expr_context, ast.List, ast.Tuple, ast.Dict, ast.stmt)
    return any(not isinstance(node, plain) for part in parts for node in ast.walk(part))
