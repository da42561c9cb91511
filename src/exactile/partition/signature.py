"""The arguments of a call by their names, from the schema of the very overload that is called.

One name of torch stands for several signatures: `norm(p, dim)` and `norm(dim=...)`, `max(dim)` and
`max(other)`, `var(unbiased)` and `var(dim)`, `flip(2, 3)` and `flip([2, 3])`; a method, a function
and an operator of an exported program differ besides. So no rule looks at places. What is called is
looked up:

- an overload of ATen has its schema;
- a function written in Python has its own signature;
- a builtin has the schemas of its name in ATen, of which the call fits one by number and types of
  what is given. Torch has checked beforehand that it fits any.

A rule then gets every argument by the rule's own name for it, defaults of the overload included. An
argument that the rule has no name for is refused, unless it has its default value.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from exactile.partition.refusal import Refused

NOTHING = inspect.Parameter.empty

SYNONYMS = {
    "dims": "dim",
    "axis": "dim",
    "dimension": "dim",
    "keepdims": "keepdim",
    "size": "shape",
    "sizes": "shape",
    "split_size_or_sections": "split_size",
    "split_sizes": "split_size",
    "indices_or_sections": "split_size",
    "axis0": "dim0",
    "axis1": "dim1",
    "scale_factors": "scale_factor",
    "output_size": "size",
    "ord": "p",
    "train": "training",
}
"""Names that signatures have for what rules call by another."""

BESIDE_VALUES = frozenset(
    {"cudnn_enabled", "cudnn_enable", "_stacklevel", "implicit", "memory_format", "inplace"}
)
"""Arguments that say how a result is computed or kept, and nothing of its values."""


@dataclass(frozen=True, slots=True)
class Given:
    """One argument of a call."""

    name: str
    """Its name in the signature."""
    value: Any
    """What was given, or the default."""
    is_default: bool
    """Whether nothing else than the default was given."""


def bind(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], rule: Any) -> dict[str, Any]:
    """Return the arguments of a call of `func` by the names that `rule` has for them.

    Raises `Refused` where an argument has a value that the rule knows nothing of.
    """
    names = _names(rule)
    bound: dict[str, Any] = {}
    for place, each in enumerate(_given(func, args, kwargs, rule)):
        name = names[0] if place == 0 else each.name
        if name not in names:
            name = SYNONYMS.get(name, name)
        if name in names:
            bound[name] = each.value
        elif not each.is_default and each.name not in BESIDE_VALUES:
            raise Refused(f"its argument {each.name} has no rule; leave it out")
    return bound


@cache
def _names(rule: Any) -> tuple[str, ...]:
    """Return the parameters of a rule but its first, which is the function."""
    return tuple(inspect.signature(rule).parameters)[1:]


def _given(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], rule: Any) -> list[Given]:
    if isinstance(func, OpOverload):
        made = _by_schema(_parameters(func), args, kwargs)
        if made is None:
            raise Refused("its arguments do not fit its schema")
        return made
    signature = _signature(func)
    if signature is None:
        for overload in overloads_of(func):
            made = _by_schema(_parameters(overload), args, kwargs)
            if made is not None:
                return made
        signature = inspect.signature(rule)
        args = (func, *args)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise Refused(f"its arguments are none that its rule knows ({error})") from None
    given = set(bound.arguments)
    bound.apply_defaults()
    made = [
        Given(name, value, name not in given or _equal(value, signature.parameters[name].default))
        for name, value in bound.arguments.items()
    ]
    return made if made[0].name != "func" else made[1:]


def _equal(value: Any, default: Any) -> bool:
    """Whether a plain value is the default; tensors and lists are none."""
    return value is default or (
        isinstance(value, (bool, int, float, str))
        and type(value) is type(default)
        and value == default
    )


@cache
def _signature(func: Any) -> inspect.Signature | None:
    """Return the signature of a function written in Python that names its arguments."""
    if not isinstance(func, FunctionType):
        return None
    made = inspect.signature(func)
    kinds = {parameter.kind for parameter in made.parameters.values()}
    return None if inspect.Parameter.VAR_KEYWORD in kinds else made


@cache
def overloads_of(func: Any) -> tuple[OpOverload, ...]:
    """Return the overloads of ATen by the name of a builtin, those that return new tensors."""
    packet = getattr(torch.ops.aten, func.__name__, None)
    if packet is None:
        return ()
    found = (getattr(packet, name) for name in packet.overloads())
    return tuple(o for o in found if not o._schema.is_mutable and _takes_tensors(o))


def overload_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> OpOverload | None:
    """Return the overload that a call of a builtin, or of an overload itself, is of."""
    if isinstance(func, OpOverload):
        return func
    found = overloads_of(func)
    return next((o for o in found if _by_schema(_parameters(o), args, kwargs) is not None), None)


def _takes_tensors(overload: OpOverload) -> bool:
    """Whether its first argument holds a tensor: other operators of a name work on lists."""
    arguments = overload._schema.arguments
    return bool(arguments) and str(arguments[0].real_type) in ("Tensor", "List[Tensor]")


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    kind: str
    """The type as the schema writes it, without what is below."""
    is_list: bool
    optional: bool
    single: bool
    """One value may be given for a list."""
    by_name_only: bool
    default: Any


@cache
def _parameters(overload: OpOverload) -> tuple[_Parameter, ...]:
    made = []
    for argument in overload._schema.arguments:
        kind = str(argument.real_type)
        optional = kind.startswith("Optional[")
        kind = kind.removeprefix("Optional[").removesuffix("]") if optional else kind
        is_list = kind.startswith("List[")
        kind = kind.removeprefix("List[").removesuffix("]") if is_list else kind
        default = argument.default_value if argument.has_default_value() else NOTHING
        made.append(
            _Parameter(
                argument.name,
                kind.removeprefix("Optional[").removesuffix("]"),
                is_list,
                optional,
                getattr(argument, "N", None) is not None,
                argument.kwarg_only,
                default,
            )
        )
    return tuple(made)


def _by_schema(
    parameters: Sequence[_Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Given] | None:
    """Return the arguments of a call by a schema's names; None if the call does not fit it."""
    by_place = [parameter for parameter in parameters if not parameter.by_name_only]
    given = list(args)
    ones = all(isinstance(value, (int, torch.SymInt)) for value in given[1:])
    if len(by_place) == 2 and by_place[1].is_list and len(given) > 1 and ones:
        # The numbers of the only list of a method may be given one by one.
        given = [given[0], given[1:]]
    if len(given) > len(by_place):
        return None
    left = dict(kwargs)
    made = []
    for place, parameter in enumerate(parameters):
        if place < len(given) and not parameter.by_name_only:
            value = given[place]
        else:
            spellings = [parameter.name, *(o for o, n in _SAME.items() if n == parameter.name)]
            if place == 0:
                spellings += ["self", "input"]
            spelling = next((each for each in spellings if each in left), None)
            value = NOTHING if spelling is None else left.pop(spelling)
        if value is NOTHING:
            if parameter.default is NOTHING:
                return None
            made.append(Given(parameter.name, parameter.default, True))
        elif not _fits(value, parameter):
            return None
        else:
            made.append(Given(parameter.name, value, _equal(value, parameter.default)))
    return None if left else made


_SAME = {"axis": "dim", "keepdims": "keepdim", "axis0": "dim0", "axis1": "dim1"}
"""Names of NumPy's that torch takes for its own."""

_TYPES: dict[str, tuple[type, ...]] = {
    "Tensor": (Tensor,),
    "int": (int, torch.SymInt),
    "SymInt": (int, torch.SymInt),
    "float": (float, int, torch.SymFloat, torch.SymInt),
    "number": (float, int, complex, torch.SymFloat, torch.SymInt),
    "bool": (bool, torch.SymBool),
    "str": (str,),
    "ScalarType": (torch.dtype,),
    "MemoryFormat": (torch.memory_format,),
    "Layout": (torch.layout,),
    "Device": (torch.device, str, int),
}
"""What Python gives for a type of a schema."""


def _fits(value: Any, parameter: _Parameter) -> bool:
    if value is None:
        return parameter.optional or (parameter.is_list and parameter.default is None)
    if parameter.is_list and isinstance(value, (list, tuple)):
        return all(each is None or _is(each, parameter.kind) for each in value)
    return (parameter.single or not parameter.is_list) and _is(value, parameter.kind)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind in ("bool", "number")
    return isinstance(value, _TYPES.get(kind, ()))
