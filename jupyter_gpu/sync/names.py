"""Which names a cell touches, told by the compiler and not by a visitor of the syntax tree.

What the compiler emits is what will run: comprehensions, f-strings, the walrus, class bodies and decorators need no case of
their own here.
"""

from __future__ import annotations

import ast
import builtins
import dis
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from ..wire.messages import CellNames
from .imports import NOTHING, Imports, imports_of_cell

_LOADS = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS"})
_STORES = frozenset({"STORE_NAME", "STORE_GLOBAL"})
_DELETES = frozenset({"DELETE_NAME", "DELETE_GLOBAL"})
_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_GLOBAL_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})

_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)

#: Whoever calls one of these may touch names that no compiler sees.
_DYNAMIC = frozenset({"exec", "eval", "compile", "globals", "locals", "vars", "get_ipython", "__import__"})

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_AT_NAME = re.compile(r"@([^\W\d]\w*)")
_BRACED = re.compile(r"\{([^{}]+)\}")
_DOLLAR = re.compile(r"\$\$?([^\W\d]\w*)")

#: Magics whose argument (line or body) is Python that runs in the user's namespace.
_PYTHON_LINE_MAGICS = frozenset({"time", "timeit", "prun", "memit", "mprun", "lprun", "debug"})
_PYTHON_CELL_MAGICS = _PYTHON_LINE_MAGICS | {"capture", "remote"}
_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def analyze(source: str, transform: Callable[[str], str] | None = None) -> CellNames:
    """The names that a cell loads, binds and deletes, in the order of their first appearance.

    ``source`` is what the person wrote; ``transform`` turns it into Python (default: IPython's transformer).
    Loads hold builtins too: intersect with a namespace. ``star``: more may be touched than is listed (``import *``, ``exec``,
    magics). A cell with a syntax error has no names: it will show that error when it runs.
    """
    return _analyze(source) if transform is None else _collect(transform(source))


def imports(source: str) -> Imports:
    """The modules that a cell imports, top-level names; ``source`` is what the person wrote."""
    return _imports(source) if "import" in source else NOTHING


@lru_cache(maxsize=256)
def _imports(source: str) -> Imports:
    return imports_of_cell(_python_of(source), _python_of_magics)


@lru_cache(maxsize=256)
def _analyze(source: str) -> CellNames:
    return _collect(_python_of(source))


