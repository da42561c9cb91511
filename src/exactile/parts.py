"""The parts of images that shards left in a folder: found, and seen to be all and to fit.

What is asked of a folder before anything is put together:

- the shards' records are of one split, and all of its shards have left one;
- every part that they name is there with its certificate, and no other file pretends to be one;
- all certificates agree in the facts that the bits depend on: model, settings, versions, machine;
  those of one image also in the image, and in the numbers of its normalisation;
- the parts of an image cover each row of each plane exactly once.

What is refused is named. Where the parts came from a workflow step whose images lie in a folder
`images`, records and certificates may lie there or beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from exactile.certificate import certificate_path
from exactile.certified import Certified, read_certificate
from exactile.errors import ExactileError
from exactile.identity import OF_THE_CONTAINER, OF_THE_IMAGE, THE_PART
from exactile.images import OutputImage
from exactile.images.chunk_rows import ChunkRows
from exactile.images.digest import FileDigest
from exactile.images.grid import cell_count
from exactile.images.journal import differences
from exactile.images.links import is_plain_name
from exactile.images.zarr_layout import is_zarr_name
from exactile.shard import Shard
from exactile.shard_files import SHARDS, ShardRecord, chunk_rows
from exactile.sharding import Part
from exactile.stored_json import MalformedError
from exactile.tiling import WRITER_TILE

SHOWN = 5
"""How many names a message has."""


class AssemblyError(ExactileError):
    """Parts that are missing, or do not fit each other; the message names them."""


@dataclass(frozen=True)
class StoredPart:
    """A part on disk, with what its certificate says."""

    path: Path
    """Its file; of a part of an OME-Zarr, only the name."""
    part: Part
    """What it has of the image."""
    output: str
    """Name of the whole."""
    image: OutputImage
    """Description of the whole."""
    file: FileDigest
    """What its file held when it was written."""
    identity: dict[str, Any]
    """All that its bits depend on."""
    normalization: dict[str, Any]
    """The steps of the normalisation with the numbers of its plane, by plane."""
    certificate_file: Path
    """Where its certificate lies."""
    chunks: ChunkRows | None = None
    """Where its chunks lie, if it is part of an OME-Zarr; no file has its name then."""

    def certificate(self) -> Certified:
        """Return its certificate; parts may be many, so it is not kept.

        Raises OSError, MalformedError.
        """
        return read_certificate(self.certificate_file)

    @property
    def identity_of_whole(self) -> dict[str, Any]:
        """All that the bits of the whole image depend on."""
        return {name: fact for name, fact in self.identity.items() if name != THE_PART}


def find_parts(inp_dir: Path) -> dict[str, tuple[StoredPart, ...]]:
    """Return the parts in `inp_dir` in their order, by the name of the whole image.

    Raises:
        AssemblyError: if parts are missing, too many, or do not fit each other; see the module.
    """
    if not inp_dir.is_dir():
        raise AssemblyError(f"--inpDir {inp_dir} is no folder: give the outDir of the shards")
    roots = [folder for folder in (inp_dir, inp_dir / "images") if folder.is_dir()]
    records = _records(roots, inp_dir)
    _check_shards(records, inp_dir)
    owners = {name: record.index for record in records.values() for name in record.parts}
    _check_files(roots, owners)
    parts = [_read(roots, name, index) for name, index in owners.items()]
    _check_chunks(parts)
    _check_facts(parts)
    images: dict[str, list[StoredPart]] = {}
    for part in parts:
        images.setdefault(part.output, []).append(part)
    return {name: _in_order(group) for name, group in sorted(images.items())}


def _records(roots: Iterable[Path], inp_dir: Path) -> dict[Path, ShardRecord]:
    found: dict[Path, ShardRecord] = {}
    for root in roots:
        for path in sorted((root / SHARDS).glob("*.json")):
            try:
                found[path] = ShardRecord.read(path)
            except (OSError, MalformedError) as error:
                raise AssemblyError(
                    f"{path}: is not the record of a shard ({error}); run that shard again"
                ) from error
    if not found:
        raise AssemblyError(
            f"{inp_dir} holds no parts: {SHARDS} with the records of shards is not in it; give the "
            "outDir of `exactile segment --shard`, with its sub-folders"
        )
    return found


def _check_shards(records: Mapping[Path, ShardRecord], inp_dir: Path) -> None:
    """See that there is one record of each shard of one split."""
    (first, model), *others = records.items()
    seen = {model.index: first}
    for path, record in others:
        if record.count != model.count:
            raise AssemblyError(
                f"{first.name} and {path.name} are of two splits, into {model.count} and "
                f"{record.count} shards: take the records and the parts of one of them away"
            )
        if record.split != model.split:
            raise AssemblyError(
                f"{first.name} and {path.name} are of two collections: their shards saw other "
                "images, or other sizes; run the shards again on the same images"
            )
        if record.index in seen:
            raise AssemblyError(
                f"{seen[record.index]} and {path} are both of shard {record.index}: take one away"
            )
        seen[record.index] = path
    if len(seen) < model.count:
        absent = (index for index in range(model.count) if index not in seen)
        names = [str(Shard(index, model.count)) for index in islice(absent, SHOWN)]
        more = model.count - len(seen) - len(names)
        raise AssemblyError(
            f"{'shard' if len(names) == 1 else 'shards'} {', '.join(names)}"
            f"{f' and {more} more' if more else ''} left no record in {inp_dir}: they are not "
            "done, or were not copied; run them again, which goes on where they stopped"
        )


def _check_files(roots: Iterable[Path], names: Mapping[str, int]) -> None:
    """See that every part is there, once, and that nothing else may be taken for one."""
    there: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob("*.ome.tif*")):
            if path.name.startswith(".") or not path.is_file():
                continue
            if path.name in there:
                raise AssemblyError(f"{there[path.name]} and {path} are duplicates: take one away")
            there[path.name] = path
    missing = [name for name in names if name not in there and not is_zarr_name(name)]
    if missing:
        raise AssemblyError(
            f"missing: {_listed(missing)}; copy them, or run their shards again "
            f"({_listed(sorted({str(names[name]) for name in missing}))})"
        )
    strangers = [str(path) for name, path in there.items() if name not in names]
    if strangers:
        raise AssemblyError(
            f"foreign or duplicate: {_listed(strangers)}; the records of the shards do not name "
            "them: take them away"
        )


def _read(roots: Iterable[Path], name: str, index: int) -> StoredPart:
    """Return the part `name` with what its certificate says."""
    paths = [certificate_path(root / name) for root in roots]
    found = next((each for each in paths if each.is_file()), None)
    if found is None:
        raise AssemblyError(f"{name}: its certificate is missing; copy it to {paths[0]}")
    try:
        certificate = read_certificate(found)
        placed = certificate.part(index)
        if placed is None:
            raise MalformedError("it is that of a whole image")
    except (OSError, MalformedError) as error:
        raise AssemblyError(
            f"{found}: is not the certificate of a part ({error}); run shard {index} again"
        ) from error
    part, output, image = placed
    facts = certificate.result
    if facts.identity.get(THE_PART) != str(part) or not is_plain_name(output):
        raise AssemblyError(
            f"{found}: contradicts itself: it speaks of {part} of {output}, and of "
            f"{facts.identity.get(THE_PART)}; run shard {index} again"
        )
    if part.name != name:
        raise AssemblyError(
            f"{found}: is the certificate of {part.name}, not of {name}: the part is a "
            f"duplicate, or was renamed; run shard {index} again"
        )
    path, chunks = _place(roots, part, output, image)
    return StoredPart(
        path=path,
        part=part,
        output=output,
        image=image,
        file=facts.file,
        identity=dict(facts.identity),
        normalization=facts.input.normalization,
        certificate_file=found,
        chunks=chunks,
    )


def _place(
    roots: Iterable[Path], part: Part, output: str, image: OutputImage
) -> tuple[Path, ChunkRows | None]:
    """Return the file of `part`, or its name and its chunks."""
    if not is_zarr_name(part.name):
        return next(root / part.name for root in roots if (root / part.name).is_file()), None
    places = [chunk_rows(root, output, image, part.plane, part.rows) for root in roots]
    chunks = next((each for each in places if each.store.is_dir()), places[0])
    return Path(part.name), chunks


def _check_chunks(parts: Iterable[StoredPart]) -> None:
    """See that all chunks are there of those parts that are no files."""
    missing = [
        (str(path), str(stored.part.shard))
        for stored in parts
        if stored.chunks is not None
        for path in islice(stored.chunks.missing(), 1)
    ]
    if missing:
        raise AssemblyError(
            f"missing: {_listed([path for path, _ in missing])}; copy the chunks, or run their "
            f"shards again ({_listed(sorted({shard for _, shard in missing}))})"
        )


def _check_facts(parts: Iterable[StoredPart]) -> None:
    """See that all parts were made with the same model, settings, versions, and so on.

    Of the facts that one kind of file alone has, all parts of that kind have the same.
    """
    first: StoredPart | None = None
    of_kind: dict[bool, StoredPart] = {}
    for part in parts:
        first = first or part
        alike = of_kind.setdefault(is_zarr_name(part.output), part)
        for other, left_out in ((first, OF_THE_IMAGE + OF_THE_CONTAINER), (alike, OF_THE_IMAGE)):
            before, after = (
                {name: fact for name, fact in each.identity.items() if name not in left_out}
                for each in (other, part)
            )
            _same(before, after, other, part)


def _in_order(parts: list[StoredPart]) -> tuple[StoredPart, ...]:
    """Return the parts of one image from its first plane to its last, each from top to bottom."""
    ordered = sorted(parts, key=lambda stored: (stored.part.plane, stored.part.rows))
    first = ordered[0]
    steps: dict[str, tuple[StoredPart, Any]] = {}
    for stored in ordered:
        _same(first.identity_of_whole, stored.identity_of_whole, first, stored)
        if stored.image != first.image:
            raise AssemblyError(
                f"{stored.path.name} is foreign: {first.path.name} is of an image of "
                f"{first.image.dimensions} {first.image.dtype}, it is of one of "
                f"{stored.image.dimensions} {stored.image.dtype}, or of other metadata"
            )
        for plane, record in stored.normalization.items():
            other, known = steps.setdefault(plane, (stored, record))
            if record != known:
                raise AssemblyError(
                    f"{stored.path.name} is foreign: {plane} was normalised with other numbers "
                    f"than in {other.path.name}; run both shards again"
                )
    _check_coverage(ordered)
    return tuple(ordered)


def _same(
    before: Mapping[str, Any], after: Mapping[str, Any], first: StoredPart, other: StoredPart
) -> None:
    found = "; ".join(differences(before, after))
    if found:
        raise AssemblyError(
            f"{other.path.name} is foreign, it does not go with {first.path.name}: {found}; run "
            "all shards with the same image, model, settings and versions, on like machines"
        )


def _check_coverage(ordered: list[StoredPart]) -> None:
    image = ordered[0].image
    if (planes := image.size_t * image.size_z) > len(ordered):
        raise AssemblyError(
            f"missing: {ordered[0].output} has {planes} planes, and there are only {len(ordered)} "
            "parts of it; run the shards again on the same image"
        )
    rows = cell_count(image.shape, (WRITER_TILE, WRITER_TILE))[0]
    for plane in image.planes:
        own = [stored for stored in ordered if stored.part.plane == plane]
        reached, last = 0, ""
        for stored in own:
            start, stop = stored.part.rows.start, stored.part.rows.stop
            if start > reached:
                break
            if start < reached:
                raise AssemblyError(
                    f"{last} and {stored.path.name} are duplicates: both hold row {start} of tiles "
                    f"of {plane} of {stored.output}"
                )
            reached, last = stop, stored.path.name
        if reached != rows:
            raise AssemblyError(
                f"missing: row {reached} of the {rows} rows of tiles of {plane} of "
                f"{ordered[0].output} is in no part; run the shards again on the same image"
            )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
