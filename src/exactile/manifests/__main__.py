"""`python -m exactile.manifests` writes the manifests below the current folder."""

import sys
from pathlib import Path

from exactile.manifests.files import write_manifests

for written in write_manifests(Path()):
    sys.stdout.write(f"wrote {written}\n")
