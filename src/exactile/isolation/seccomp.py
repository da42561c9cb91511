"""seccomp: from here on this process may only make the system calls that are listed.

They compute, read, take memory, make threads, and end. Every other call fails with an error, as if
it were not permitted: to open a file for writing, to make, rename or remove one, to start a process
or a program, to open a socket, to send a signal to another process, to trace or to mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable

from exactile.isolation.system_calls import ARCHITECTURES, Calls

_SET_SECCOMP, _FILTER = 22, 2

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
"""Instructions: load 32 bits, jump if equal, jump if any of these bits is set, return."""

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where the number of a call, the architecture and the arguments lie."""

_ALLOW, _FAIL = 0x7FFF0000, 0x00050000

_CLONE_THREAD = 0x00010000

_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | (0o20000000)
"""Flags of `open` for files that are to be changed; the last one makes a nameless file."""

Instruction = tuple[int, int, int, int]
"""Code, jumps if true and if false, and a number."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def restrict() -> str:
    """Forbid this process all other calls, with all threads that it makes.

    `no_new_privs` must be set. Returns what is in force, for people; empty where neither the kernel
    has it nor the calls of this machine are known.
    """
    calls = ARCHITECTURES.get(platform.machine())
    if calls is None:
        return ""
    code = b"".join(struct.pack("HBBI", *each) for each in program(calls, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    described = _Program(len(code) // 8, ctypes.addressof(buffer))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(described), 0, 0) != 0:
        return ""
    return "seccomp"


def program(calls: Calls, process: int) -> list[Instruction]:
    """Return the filter of system calls for the process of this number."""
    fail = _FAIL | errno.EPERM
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, calls.audit),
        (_RETURN, 0, 0, fail),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in calls.allowed:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number, flags in calls.opening:
        code += _when(number, flags, (_ANY_BIT, 0, 1, _CHANGES), fail, _ALLOW)
    code += _when(calls.clone, 0, (_ANY_BIT, 0, 1, _CLONE_THREAD), _ALLOW, fail)
    code += _when(calls.signal, 0, (_EQUAL, 0, 1, process), _ALLOW, fail)
    for number, error in calls.absent:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _FAIL | error)]
    return [*code, (_RETURN, 0, 0, fail)]


def _when(
    number: int, argument: int, test: Instruction, then: int, otherwise: int
) -> Iterable[Instruction]:
    """Return what answers a call by a test of one of its arguments."""
    return (
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        test,
        (_RETURN, 0, 0, then),
        (_RETURN, 0, 0, otherwise),
    )
