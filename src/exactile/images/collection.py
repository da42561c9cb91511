"""From a folder and a file pattern to image files, and from their names to those of the outputs."""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from unicodedata import normalize

from exactile.errors import CollectionError, SettingsError

DEFAULT_PATTERN = r".*\.ome\.(?:tiff?|zarr)"
"""Every OME-TIFF and OME-Zarr, whether its extension is written small or in capitals. Any other
pattern matches whole names as they are written; `{x:ddd}` is three digits (filepattern's rule)."""

_ANY_TIFF = r".*\.[tT][iI][fF][fF]?"
"""Every TIFF, as a pattern to be given."""

_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.zarr", ".tiff", ".tif", ".zarr")
_WRITABLE = (".ome.tif", ".ome.tiff", ".ome.zarr")
_GIVEN = (*_WRITABLE, ".zarr")
"""What may be asked for: nyxus reads OME-Zarr by the names that end in .zarr alone."""

_OTHER_TIFFS = (".btf", ".lsm", ".ndpi", ".qptiff", ".scn", ".stk", ".svs", ".tf8")
"""Extensions of TIFF files that slides and microscopes have."""
_UNFIT = re.compile("[\\\\/\n\r\ud800-\udfff]")
"""What filepattern cannot have in a name, or takes for something else."""

_ESCAPE_SET_OR_GROUP = re.compile(r"(\\.|\[[^]]*\])|\((?!\?)")


def collect(inp_dir: Path, pattern: str = DEFAULT_PATTERN) -> tuple[Path, ...]:
    """Return the images in `inp_dir` whose names match `pattern`, sorted by name.

    Images are files, and folders whose names end as those of images do; hidden ones never are.
    Links that lead nowhere and other odd things count too: what has the name of an image and is
    none is not left out, but fails when it is opened. Where no regular expression is met, the name
    of a file may be given as it is. Where nothing at the top matches and there is a sub-folder
    `images`, as in the raw output of a workflow step, that is read instead.

    Raises CollectionError for a folder that is missing, empty or without a match, and for a pattern
    that filepattern does not understand.
    """
    try:
        found = _match(inp_dir, pattern)
        chained = inp_dir / "images"
        if not found and chained.is_dir():
            inp_dir, found = chained, _match(chained, pattern)
    except FileNotFoundError as error:
        raise CollectionError(f"{inp_dir} does not exist: give the folder of images") from error
    except NotADirectoryError as error:
        raise CollectionError(
            f"{inp_dir} is not a folder: give the folder of images, and choose among them with "
            "--filePattern"
        ) from error
    except OSError as error:
        raise CollectionError(f"{inp_dir} cannot be listed: {error.strerror or error}") from error
    if not found:
        raise _nothing_found(inp_dir, pattern)
    return found


def output_name(path: Path, extension: str | None = None) -> str:
    """Return the name of the output for the input `path`.

    The input's name is kept, so that the next step finds it in a stitching vector: OME-TIFF and
    OME-Zarr names as they are, `x.tif` as `x.ome.tif`, `x.zarr` as `x.ome.zarr`. `extension`
    replaces the input's; '' is as good as None.

    Raises SettingsError for an extension that cannot be written.
    """
    suffix = next((suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)), "")
    stem = path.name[: len(path.name) - len(suffix)]
    if extension:
        if extension not in _GIVEN:
            raise SettingsError(
                f"output extension {extension!r} cannot be written; use one of "
                f"{', '.join(_GIVEN)} (POLUS_IMG_EXT)"
            )
        return stem + extension
    if path.name.endswith(_WRITABLE):
        return path.name
    return stem + (".ome.zarr" if suffix == ".zarr" else ".ome.tif")


def part_stem(output: str) -> tuple[str, str]:
    """Return the name of the output without its extension, and the extension of its parts."""
    stem, dot, rest = output.rpartition(".ome.")
    suffix = dot + rest
    if suffix in _WRITABLE:
        return stem, suffix
    if output.endswith(".zarr"):
        return output.removesuffix(".zarr"), ".zarr"
    return (stem if dot else output), _WRITABLE[0]


def output_names(paths: tuple[Path, ...], extension: str | None = None) -> tuple[str, ...]:
    """Return the name of the output for each input, in order.

    Raises CollectionError where two inputs would be written to the same file, and SettingsError
    for an extension that cannot be written.
    """
    owners: dict[str, Path] = {}
    for path in paths:
        name = output_name(path, extension)
        other = owners.setdefault(name, path)
        if other is not path:
            raise CollectionError(
                f"{other.name} and {path.name} would both be written to {name}: choose one of "
                "them with --filePattern"
            )
    return tuple(owners)


def _match(folder: Path, pattern: str) -> tuple[Path, ...]:
    """Return the files, and the folders of images, whose names match, sorted by name."""
    names = sorted(path.name for path in folder.iterdir() if _is_candidate(path))
    # filepattern is given names, not the folder: walking a user's folder can end the process.
    if not names:
        return ()
    if pattern == DEFAULT_PATTERN:
        written = re.compile(pattern, re.IGNORECASE | re.DOTALL)
        return tuple(folder / name for name in names if written.fullmatch(name))
    literal = [name for name in names if normalize("NFC", name) == normalize("NFC", pattern)]
    try:
        matched = _matching({_UNFIT.sub("_", name) for name in names}, pattern)
    except (IndexError, RuntimeError, ValueError) as error:
        if literal:
            return tuple(folder / name for name in literal)
        raise CollectionError(
            f"--filePattern {pattern!r} is not understood ({error}): give a regular expression, "
            "in which {x:d} may stand for a digit, such as 'img_r{r:ddd}_c{c:ddd}.ome.tif'"
        ) from error
    found = [name for name in names if _UNFIT.sub("_", name) in matched]
    return tuple(folder / name for name in found or literal)


def _matching(names: Set[str], pattern: str) -> set[str]:
    """Return those of `names` that match. Raises what filepattern raises for a pattern."""
    from filepattern import FilePattern  # type: ignore[import-untyped]

    # A group that captures ends the process in filepattern.
    grouped = _ESCAPE_SET_OR_GROUP.sub(lambda found: found[1] or "(?:", pattern)
    matches = FilePattern(sorted(names), grouped, suppress_warnings=True)
    return {str(name) for _, files in matches for name in files}


def _is_candidate(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return not path.is_dir() or path.name.lower().endswith(_SUFFIXES)


def _nothing_found(folder: Path, pattern: str) -> CollectionError:
    files = sorted(path.name for path in folder.iterdir() if _is_candidate(path))
    if not files:
        return CollectionError(f"{folder} is empty: it holds no images to segment")
    likely, advised = _advice(files)
    hint = f"try --filePattern '{advised}'" if advised not in ("", pattern) else ""
    return CollectionError(
        f"--filePattern {pattern!r} matches none of the {len(files)} files in {folder}, such as "
        f"{likely}: {hint or 'change --filePattern'}"
    )


def _advice(files: list[str]) -> tuple[str, str]:
    """Return the file that is most likely an image, and a pattern for all like it, or ''."""
    tiffs = [name for name in files if name.lower().endswith((".tif", ".tiff"))]
    if tiffs:
        small = all(name.endswith((".tif", ".tiff")) for name in tiffs)
        return tiffs[0], r".*\.tiff?" if small else _ANY_TIFF
    slide = next((name for name in files if name.lower().endswith(_OTHER_TIFFS)), None)
    if slide is not None:
        return slide, r".*\." + slide.rpartition(".")[2]
    return files[0], ""
