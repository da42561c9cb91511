"""A shard: which part of the work is this worker's, without a word to the others.

    7 things, 3 shards     |0 1 2|3 4|5 6|     contiguous, the first ones longer by one

Every worker lists the same things in the same order and takes its own part of them. Which part it
is comes from the option `--shard i/n`, or from what started the worker, where the option is absent:

- an Indexed Job of Kubernetes: JOB_COMPLETION_INDEX, which it sets, and JOB_COMPLETION_COUNT, the
  number of completions, which it does not set and the Job must;
- torchrun: RANK and WORLD_SIZE.

The option wins over both. Two starters that disagree are refused, and so is an index without its
count: every worker would do all the work, or the wrong part of it. Variables may be left over from
something else, so the first line of the log says which of them made a shard.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from exactile.errors import SettingsError

VARIABLES = (("JOB_COMPLETION_INDEX", "JOB_COMPLETION_COUNT"), ("RANK", "WORLD_SIZE"))
"""Index and count by the names that they have in the environment."""

logger = logging.getLogger(__name__)

_TEXT = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of `count` equal parts of the work.

    >>> str(Shard(0, 3)), Shard(0, 3).part(7), Shard(2, 3).part(7)
    ('0/3', range(0, 3), range(5, 7))
    """

    index: int
    """Which part, from 0 to `count` - 1."""
    count: int
    """Into how many parts the work is split."""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"there is no shard {self.index} of {self.count}; shards are numbered from 0"
            )

    def part(self, total: int) -> range:
        """Return which of `total` things are this shard's: none where there are more shards."""
        size, longer = divmod(total, self.count)
        start = self.index * size + min(self.index, longer)
        return range(start, start + size + (self.index < longer))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


ALL = Shard(0, 1)
"""All of the work."""


def parse_shard(text: str) -> Shard:
    """Return the shard that `text` names, such as 0/3.

    Raises:
        ValueError: with what is wrong and what to write; the sentence starts after the value.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a shard; use index/count, the index from 0, such as 0/3")
    index, count = map(int, match.groups())
    if count == 0:
        raise ValueError("splits the work into no parts; use a count of at least 1, such as 0/1")
    if index >= count:
        raise ValueError(
            f"is out of range: the {count} shards are numbered from 0/{count} to "
            f"{count - 1}/{count}"
        )
    return Shard(index, count)


def shard_from(option: str, environment: Mapping[str, str]) -> Shard | None:
    """Return the shard that `option` names, else the environment; None for all of the work.

    Blank values count as absent. The log says which variables made a shard.

    Raises:
        SettingsError: for what is no shard, an index without its count, and variables that
            disagree.
    """
    if option.strip():
        return _parse(option, f"--shard {option!r}")
    found: dict[str, Shard] = {}
    for index_name, count_name in VARIABLES:
        index, count = (environment.get(name, "").strip() for name in (index_name, count_name))
        if not index:
            continue
        if not count:
            raise SettingsError(
                f"{index_name} is {index}, but {count_name} is not set, so the number of shards "
                f"is unknown; set {count_name} to it, give --shard (0/1 for all of the work), or "
                f"unset {index_name}"
            )
        given = f"{index_name}={index} {count_name}={count}"
        found[given] = _parse(f"{index}/{count}", given)
    if len(set(found.values())) > 1:
        raise SettingsError(
            f"{' and '.join(found)} name different shards; say which with --shard, or unset those "
            "that are left over"
        )
    if found:
        shard = next(iter(found.values()))
        logger.warning(
            "%s in the environment: this run is shard %s; unset them where whole images are meant",
            " and ".join(found),
            shard,
        )
        return shard
    return None


def _parse(text: str, given: str) -> Shard:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise SettingsError(f"{given} {error}") from error
