"""Files as disks, tools and people spoil them: structurally where they are JSON, and byte-wise."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, -(2**63), 2**200, 10**99, 10**400),
    *(0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, -1e308, float("nan"), float("inf")),
    *("", "x", "0", "1.5", "../../x", "/etc/passwd", "a\0b", "\ud800", "\u202e", "x" * 5000),
    *([], {}, [[]], [1, 2], [1, 2, 3, 4, 5, 6], ["a"], [None], {"a": 1}, [{"a": [1]}]),
)


def change_json(value: Any, rng: random.Random) -> Any:
    """Return `value` with one to three of its parts replaced, left out, doubled or nested."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holders = [value]
        for each in holders:
            inner = each.values() if isinstance(each, dict) else each
            holders += [part for part in inner if isinstance(part, dict | list) and part]
        holder = rng.choice(holders)
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        match rng.randrange(8):
            case 0:
                del holder[key]
                if not value:
                    return value
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 1:
                holder[f"{key} "] = holder[key]
            case 2:
                for _ in range(rng.choice((1, 5, 150))):
                    holder[key] = [holder[key]]
            case 3 if isinstance(holder[key], int | float):
                holder[key] += rng.choice((-1, 1, 0.5, 2**20, -(2**40)))
            case 4:
                holder[key] = copy.deepcopy(rng.choice(holders))
            case _:
                holder[key] = copy.deepcopy(rng.choice(STRANGE))
    return value


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with bytes changed, cut, doubled, of another encoding, or something else."""
    spoilt = bytearray(data)
    match rng.randrange(12):
        case 0:
            return data[: rng.randrange(len(data) + 1)]
        case 1:
            start = rng.randrange(len(data))
            return data[:start] + data[start + rng.randrange(1, 40) :]
        case 2:
            start = rng.randrange(len(data))
            return data[:start] + data[start : start + rng.randrange(1, 400)] + data[start:]
        case 3:
            return data.decode("latin-1").encode(rng.choice(("utf-16", "utf-32", "cp037")))
        case 4:
            return rng.choice(
                (b"", b"\n", b"null", b"[]", b"{}", b"\xef\xbb\xbf" + data, b"\0" * 99)
            )
        case 5:
            depth = rng.choice((100, 199, 1000, 100_000))
            return rng.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth))
        case 6:
            numbers = (b"1" * 6000, b"1e999", b"-Infinity", b"NaN", b"1" * 400, b"-1", b"0x1f")
            return data.replace(rng.choice((b"0", b"1", b"2")), rng.choice(numbers), 1)
        case 7:
            lines = data.splitlines(keepends=True)
            rng.shuffle(lines)
            return b"".join(lines + lines[: rng.randrange(2)])
        case _:
            for _ in range(rng.choice((1, 1, 3, 20))):
                spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
            return bytes(spoilt)


def to_text(value: Any) -> bytes:
    """Return `value` as JSON text, also where it has what JSON has no words for."""
    return json.dumps(value).encode()
