"""The code in a TorchScript file, read and judged before torch reads it: nothing of it is run.

The language is a part of Python, so Python's own parser reads it. What may stand in it is listed:
kinds of syntax, names, operators, and what the file itself defines. Everything that can be called
is found in one of these lists, or the file is refused:

    torch.NAME(...), ops.aten.NAME(...)    an operator of `exactile.models.formats.operators`
    ops.prim.NAME(...)                     a primitive of that list
    __torch__.PLACE.NAME(...)              a function or a class that the file defines
    VALUE.NAME(...)                        a method that it defines, or an operator
    NAME(...)                              a word of the language, or a local name of a function

`torch`, `ops` and `__torch__` stand for nothing else than the first word of such a name: neither
`getattr`, nor an alias, nor a string reaches them. Text that torch's reader and Python's could read
in two ways, such as comments or escapes outside of strings, is not code of torch's own writer, and
is refused.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from exactile.models.formats.operators import PRIMITIVES, is_operator

LEXICON = re.compile(
    r"(?:[A-Za-z0-9_ \n()\[\]{}.,:=<>+\-*/%&|^~!@]++"
    r"|(?<![A-Za-z0-9_\"'])(?:\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+'))*+",
    re.ASCII,
)
"""The text of code: words, numbers, signs, and strings in one line, without a prefix."""

ROOTS = ("torch", "ops", "__torch__", "CONSTANTS")
"""First words of names that are no variables."""

_CALLED = """
annotate unchecked_cast uninitialized getattr isinstance range len int float bool complex str min
max abs round
"""
CALLED = frozenset(_CALLED.split())
"""Words of the language that are called."""

_WORDS = """
inf nan infj nanj Tensor List Dict Tuple Optional Union Final Any Device NoneType number int float
bool complex str tuple list dict Module Interface NamedTuple Enum
"""
WORDS = frozenset(_WORDS.split())
"""Words that stand for numbers, types and kinds of classes."""

SYNTAX = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.keyword),
    *(ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return, ast.Pass, ast.Delete),
    *(ast.If, ast.While, ast.For, ast.Break, ast.Continue, ast.With, ast.withitem, ast.Assert),
    *(ast.Raise, ast.Call, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Constant),
    *(ast.List, ast.Tuple, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp),
    *(ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
"""Kinds of syntax."""

LOADS = ("__setstate__", "__getstate__")
"""Methods that run while a file is loaded or saved, which no network of tensors has."""

CUSTOM = "__torch__.torch.classes"
"""Where torch keeps classes of its own, written in C++, some of which open files and sockets."""


class ForbiddenError(ValueError):
    """Code holds what the lists do not; the text says what, in the words of a refusal."""


@dataclass(frozen=True)
class _Definitions:
    """What the files of an archive define."""

    names: frozenset[str]
    """Functions and classes by their full name."""
    methods: frozenset[str]


@dataclass(frozen=True)
class _Scope:
    """The names of one function."""

    variables: set[str]
    functions: set[str]
    """Those of the variables that only ever stand for a function that the file defines."""


def check_code(files: Mapping[str, bytes]) -> None:
    """See that `files`, by their path below `code/`, hold nothing but a network's code.

    Raises:
        ForbiddenError: if they do; the message says what they hold.
    """
    trees = {path: _parsed(text) for path, text in files.items()}
    defined = _definitions(trees)
    for tree in trees.values():
        for node in ast.walk(tree):
            if not isinstance(node, SYNTAX):
                raise ForbiddenError(f"code uses syntax that networks do not have ({_kind(node)})")
        _Judge(defined).block(tree.body, _Scope(_assigned(tree.body), set()))


def _parsed(text: bytes) -> ast.Module:
    try:
        code = text.decode("ascii")
        if not LEXICON.fullmatch(code):
            raise ForbiddenError(
                "code holds text that torch does not write (a comment, or an escape)"
            )
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ForbiddenError):
            raise
        raise ForbiddenError("code is not the code that torch writes") from error


def _kind(node: ast.AST) -> str:
    return type(node).__name__.lower()


def _definitions(trees: Mapping[str, ast.Module]) -> _Definitions:
    names: set[str] = set()
    methods = {"__new__"}
    for path, tree in trees.items():
        place = ".".join(path.removesuffix(".py").split("/"))
        if f"{place}.".startswith(f"{CUSTOM}."):
            raise ForbiddenError("code defines classes under the name of torch's own")
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                names.add(f"{place}.{node.name}")
            if isinstance(node, ast.ClassDef):
                methods.update(m.name for m in node.body if isinstance(m, ast.FunctionDef))
    for method in sorted(methods):
        if method in LOADS:
            raise ForbiddenError(f"code has a method {method}, which would run while it is loaded")
        if _registered(method) and not (is_operator(method) or method in PRIMITIVES):
            raise ForbiddenError(f"code has a method {method!r}, the name of another operator")
    return _Definitions(frozenset(names), frozenset(methods))


def _registered(name: str) -> bool:
    """Return whether torch has an operator of this name."""
    return any(torch._C._jit_get_schemas_for_operator(f"{s}::{name}") for s in ("aten", "prim"))


def _assigned(body: Iterable[ast.stmt]) -> set[str]:
    """Return the names that statements assign to, without those of functions inside."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def _chain(node: ast.expr) -> tuple[str, ...]:
    """Return the words of a dotted name; empty where `node` is something else."""
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return (node.id, *reversed(words)) if isinstance(node, ast.Name) else ()


