"""A copy of a TorchScript file that holds what was checked, and nothing else.

torch's own readers find members of an archive by names that differ in case, take one of two of the
same name, and resolve whatever a pickle names. So the file is not given to them: a new archive is,
with the members that are on the list below, after their code (`script_code`) and the operations of
their pickles were found to be those of a network. All else is left out: descriptions of where the
code came from, extra files, serial numbers.
"""

from __future__ import annotations

import pickletools
import re

from exactile.errors import ModelError
from exactile.models.formats.content import members_of, open_archive, repacked, shown
from exactile.models.formats.script_code import ForbiddenError, check_code

CODE = re.compile(r"code/(__torch__(?:/\w+)*\.py)", re.ASCII)
DATA = re.compile(r"(?:data|constants)/\d{1,9}", re.ASCII)
PICKLES = ("data.pkl", "constants.pkl")
FACTS = {
    "version": re.compile(rb"\d{1,3}\n?"),
    ".data/version": re.compile(rb"\d{1,3}\n?"),
    "byteorder": re.compile(rb"little|big"),
}

GLOBALS = re.compile(
    r"__torch__(?!\.torch\.classes\b)(?:\.\w+)* \w+"
    r"|collections OrderedDict"
    r"|torch (?:Float|Double|Half|BFloat16|Byte|Char|Short|Int|Long|Bool|ComplexFloat"
    r"|ComplexDouble)Storage"
    r"|torch\._utils _rebuild_(?:tensor_v2|parameter)"
    r"|torch\.jit\._pickle (?:restore_type_tag|build_(?:int|double|bool|tensor)list)",
    re.ASCII,
)
"""What a pickle of a network may name: classes that the file defines, and how tensors are built."""

_OPERATIONS = """
PROTO MARK STOP POP EMPTY_TUPLE EMPTY_DICT EMPTY_LIST TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL REDUCE
NEWOBJ BUILD BINPUT LONG_BINPUT BINGET LONG_BINGET BINUNICODE BINUNICODE8 SHORT_BINUNICODE
SHORT_BINSTRING BINSTRING BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT NONE NEWTRUE NEWFALSE APPEND
APPENDS SETITEM SETITEMS BINPERSID
"""
OPERATIONS = frozenset(_OPERATIONS.split())
"""Operations of the pickles that torch writes for TorchScript."""

DO = "export the network again with torch.jit.script or torch.jit.trace, from torch's own operators"


def harmless_script(content: bytes, what: str) -> bytes:
    """Return the archive in `content` with what was checked alone; `what` names it in a refusal.

    Raises:
        ModelError: if it is damaged, or holds something else than a network's code and weights.
    """
    members = members_of(open_archive(content, what), what)
    kept = {name: member for name, member in members.items() if _is_kept(name)}
    code = {
        found[1]: member.read()
        for name, member in kept.items()
        if (found := CODE.fullmatch(name)) is not None
    }
    if not code or not set(PICKLES) <= kept.keys():
        raise ModelError(f"{what}: cannot be loaded as TorchScript: it holds no code; {DO}")
    try:
        check_code(code)
        for name in PICKLES:
            _check_pickle(name, kept[name].read())
    except ForbiddenError as error:
        raise ModelError(
            f"{what}: its {error}; loading it could do more than compute, which is never "
            f"allowed here: {DO}"
        ) from error
    for name, form in FACTS.items():
        if name in kept and not form.fullmatch(kept[name].read()):
            raise ModelError(f"{what}: its member {name} is damaged; copy or {DO}")
    return repacked({name: member.read() for name, member in kept.items()}, "archive")


def _is_kept(name: str) -> bool:
    return name in PICKLES or name in FACTS or bool(CODE.fullmatch(name) or DATA.fullmatch(name))


def _check_pickle(name: str, content: bytes) -> None:
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name not in OPERATIONS:
                raise ForbiddenError(f"member {name} has the operation {operation.name}")
            if operation.name == "GLOBAL" and not GLOBALS.fullmatch(str(argument)):
                raise ForbiddenError(f"member {name} names {shown(str(argument))}")
    except ForbiddenError:
        raise
    except Exception as error:
        raise ForbiddenError(f"member {name} is damaged") from error
