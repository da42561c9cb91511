"""Features of objects by nyxus: a row for each object of each image, as CSV.

    python measure_objects.py --intDir images --segDir objects --outFile features.csv

Images and masks of objects have the same names. Features are nyxus' names or groups of them, such
as *ALL_INTENSITY*; memory is bounded by --ramLimit, in MB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nyxus


def main() -> None:
    """Measure, and write the table under its name once it is whole."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--intDir", dest="intensity", type=Path, required=True)
    parser.add_argument("--segDir", dest="objects", type=Path, required=True)
    parser.add_argument("--outFile", dest="table", type=Path, required=True)
    parser.add_argument("--filePattern", dest="pattern", default=r".*\.ome\.tiff?")
    parser.add_argument("--features", nargs="+", default=["*ALL_INTENSITY*", "*BASIC_MORPHOLOGY*"])
    parser.add_argument("--ramLimit", dest="megabytes", type=int, default=2048)
    given = parser.parse_args()
    measure = nyxus.Nyxus(given.features, n_feature_calc_threads=1, ram_limit=given.megabytes)
    try:
        features = measure.featurize_directory(
            str(given.intensity), str(given.objects), given.pattern
        )
    except RuntimeError as error:
        sys.exit(f"measure_objects: nyxus cannot measure {given.objects}: {error}")
    partial = given.table.with_name(f".{given.table.name}.partial")
    features.to_csv(partial, index=False)
    partial.replace(given.table)


if __name__ == "__main__":
    main()