@lru_cache(maxsize=16)
def _python_of(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return str(TransformerManager().transform_cell(source))
    except SyntaxError:
        return ""


def _python_of_magics(python: str) -> Iterator[str]:
    for method, arguments in _magic_calls(python):
        if method == "run_cell_magic" and len(arguments) == 3 and arguments[0] in _PYTHON_CELL_MAGICS:
            yield _python_of(arguments[2])
        elif method == "run_line_magic" and len(arguments) == 2 and arguments[0] in _PYTHON_LINE_MAGICS:
            yield _python_of(_without_options(arguments[1]))


def globals_of(code: CodeType | FunctionType) -> frozenset[str]:
    """Global names that a function's code, nested functions included, loads or rebinds."""
    return _globals_of(code.__code__ if isinstance(code, FunctionType) else code)


def globals_within(values: Iterable[Any], namespace: dict[str, Any]) -> list[str]:
    """Global names that the code of ``values`` may touch, where it was written in the notebook: of functions, and of the classes of
    objects and of the modules (as torch calls them) inside of these. Nothing is pickled for it."""
    found: set[str] = set()
    seen: set[type] = set()
    for value in values:
        inner = value.modules() if callable(getattr(type(value), "named_modules", None)) else ()
        for part in (value, *inner):
            if isinstance(part, FunctionType) and part.__globals__ is namespace:
                found |= globals_of(part)
            for cls in set(type(part).__mro__) - seen:
                seen.add(cls)
                functions = [f for f in vars(cls).values() if isinstance(f, FunctionType) and f.__globals__ is namespace]
                found.update(*map(globals_of, functions))
    return sorted(found)


@lru_cache(maxsize=4096)
def _globals_of(code: CodeType) -> frozenset[str]:
    found: set[str] = set()
    for each in _nested(code):
        for op in dis.get_instructions(each):
            if op.opname in _GLOBAL_LOADS or op.opname in _GLOBAL_STORES:
                found.add(op.argval)
        found.update(_words_of_queries(each))
    return frozenset(found)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


class _Names:
    """Ordered sets of what was found so far."""

    def __init__(self) -> None:
        self.loads: dict[str, None] = {}
        self.stores: dict[str, None] = {}
        self.deletes: dict[str, None] = {}
        self.star = False

    def add(self, other: CellNames) -> None:
        self.loads.update(dict.fromkeys(other.loads))
        self.stores.update(dict.fromkeys(other.stores))
        self.deletes.update(dict.fromkeys(other.deletes))
        self.star = self.star or other.star

    def result(self) -> CellNames:
        return CellNames(loads=list(self.loads), stores=list(self.stores), deletes=list(self.deletes), star=self.star)


def _collect(python: str) -> CellNames:
    """Names of transformed source."""
    try:
        code = compile(python, "<cell>", "exec", flags=_FLAGS, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, OverflowError):
        return CellNames()
    names = _Names()
    for each in _nested(code):
        _visit(each, names)
    if not names.star:
        for name in _bound_first(code):
            names.loads.pop(name, None)
    if "get_ipython" in names.loads:
        for call in _magic_calls(python):
            _mine_magic(*call, names)
        names.loads.pop("get_ipython")
    return names.result()


def _visit(code: CodeType, names: _Names) -> None:
    for op in dis.get_instructions(code):
        if op.opname in _LOADS:
            names.loads[op.argval] = None
            names.star = names.star or op.argval in _DYNAMIC
        elif op.opname in _STORES:
            if op.opname == "STORE_GLOBAL" or code.co_name == "<module>":
                names.stores[op.argval] = None
        elif op.opname in _DELETES:
            if op.opname == "DELETE_GLOBAL" or code.co_name == "<module>":
                names.deletes[op.argval] = None
        elif op.opname == "IMPORT_STAR" or (op.opname == "CALL_INTRINSIC_1" and op.arg == 2):
            names.star = True
    names.loads.update(dict.fromkeys(_words_of_queries(code)))


def _bound_first(code: CodeType) -> set[str]:
    """Names that a cell binds before anything in it can read them: the old value of ``df`` is no part of what ``df = read(...)``,
    ``df.head()`` needs. Only what surely runs counts: up to the first jump, or ``try``, or ``with``."""
    bound: set[str] = set()
    read: set[str] = set()
    guarded = {offset for start, end in _guarded(code) for offset in range(start, end)}
    for op in dis.get_instructions(code):
        if op.opcode in _JUMPS or op.is_jump_target or op.offset in guarded or op.opname.startswith("SETUP_"):
            break
        if op.opname in _LOADS:
            read.add(op.argval)
        elif op.opname in _STORES and op.argval not in read:
            bound.add(op.argval)
        elif isinstance(op.argval, str) and op.opname == "LOAD_CONST":
            read.update(set(_AT_NAME.findall(op.argval)).intersection(_words_of_queries(code)))
        elif isinstance(op.argval, CodeType):  # a function or a class: it may run from here on
            for each in _nested(op.argval):
                read |= {inner.argval for inner in dis.get_instructions(each) if inner.opname in _LOADS}
                read.update(_words_of_queries(each))
    return bound


def _guarded(code: CodeType) -> Iterable[tuple[int, int]]:
    """(first, past the last) offset of what an exception does not leave."""
    parse = getattr(dis, "_parse_exception_table", None)  # since 3.11; before that, SETUP_FINALLY says it
    return ((entry.start, entry.end) for entry in parse(code)) if parse is not None else ()


def _words_of_queries(code: CodeType) -> Iterable[str]:
    """Names that ``df.query("a > @limit")`` looks up."""
    if "query" in code.co_names or "eval" in code.co_names:
        for constant in code.co_consts:
            if isinstance(constant, str) and "@" in constant:
                yield from _AT_NAME.findall(constant)


def _magic_calls(python: str) -> Iterator[tuple[str, list[str]]]:
    """(method of the shell, its constant arguments) for each magic and shell command."""
    for node in ast.walk(ast.parse(python)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Call)
            and isinstance(node.func.value.func, ast.Name)
            and node.func.value.func.id == "get_ipython"
        ):
            yield node.func.attr, [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]


def _mine_magic(method: str, arguments: list[str], names: _Names) -> None:
    """What is not Python to the compiler: commands interpolate names, some magics run code of their own."""
    for text in arguments:
        for expression in _BRACED.findall(text):
            names.loads.update(dict.fromkeys(_expression_names(expression)))
        names.loads.update(dict.fromkeys(_DOLLAR.findall(text)))
    if method in {"system", "getoutput"}:
        return
    if method == "run_line_magic" and len(arguments) == 2 and arguments[0] in _PYTHON_LINE_MAGICS:
        names.add(_analyze(_without_options(arguments[1])))
    elif method == "run_cell_magic" and len(arguments) == 3 and arguments[0] in _PYTHON_CELL_MAGICS:
        names.add(_analyze(arguments[2]))
        names.add(_analyze(_without_options(arguments[1])))
    elif method in {"run_line_magic", "run_cell_magic"} and arguments[:1] in (["matplotlib"], ["config"], ["cd"], ["pwd"]):
        return
    else:
        names.star = True
        words = {w for text in arguments[1:] for w in _IDENTIFIER.findall(text)}
        names.loads.update(dict.fromkeys(w for w in sorted(words) if not hasattr(builtins, w)))


def _without_options(line: str) -> str:
    """``-n1 -r 3 f(x)`` -> ``f(x)``; one that takes a value apart from it leaves that value, which is no name."""
    return re.sub(r"^(\s*-{1,2}\w+(\s+\d+)?)+\s*", "", line)


def _expression_names(expression: str) -> list[str]:
    try:
        return analyze(expression, lambda text: text).loads
    except ValueError:
        return []
