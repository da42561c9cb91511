"""Shards: which part of the work is a worker's, and who says so."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactile.errors import SettingsError
from exactile.shard import Shard, parse_shard, shard_from

POD = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETION_COUNT": "7"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4"}


@given(st.integers(0, 10_000), st.integers(1, 50))
def test_parts_follow_one_another_and_differ_in_size_by_at_most_one(total: int, count: int) -> None:
    parts = [Shard(index, count).part(total) for index in range(count)]
    assert [thing for part in parts for thing in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 10**9 - 1), st.data())
def test_a_shard_is_read_as_it_is_written(count: int, data: st.DataObject) -> None:
    shard = Shard(data.draw(st.integers(0, count - 1)), count)
    assert parse_shard(str(shard)) == shard


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3/3", "is out of range: the 3 shards are numbered from 0/3 to 2/3"),
        ("0/0", "splits the work into no parts"),
        ("1", "is not a shard; use index/count"),
        ("-1/3", "is not a shard"),
        ("1/-3", "is not a shard"),
        ("a/b", "is not a shard"),
        ("1/2/3", "is not a shard"),
    ],
)
def test_what_is_no_shard_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"--shard {text!r} {message}")):
        shard_from(text, {})


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [
        ("", {}, None),
        ("  ", {"RANK": "", "WORLD_SIZE": ""}, None),
        ("", {"WORLD_SIZE": "4", "JOB_COMPLETION_COUNT": "7"}, None),
        (" 1/3 ", {}, Shard(1, 3)),
        ("", POD, Shard(2, 7)),
        ("", TORCHRUN, Shard(1, 4)),
        ("", POD | {"RANK": "2", "WORLD_SIZE": "7"}, Shard(2, 7)),
    ],
)
def test_the_shard_comes_from_the_option_or_else_from_what_started_the_worker(
    option: str, environment: dict[str, str], expected: Shard | None
) -> None:
    assert shard_from(option, environment) == expected


def test_the_option_wins_over_what_started_the_worker() -> None:
    assert shard_from("0/1", POD | TORCHRUN) == Shard(0, 1)
    assert shard_from("0/1", {"JOB_COMPLETION_INDEX": "2"}) == Shard(0, 1)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (POD | TORCHRUN, "JOB_COMPLETION_INDEX=2 .* and RANK=1 WORLD_SIZE=4 name different shards"),
        ({"JOB_COMPLETION_INDEX": "2"}, "JOB_COMPLETION_COUNT is not set"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK=4 WORLD_SIZE=4 is out of range"),
    ],
)
def test_an_environment_that_does_not_name_one_shard_is_refused(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        shard_from("", environment)


def test_the_log_names_the_variables_that_made_a_shard(caplog: pytest.LogCaptureFixture) -> None:
    shard_from("", TORCHRUN)
    assert caplog.messages == [
        "RANK=1 WORLD_SIZE=4 in the environment: this run is shard 1/4; unset them where whole "
        "images are meant"
    ]
    caplog.clear()
    shard_from("1/4", TORCHRUN)
    shard_from("", {"WORLD_SIZE": "4"})
    assert caplog.messages == []
