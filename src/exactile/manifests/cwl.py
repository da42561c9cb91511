"""exactile.cwl: a CommandLineTool of CWL v1.2.

It has no baseCommand: engines put the image's ENTRYPOINT before it, and a tool with both would
call `exactile segment exactile segment`.
"""

from __future__ import annotations

from typing import Any

from exactile.manifests import facts
from exactile.manifests.described import Described, described_options
from exactile.manifests.text import to_yaml

HEADER = f"""\
{facts.GENERATED}

The image's ENTRYPOINT is exactile segment, so there is no baseCommand. outDir is a folder that the
results are added to; an empty one is {{class: Directory, basename: labels, listing: []}}.
exactile-cuda.cwl is the same for the image with CUDA. A GPU is given to it by examples/gpu.yaml
(cwltool --enable-ext --overrides examples/gpu.yaml): as a hint here, cwltool would refuse every
machine without one.
"""


def exactile_cwl(*, cuda: bool = False) -> str:
    """Return the text of exactile.cwl, or of that for the image with `cuda`."""
    options = described_options()
    tool: dict[str, Any] = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "label": facts.TITLE,
        "doc": facts.DESCRIPTION,
        "requirements": {
            "DockerRequirement": {"dockerPull": facts.CUDA_CONTAINER if cuda else facts.CONTAINER},
            "InitialWorkDirRequirement": {
                "listing": [{"entry": "$(inputs.outDir)", "writable": True}]
            },
            "NetworkAccess": {"networkAccess": False},
            # A reference alone would be a number, and variables are text: so the leading zero.
            "EnvVarRequirement": {"envDef": {"NUM_THREADS": "0$(runtime.cores)"}},
        },
        "hints": {
            "ResourceRequirement": {"coresMin": facts.CORES, "ramMin": facts.MEMORY_MIB},
        },
        "inputs": {option.name: _input(option) for option in options},
        "outputs": {
            "segmented": {
                "type": "Directory",
                "doc": next(o.words.description for o in options if o.role == "results"),
                "outputBinding": {"glob": "$(inputs.outDir.basename)"},
            }
        },
    }
    return to_yaml(tool, HEADER)


def _input(option: Described) -> dict[str, Any]:
    types = _types(option)
    optional = types if option.required else ["null", *types]
    return {
        "label": option.words.title,
        "doc": f"{option.words.description}. {option.words.hint}",
        "type": optional[0] if len(optional) == 1 else optional,
        "inputBinding": {"prefix": f"--{option.name}"},
    }


def _types(option: Described) -> list[Any]:
    match option.kind:
        case "path":
            either = option.role in ("model", "vector")
            return ["Directory", "File"] if either else ["Directory"]
        case "flag":
            return ["boolean"]
        case "number":
            return ["int"]
        case "choice":
            return [{"type": "enum", "symbols": list(option.choices)}]
        case "text":
            return ["string"]
