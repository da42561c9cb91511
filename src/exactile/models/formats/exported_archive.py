"""A copy of the archive that `torch.export.save` wrote in which nothing is left to execute.

`torch.export.load` trusts its file: it unpickles parts of it, evaluates expressions about sizes
as Python, looks functions up by name, loads compiled libraries and pastes names into code that it
compiles. Its reader finds members by names that differ in case. So the file is not given to it. A
new archive is: with the same weights and the same graph, after every part was found to be what
`torch.export.save` writes for a network of torch's own operators, and with nothing else: no
description of where the graph came from, and no example, which would be a pickle.
"""

from __future__ import annotations

import ast
import io
import json
import re
from typing import Any

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.models.formats.content import (
    LOADING_ERRORS,
    members_of,
    open_archive,
    repacked,
    shown,
)
from exactile.models.formats.operators import is_operator

MODEL = "models/model.json"
CARRIED = re.compile(
    r"data/(?:weights/(?:model_weights_config\.json|weight_\d+)"
    r"|constants/(?:model_constants_config\.json|tensor_\d+))",
    re.ASCII,
)
PICKLED = ("data/weights/model.pt", "data/constants/model.pt")
"""Tensors, as torch 2.8 and older saved them."""
FRAME = re.compile(r"archive_format|archive_version|byteorder|version|\.data/version", re.ASCII)
EXAMPLE = "data/sample_inputs/model.pt"

ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.\w+", re.ASCII)
OTHERS = re.compile(
    r"torch\.ops\.prims\.(convert_element_type|view_of)\.default"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(int|float|ite|max|min|not|sqrt|sum)"
    r"|math\.(ceil|floor|trunc|sqrt)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_"
    r"|getitem)",
    re.ASCII,
)
"""What is called besides ATen's operators."""

_ARGUMENTS = """
as_none as_tensor as_tensors as_int as_ints as_float as_floats as_string as_strings as_sym_int
as_sym_ints as_scalar_type as_memory_format as_layout as_device as_bool as_bools as_sym_bool
as_sym_bools as_sym_float as_graph as_sym_floats as_optional_tensor as_optional_tensors as_complex
as_int_lists as_nested_tensors as_float_lists as_expr as_name
"""
ARGUMENTS = frozenset(_ARGUMENTS.split())
"""Kinds of arguments. An operator, or an object of another class, is none that a network has."""

NAME = re.compile(r"[\w.+\-:@]*", re.ASCII)
WORD = re.compile(r"\w*", re.ASCII)
PATH = re.compile(r"(weight|tensor)_\d+", re.ASCII)
SYMBOL = re.compile(r"[suz]+\d+|L|oo|int_oo|true|false|True|False", re.ASCII)
ARGUMENT = re.compile(r"\w+", re.ASCII)

FUNCTION = re.compile(
    r"Symbol|Integer|Rational|Float|Add|Mul|Pow|Mod|Max|Min|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not"
    r"|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|FloorDiv"
    r"|CeilDiv|CleanDiv|PythonMod|ModularIndexing|IntTrueDiv|FloatTrueDiv|CeilToInt|FloorToInt"
    r"|TruncToInt|TruncToFloat|RoundToInt|ToFloat|Where|max|min"
)
"""Functions in the expressions about sizes."""

NODES = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Constant,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
)
"""Kinds of syntax in the expressions about sizes."""

TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
"""Containers of arguments and results; others are looked up by name."""


def harmless_archive(content: bytes, what: str) -> bytes:
    """Return the archive in `content` without anything to execute; `what` names it in a refusal.

    Raises:
        ModelError: if it is damaged, or holds something else than a network's graph and weights.
    """
    archive = open_archive(content, what)
    members = members_of(archive, what)
    if MODEL not in members:
        raise ModelError(
            f"{what}: is an archive of torch.export, but holds no {MODEL}; save one program with "
            "torch.export.save of torch 2.8 or newer"
        )
    compiled = [name for name in members if name.startswith("data/aotinductor/")]
    if compiled:
        raise _unsafe(what, f"it holds compiled code ({compiled[0]})")
    kept = {}
    for name, member in members.items():
        if name == MODEL:
            kept[name] = _harmless_program(member.read(), what)
        elif CARRIED.fullmatch(name) or FRAME.fullmatch(name):
            kept[name] = member.read()
            if name.endswith(".json"):
                _check_data(name, kept[name], what)
        elif name in PICKLED:
            kept[name] = _plain_tensors(name, member.read(), what)
    return repacked(kept | {EXAMPLE: b""}, "model")


