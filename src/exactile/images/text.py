"""Text that every kind of file can hold."""

from __future__ import annotations

import re

_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fit_for_xml(text: str) -> str:
    r"""Return `text` with a replacement character for each one that XML 1.0 cannot hold.

    These are control characters, single surrogates, and two that Unicode has for no use. JSON could
    hold some of them; a name is to be the same in whatever is written.

    >>> ascii(fit_for_xml("a" + chr(0)))[-7:-1]
    '\\ufffd'
    """
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)
