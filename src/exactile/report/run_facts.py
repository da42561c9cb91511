"""What the certificates of a run say, gathered for its report: small records, one for each image.

Certificates are read from disk, one at a time, so that images which an earlier run finished count
like the others. Nothing is said that no certificate says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

from exactile.certificate import certificate_path
from exactile.certified import Certified, Run, read_certificate
from exactile.geometry import PLANES, VOLUMES
from exactile.images.digest import FileDigest
from exactile.images.tiff_choice import ONLY_SERIES
from exactile.report.plan_drawing import PlanDrawing, draw_plan, plan_of
from exactile.report.preview import preview_path
from exactile.stored_json import MalformedError
from exactile.tiling import AxisPlan

State = Literal["done", "done before", "failed"]

MOST_PLANS = 3
"""How many different plans a report draws; the images that have another are counted."""

MOST_KINDS = 6
"""How many different findings of a check a report lists."""

STAGES = {
    "check": "plan and check of bit-stability",
    "statistics": "statistics of the whole image",
    "segmentation": "reading, network, writing",
}
"""The stages that certificates time, in order, in words."""

EXACT, ROUNDED, WHOLE, PARTS = "bit for bit", "up to rounding", "one pass", "one pass in parts"
BY_EXCHANGE = "by exchange: one pass, up to the order of sums, and no windows to compare"
"""What there is to say of the check where the image was run in parts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an image went, as the run saw it."""

    name: str
    """Of the input."""
    output: Path
    state: State
    seconds: float
    """This run spent on it."""
    error: str
    """Empty, or why it failed."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image in the report."""

    outcome: Outcome
    certified: bool
    """Whether there is a certificate that can be read; if not, the rest is empty."""
    size: str = ""
    """Width x height in pixels, and x depth of volumes."""
    pixels: int = 0
    """Over all planes."""
    planes: int = 0
    dtype: str = ""
    windows: int = 0
    """Forward passes, over all planes or volumes."""
    computed_ratio: float = 0.0
    seconds: tuple[float, ...] = ()
    """Spent on each of STAGES, by the run that made the image."""
    exactness: str = ""
    """EXACT, ROUNDED, WHOLE where the image is one window, or PARTS of it by exchange."""
    digest: str = ""
    """The beginning of the SHA-256 of the result."""
    resumed: int = 0
    """Zones that an earlier run had stored."""
    series: str = ""
    """Which of the file's images was read, and which were not; empty where it has but one."""
    filled: str = ""
    """What of its pixels was not stored and counted as background."""

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds)

    @property
    def preview(self) -> Path:
        """Where the preview lies, if there is one."""
        return preview_path(self.outcome.output)


@dataclass(slots=True)
class PlanFacts:
    """A plan that one or more images have in common."""

    drawing: PlanDrawing
    axes: tuple[AxisPlan, ...]
    record: Mapping[str, Any]
    """The plan in the certificate of `example`."""
    shape: tuple[int, ...]
    """Sides of the image (Y, X), or (Z, Y, X) where it was run as volumes."""
    example: ImageFacts
    """The first image of this plan."""
    images: int = 0

    @property
    def layers(self) -> int:
        """How many zones lie below each other in Z; 1 for planes."""
        return prod(len(axis.zones()) for axis in self.axes[:-PLANES])