def _harmless_program(part: bytes, what: str) -> bytes:
    try:
        program = json.loads(part)
        _check_value(program, "", what)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}: its graph is damaged; export the network again") from error
    return json.dumps(program).encode()


def _check_value(value: Any, key: str, what: str) -> None:
    """Check all strings of a program; where nodes describe their origin, empty that."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "metadata":
                value[name] = {}
                continue
            if name.startswith("as_") and name not in ARGUMENTS:
                kind = shown(name.removeprefix("as_"))
                raise _unsafe(what, f"an operator is given {kind!r}")
            if not (NAME.fullmatch(name) or _is_arithmetic(name)):
                raise _unsafe(what, f"a name is {name[:60]!r}")
            _check_value(item, name, what)
    elif isinstance(value, list):
        for item in value:
            _check_value(item, key, what)
    elif isinstance(value, str) and key != "as_string":
        # Strings given to operators stay strings; all others are read as something else.
        _check_string(value, key, what)


def _check_string(value: str, key: str, what: str) -> None:
    if key in ("expr_str", "guards_code"):
        if not _is_arithmetic(value):
            raise _unsafe(what, f"an expression about sizes is {value[:60]!r}")
    elif key in ("in_spec", "out_spec"):
        _check_tree(json.loads(value), what)
    elif key == "target":
        found = ATEN.fullmatch(value)
        if not (OTHERS.fullmatch(value) if found is None else is_operator(found[1])):
            raise _unsafe(
                what, f"it calls {shown(value)}, which is no operator of torch's networks"
            )
    elif not (WORD if key == "name" else NAME).fullmatch(value):
        raise _unsafe(what, f"a name is {value[:60]!r}")


def _is_arithmetic(expression: str) -> bool:
    """Whether an expression only computes with sizes."""
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, NODES):
            return False
        if isinstance(node, ast.Call) and not (
            (isinstance(node.func, ast.Name) and FUNCTION.fullmatch(node.func.id))
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "size")
        ):
            return False
        if isinstance(node, ast.Attribute) and node.attr != "size":
            return False
        if isinstance(node, ast.Name) and not (
            FUNCTION.fullmatch(node.id) or SYMBOL.fullmatch(node.id)
        ):
            return False
        if isinstance(node, ast.Constant) and not (
            isinstance(node.value, (int, float))
            or (isinstance(node.value, str) and ARGUMENT.fullmatch(node.value))
        ):
            return False
    return True


def _check_tree(tree: Any, what: str) -> None:
    if isinstance(tree, list):
        for item in tree:
            _check_tree(item, what)
    elif isinstance(tree, dict):
        if tree.get("type") not in TREES:
            raise _unsafe(what, f"it takes or returns a {shown(str(tree.get('type')))}")
        _check_tree(tree.get("children_spec", []), what)


def _check_data(name: str, part: bytes, what: str) -> None:
    """Refuse what could not be loaded without executing it."""
    try:
        config = json.loads(part)["config"].values()
        odd = [
            str(entry["path_name"])
            for entry in config
            if entry["use_pickle"] or not PATH.fullmatch(entry["path_name"])
        ]
    except (*LOADING_ERRORS, RecursionError) as error:
        raise ModelError(f"{what}: {name} is damaged; export the network again") from error
    if odd:
        raise _unsafe(what, f"{shown(odd[0])} is a pickled object")


def _plain_tensors(name: str, part: bytes, what: str) -> bytes:
    """Return pickled tensors as pickled again: what was loaded as such, and nothing else."""
    if not part:
        return part
    try:
        tensors = torch.load(io.BytesIO(part), map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unsafe(what, f"{name} holds other pickled objects than tensors") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and type(tensor) in (torch.Tensor, nn.Parameter)
        for key, tensor in tensors.items()
    ):
        raise _unsafe(what, f"{name} holds other pickled objects than tensors")
    again = io.BytesIO()
    torch.save(dict(tensors), again)
    return again.getvalue()


def _unsafe(what: str, reason: str) -> ModelError:
    return ModelError(
        f"{what}: {reason}; loading it could execute code from the file, which is never done here: "
        "export the network with torch.export.save from torch's own operators"
    )
