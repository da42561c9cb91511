"""Which file holds which manifest, by its path from the root of the source."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from exactile.manifests.argo import argo_template
from exactile.manifests.cwl import exactile_cwl
from exactile.manifests.ict import ict_yaml
from exactile.manifests.wipp import plugin_json

FILES: dict[str, Callable[[], str]] = {
    "plugin.json": plugin_json,
    "ict.yaml": ict_yaml,
    "exactile.cwl": exactile_cwl,
    "plugin-cuda.json": partial(plugin_json, cuda=True),
    "ict-cuda.yaml": partial(ict_yaml, cuda=True),
    "exactile-cuda.cwl": partial(exactile_cwl, cuda=True),
    "argo/exactile.yaml": argo_template,
}


def write_manifests(root: Path) -> list[Path]:
    """Write all manifests below `root`, and return the paths of those that changed.

    Raises:
        DriftError: if the table of options is not that of the settings.
        OSError: if one cannot be written.
    """
    changed = []
    for name, make in FILES.items():
        path, text = root / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
