"""Numbers of bytes as people write them: 8GB, 512 MiB, 2e9.

Units as in Kubernetes: K, M, G and T are powers of 1000, Ki, Mi, Gi and Ti powers of 1024; a B may
follow, and case does not matter. A number alone is bytes.
"""

from __future__ import annotations

import re

LEAST_BYTES = 64 * 10**6
"""Less cannot hold a window of any network worth running: a number without its unit, most likely.
"""

_SIZE = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)\s*([kmgt]i?)?(b)?", re.IGNORECASE)
_MOST_BYTES = 2**63
_PREFIXES = " kmgt"


def parse_size_in_bytes(text: str) -> int:
    """Return the number of bytes that `text` means.

    Raises:
        ValueError: saying what is wrong, as the rest of a sentence that begins with the text.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a size of memory; use auto, or a number such as 8GB or 7.5GiB")
    number, unit, _ = match.groups()
    unit = (unit or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    size = float(number) * float(base) ** _PREFIXES.index(unit[:1] or " ")
    if size < LEAST_BYTES:
        raise ValueError(
            f"is {size:.0f} bytes, but a run needs {format_size(LEAST_BYTES)} at least; give more, "
            "with its unit, such as 8GB"
        )
    if size >= _MOST_BYTES:
        raise ValueError("is more memory than there can be; use a number such as 8GB")
    return round(size)


def format_size(size: int) -> str:
    """Return `size` bytes for people, in MB or GB of powers of 1000."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"
