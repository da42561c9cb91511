"""The errors of partitioned runs."""

from __future__ import annotations

from exactile.errors import ExactileError


class PartitionError(ExactileError):
    """A mesh or parts that do not fit together; the message says what would."""


class NotPartitioned(PartitionError):  # noqa: N818 - a verdict, named like `NotLocal`
    """An operator without a rule, or called as its rule cannot follow; the message names it."""


class LostRank(PartitionError):  # noqa: N818 - says what happened
    """Other ranks do not answer; the message names them."""


class Refused(Exception):  # noqa: N818 - carries a reason from a rule to the dispatch
    """A rule's refusal of one call; the dispatch adds the operator and the module."""