@dataclass(slots=True)
class RunFacts:
    """All that a report says."""

    images: list[ImageFacts] = field(default_factory=list)
    certified: Certified | None = None
    """The certificate of the first image."""
    plans: dict[str, PlanFacts] = field(default_factory=dict)
    other_plans: int = 0
    """Images with plans beyond MOST_PLANS."""
    claims: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    """Findings of the check of bit-stability, in words, and for how many images."""
    agreements: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    classes: tuple[str, ...] = ()
    """Names of the output's channels."""
    verified: Counter[str] = field(default_factory=Counter)
    """Sums of what running zones again showed: zones, compared, different."""

    def add(self, outcome: Outcome) -> None:
        """Take up an image, with its certificate if it is done."""
        if outcome.state == "failed":
            self.images.append(ImageFacts(outcome, certified=False))
            return
        try:
            certified = read_certificate(certificate_path(outcome.output))
            run = certified.run
            facts = _facts(outcome, certified.result.file, run)
            tiling = plan_of(run)
        except (OSError, MalformedError):
            self.images.append(ImageFacts(outcome, certified=False))
            return
        self._take(certified, run)
        self.images.append(facts)
        key = f"{tiling.shape} {tiling.axes}"
        if key not in self.plans and len(self.plans) < MOST_PLANS:
            self.plans[key] = PlanFacts(
                draw_plan(tiling), tiling.axes, certified.content["plan"], tiling.shape, facts
            )
        if key in self.plans:
            self.plans[key].images += 1
        else:
            self.other_plans += 1

    def _take(self, certified: Certified, facts: Run) -> None:
        self.classes = facts.model.classes
        self.claims[facts.claim] += 1
        exchanged = prod(facts.plan.parts or (1,)) > 1
        self.checks[BY_EXCHANGE if exchanged else facts.bit_stability.sentence()] += 1
        self.devices[facts.device] += 1
        if facts.agreement is not None:
            self.agreements[facts.agreement.sentence()] += 1
        if (found := facts.verification) is not None:
            self.verified.update(
                zones=found.zones, compared=found.compared, different=found.different
            )
        if self.certified is None:
            self.certified = certified

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """That of the first image: model, settings and versions are those of the run."""
        return None if self.certified is None else self.certified.content

    @property
    def proof(self) -> str:
        """The proof of locality in words; empty where there is no certificate."""
        return "" if self.certified is None else self.certified.run.model.proof.sentence()

    @property
    def failed(self) -> list[ImageFacts]:
        """The images that failed."""
        return [image for image in self.images if image.outcome.state == "failed"]

    @property
    def done(self) -> list[ImageFacts]:
        """The images whose results are there."""
        return [image for image in self.images if image.outcome.state != "failed"]

    @property
    def pixels(self) -> int:
        """Pixels of all results that are there."""
        return sum(image.pixels for image in self.done)

    def stage_seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, in words, over all images."""
        sums = [
            sum(each) for each in zip(*(i.seconds for i in self.done if i.seconds), strict=True)
        ]
        return dict(zip(STAGES.values(), sums, strict=False))

    def exact(self) -> int:
        """Return how many results equal a whole-image pass bit for bit, by their certificates."""
        return sum(image.exactness in (EXACT, WHOLE) for image in self.done)


def gather(outcomes: Iterable[Outcome]) -> RunFacts:
    """Return what there is to say of a run whose images went as `outcomes` has it."""
    facts = RunFacts()
    for outcome in outcomes:
        facts.add(outcome)
    return facts


def _facts(outcome: Outcome, file: FileDigest, facts: Run) -> ImageFacts:
    """Return what the report says of an image. Raises MalformedError where an axis is missing."""
    sizes, plan, stability = facts.input.dimensions, facts.plan, facts.bit_stability
    if missing := set("TCZYX") - sizes.keys():
        raise MalformedError(f"input.dimensions: has no {min(missing)}")
    planes = sizes["T"] * sizes["Z"]
    volumes = len(plan.window) == VOLUMES
    sides = " x ".join(f"{sizes[axis]:,}" for axis in ("XYZ" if volumes else "XY"))
    exactness = EXACT if stability.equal else ROUNDED
    if not stability.compared:
        exactness = PARTS if prod(plan.parts or (1,)) > 1 else WHOLE
    return ImageFacts(
        outcome,
        certified=True,
        size=sides.replace("x", "\N{MULTIPLICATION SIGN}"),
        pixels=prod(sizes[axis] for axis in "TZYX"),
        planes=planes,
        dtype=facts.input.dtype,
        windows=plan.windows * (sizes["T"] if volumes else planes),
        computed_ratio=plan.computed_ratio,
        seconds=tuple(facts.seconds.get(stage, 0.0) for stage in STAGES),
        exactness=exactness,
        digest=file.sha256[:12],
        resumed=plan.zones_resumed,
        series="" if facts.input.series == ONLY_SERIES else facts.input.series,
        filled=facts.input.filled,
    )
