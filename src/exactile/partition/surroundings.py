"""A part with what lies around it, in pieces: read where it is needed, and never all copied.

    +-----+-----------+-----+
    |  3  |     1     |  4  |    0      the part, which the network holds anyhow
    |     +-----------+     |    1, 2   planes received along the first axis
    |     |     0     |     |    3, 4   planes received along the second, with the corners
    |     +-----------+     |
    |     |     2     |     |    beyond the outer border there is no piece: zeros
    +-----+-----------+-----+

Pieces have places in positions of the whole tensor. Those received stay in the buffers that they
arrived in. Exchanged are the same planes, in the same order, as by `exchange.fetch_box`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from exactile.geometry import Box, Interval
from exactile.partition.exchange import Want
from exactile.partition.mesh import Mesh
from exactile.partition.tensor import own_part


@dataclass(frozen=True, slots=True)
class Piece:
    """Values, and which of the whole they are."""

    box: Box
    """Positions of the whole tensor, along all of its dimensions."""
    values: Tensor
    """Of the shape of the box."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A part and the planes around it."""

    pieces: tuple[Piece, ...]
    """The part first."""
    box: Box
    """All that this rank wants; it may reach beyond the whole."""

    def read(self, box: Box) -> Tensor:
        """Return the values in `box`, with zeros where there is no piece."""
        return _read(self.pieces, box)

    def with_values(self, values: Sequence[Tensor]) -> Surroundings:
        """Return the same places with these values."""
        pairs = zip(self.pieces, values, strict=True)
        return Surroundings(tuple(Piece(piece.box, v) for piece, v in pairs), self.box)


def surround(local: Tensor, mesh: Mesh, wants: Sequence[Want]) -> Surroundings:
    """Exchange what `wants` says, each in one run, around the part `local`."""
    own = [Interval(0, side) for side in local.shape]
    for want in wants:
        own[want.dim] = own_part(want.split, mesh)
    pieces = [Piece(Box(tuple(own)), local)]
    # Dimensions that were exchanged before have all that is wanted, those to come the own part.
    known, reads = list(own), list(own)
    for want in wants:
        axis, dim = want.split.axis, want.dim
        me = mesh.coordinate[axis]
        runs = [_run(want, place) for place in range(len(want.wanted))]
        sends, receives = [], []
        for place, part in enumerate(want.split.parts):
            if place == me:
                continue
            peer = mesh.peer(axis, place)
            if (there := _at(known, dim, runs[place] & own[dim])).size:
                sends.append((peer, _read(pieces, there)))
            if (here := _at(known, dim, runs[me] & part)).size:
                receives.append((peer, Piece(here, local.new_empty(here.shape))))
        buffers = [(peer, piece.values) for peer, piece in receives]
        wait = mesh.swap(sends, buffers)
        mesh.journal.add(sum(buffer.nbytes for _, buffer in buffers), len(buffers))
        wait()
        pieces += [piece for _, piece in receives]
        known[dim] = runs[me]
        mine = want.wanted[me]
        reads[dim] = Interval(runs[me].start - mine.low, runs[me].stop + mine.high)
    return Surroundings(tuple(pieces), Box(tuple(reads)))


def _run(want: Want, place: int) -> Interval:
    """Return the run of positions that a rank wants; if none, an empty one beyond the border."""
    mine = want.wanted[place]
    beyond = want.split.extent + mine.low
    return mine.runs[0] if mine.runs else Interval(beyond, beyond)


def _at(known: Sequence[Interval], dim: int, interval: Interval) -> Box:
    """Return the box of `known` with another interval along `dim`."""
    return Box((*known[:dim], interval, *known[dim + 1 :]))


def _read(pieces: Sequence[Piece], box: Box) -> Tensor:
    like = pieces[0].values
    commons = [(piece, piece.box & box) for piece in pieces]
    if sum(common.size for _, common in commons) == box.size:
        made = like.new_empty(box.shape)
    else:
        made = like.new_zeros(box.shape)
    for piece, common in commons:
        if common.size:
            values = piece.values[common.relative_to(piece.box).slices]
            made[common.relative_to(box).slices].copy_(values)
    return made