class _Judge:
    """Goes through all statements and expressions of a file."""

    def __init__(self, defined: _Definitions) -> None:
        self.defined = defined

    def block(self, body: Iterable[ast.stmt], scope: _Scope) -> None:
        for statement in body:
            if isinstance(statement, ast.FunctionDef):
                self.function(statement)
            elif isinstance(statement, ast.ClassDef):
                self.children(
                    statement, _Scope(_assigned(statement.body) | {"__annotations__"}, set())
                )
            else:
                self.visit(statement, scope)

    def function(self, node: ast.FunctionDef) -> None:
        arguments = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        stored = Counter(
            part.id
            for part in ast.walk(node)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        )
        functions = Counter(
            part.targets[0].id
            for part in ast.walk(node)
            if isinstance(part, ast.Assign)
            and isinstance(part.targets[0], ast.Name)
            and self.is_defined(_chain(part.value))
        )
        aliases = {n for n, count in functions.items() if stored[n] == count} - arguments
        self.children(node, _Scope(stored.keys() | arguments, aliases))

    def children(self, node: ast.AST, scope: _Scope) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                self.block([child], scope)
            else:
                self.visit(child, scope)

    def visit(self, node: ast.AST, scope: _Scope) -> None:
        if isinstance(node, ast.Call):
            self.call(node, scope)
        elif isinstance(node, ast.Attribute):
            self.attribute(node, scope)
        elif isinstance(node, ast.Name):
            if node.id in ROOTS or not (node.id in scope.variables or node.id in WORDS):
                raise ForbiddenError(f"code uses {node.id!r}, which is no value of a network")
        elif isinstance(node, ast.arg) and node.arg in ROOTS:
            raise ForbiddenError(f"code uses {node.arg!r}, which is no value of a network")
        else:
            self.children(node, scope)

    def attribute(self, node: ast.Attribute, scope: _Scope) -> None:
        chain = _chain(node)
        if chain[:1] == ("CONSTANTS",) and len(chain) > 1:
            return
        if chain and chain[0] in ROOTS:
            if not self.is_defined(chain):
                raise ForbiddenError(f"code uses {'.'.join(chain)!r}, which it does not define")
            return
        self.visit(node.value, scope)

    def is_defined(self, chain: tuple[str, ...]) -> bool:
        """Return whether a name is that of a function or class of the file, or of its method."""
        if chain[:1] != ("__torch__",):
            return False
        return ".".join(chain) in self.defined.names or (
            ".".join(chain[:-1]) in self.defined.names and chain[-1] in self.defined.methods
        )

    def call(self, node: ast.Call, scope: _Scope) -> None:
        self.callee(node.func, scope)
        if isinstance(node.func, ast.Name) and node.func.id == "getattr":
            name = node.args[-1] if len(node.args) == 2 else None
            if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
                raise ForbiddenError("code uses getattr with a name that is computed")
        for part in (*node.args, *node.keywords):
            self.visit(part, scope)

    def callee(self, func: ast.expr, scope: _Scope) -> None:
        chain = _chain(func)
        said = ".".join(chain) or _kind(func)
        if chain[:1] == ("torch",):
            allowed = len(chain) == 2 and is_operator(chain[1])
        elif chain[:1] == ("ops",):
            allowed = len(chain) == 3 and (
                (chain[1] == "aten" and is_operator(chain[2]))
                or (chain[1] == "prim" and chain[2] in PRIMITIVES)
            )
        elif chain[:1] == ("__torch__",):
            allowed = self.is_defined(chain)
        elif isinstance(func, ast.Name):
            allowed = func.id in scope.functions or (
                func.id in CALLED and func.id not in scope.variables
            )
        elif isinstance(func, ast.Attribute):
            self.visit(func.value, scope)
            said = f"{func.attr} of a value"
            allowed = func.attr in self.defined.methods or is_operator(func.attr)
        else:
            allowed = False
        if not allowed:
            raise ForbiddenError(f"code calls {said}, which is no operator of torch's networks")
