"""What was measured and what was published: the two kinds of figure that the report compares.

Pure data, so that the tracking store, the papers' record and the report can share it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from statistics import mean
from typing import Literal

# Errors in percent of a test; and of the training itself, whose protocol is `TRAINING`: the running error of
# its last epoch, and the epochs until that error is at most 25 % (all epochs of the run where it never is,
# which can only understate a difference).
Metric = Literal["error_top1", "error_top5", "train_error_top1", "epochs_to_train_error_25"]
# What a search of learning rates lowers.
SearchMetric = Literal["error_top1", "train_error_top1"]
TRAINING_METRICS: tuple[Metric, ...] = ("train_error_top1", "epochs_to_train_error_25")
TRAINING = "training"

IMAGENET_CLASSES = 1000
IMAGENET_VALIDATION_IMAGES = 50_000


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """What a test of a network, or of an ensemble, came to.

    Attributes:
        protocol: how it was tested.
        n: items that were asked about, each once.
        figures: by metric.
    """

    protocol: str
    n: int
    figures: Mapping[str, Interval]

    def to_json(self) -> str:
        """The text of its file: one flat object."""
        figures = {metric: asdict(figure) for metric, figure in self.figures.items()}
        return json.dumps({"protocol": self.protocol, "n": self.n, **figures}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """What `to_json` wrote."""
        values = json.loads(text)
        protocol, n = values.pop("protocol"), values.pop("n")
        return cls(protocol, n, {metric: Interval(**value) for metric, value in values.items()})


@dataclass(frozen=True, order=True, kw_only=True)
class Measurement:
    """One error figure of one trained network, with everything that it must not travel without.

    Attributes:
        paper: key of the paper, e.g. ``"alexnet"``; `year` is the challenge's.
        recipe: its name in the paper's file.
        model: a name that `models.create` knows; several, joined by " + ", of an ensemble.
        nets: networks averaged.
        profile: ``toy``, ``mini`` or ``paper``.
        dataset: its name; `dataset_digest` is over its bytes.
        num_classes: classes told apart, also in the data set.
        split: what the figure is of: ``val``; or ``train`` for what was seen while training, as augmented.
        protocol: ``centre_crop``, ``ten_crop``, ...; ``training`` for the split ``train``.
        recipe_id: hash of the recipe, which does not include the seed.
        run_name: the run in the tracking store; `url` is its page, or "" where there is none.
        code_version: git revision.
        finished_at: ISO 8601.
        metric: of what `value` is the figure.
        value: percent; or epochs.
        ci_low: lower end of the 95 % interval, percent; `ci_high` is the upper.
        n: images tested on.
        deviations: departures from the published recipe.
    """

    year: int
    paper: str
    recipe: str
    model: str
    nets: int
    profile: str
    dataset: str
    dataset_digest: str
    num_classes: int
    split: str
    protocol: str
    recipe_id: str
    seed: int
    metric: Metric
    value: float
    ci_low: float
    ci_high: float
    n: int
    run_name: str
    code_version: str
    finished_at: str
    url: str = ""
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """One figure of a paper, as it can stand beside a run's.

    Attributes:
        described: the net or nets, in the paper's words.
        protocol: how it was tested: a protocol of `stages.recipe`, or words where we have none.
        error_top1: percent, as printed; None where it was not. `error_top5` likewise.
        split: the validation or the test set of ILSVRC-2012, if nothing else is said in `described`.
        nets: averaged.
        extra_data: used images outside the year's training set.
        recipe: name of the recipe in the same paper whose run this is the figure of; "" for none.
        logged: not printed in the paper, but in its authors' logs or their released nets' notes.
        source: section, table or file.
    """

    described: str
    protocol: str
    _: KW_ONLY
    error_top1: float | None = None
    error_top5: float | None = None
    split: Literal["val", "test"] = "val"
    nets: int = 1
    extra_data: bool = False
    recipe: str = ""
    logged: bool = False
    source: str


@dataclass(frozen=True)
class PaperFigures:
    """What one paper published, to stand beside its runs.

    Attributes:
        paper: its key; `title` is for people.
        year: of the challenge.
    """

    paper: str
    year: int
    title: str
    figures: tuple[Published, ...]


@dataclass(frozen=True)
class SingleModelResult:
    """What the record's source says of one network of the entry.

    Attributes:
        error_top1: percent, as printed; "" where it was not. `error_top5` likewise.
        described: network, crops and split in the record's words.
        split: ``val`` or ``test``.
        protocol: the same protocol of ours, or "" where we have none.
    """

    error_top1: str
    error_top5: str
    described: str
    split: Literal["val", "test"]
    protocol: str


@dataclass(frozen=True)
class PublishedResult:
    """One row of the official record: a challenge entry, a paper's later figure, or a human's.

    Attributes:
        year: of the challenge.
        role: ``winner``, ``winner_provided_data`` (where the winner itself used outside data),
            ``runner_up``, ``notable``, ``post_challenge`` or ``human``.
        team: as published, shortened; `method` likewise.
        family: key of the paper, e.g. ``"alexnet"``; `model` is the network a run of it trains.
        error_top5: percent on the test set, as printed: text, so that nothing rounds it again.
        nets: networks averaged; words where they were never counted, "" where there are none.
        extra_data: used images outside the year's training set.
        eval_set: identity of the test set; those of 2010, 2011 and 2012-2017 are three.
        images: images in `eval_set`.
        single: what the same source printed for one network.
        headline: drawn in the timeline.
        status: ``verified`` (read on the organisers' page), ``verified-2nd`` (read in a paper or a
            transcription) or what of it is from memory.
        source: where.
    """

    year: int
    role: str
    team: str
    method: str
    family: str
    model: str
    error_top5: str
    nets: str
    extra_data: bool
    eval_set: str
    images: int
    single: tuple[SingleModelResult, ...]
    headline: bool
    status: str
    source: str


@dataclass(frozen=True)
class Estimate:
    """A figure in percent with its 95 % interval, or a mean over seeds with their range."""

    value: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Reproduction:
    """One recipe on one data set under one protocol: the measurements of all its seeds.

    Attributes:
        published: all that its paper published.
    """

    measurements: tuple[Measurement, ...]
    published: tuple[Published, ...] = ()

    @property
    def setting(self) -> Measurement:
        """Any of the measurements, to read from it what they have in common."""
        return self.measurements[0]

    def of(self, metric: Metric) -> tuple[Measurement, ...]:
        """The measurements of `metric`, one a seed."""
        return tuple(m for m in self.measurements if m.metric == metric)

    def estimate(self, metric: Metric) -> Estimate | None:
        """The figure to show; None where `metric` was not measured."""
        found = self.of(metric)
        if not found:
            return None
        if len(found) == 1:
            return Estimate(found[0].value, found[0].ci_low, found[0].ci_high, 1)
        values = [m.value for m in found]
        return Estimate(mean(values), min(values), max(values), len(found))

    @property
    def chance_top5(self) -> float:
        """Top-5 error in percent of guessing, with as many images of each class."""
        return max(0.0, 100 * (1 - 5 / self.setting.num_classes))

    @property
    def not_imagenet(self) -> str:
        """Why this may not stand beside the published figures; "" where it may.

        An ImageNet figure is one of the published scale, over all 1000 classes and each of the
        50,000 validation images.
        """
        of = self.setting
        reasons = []
        if of.profile != "paper":
            reasons.append(f"profile {of.profile}, not the published scale")
        if of.num_classes != IMAGENET_CLASSES:
            reasons.append(f"{of.num_classes} classes, not {IMAGENET_CLASSES}")
        if of.n != IMAGENET_VALIDATION_IMAGES:
            reasons.append(f"{of.n:,} images, not {IMAGENET_VALIDATION_IMAGES:,}")
        if of.split != "val":
            reasons.append(f"split {of.split}, not val")
        return "; ".join(reasons)

    @property
    def counterparts(self) -> tuple[Published, ...]:
        """What was published of the same recipe, by the same protocol, of as many nets, on the same split.

        What the paper prints comes before what its authors logged. Figures of networks that saw outside
        data are no counterpart.
        """
        of = self.setting
        same = (of.recipe, of.protocol, of.nets, of.split, False)
        found = [
            one
            for one in self.published
            if (one.recipe, one.protocol, one.nets, one.split, one.extra_data) == same
        ]
        return tuple(sorted(found, key=lambda one: one.logged))


def reproductions(
    measurements: Iterable[Measurement], papers: Iterable[PaperFigures] = ()
) -> tuple[Reproduction, ...]:
    """Group `measurements` over their seeds, in an order that does not depend on theirs.

    Of two measurements of the same seed the later counts, so that no seed weighs double.
    """
    groups: dict[tuple[object, ...], dict[tuple[int, str], Measurement]] = defaultdict(dict)
    by_time = sorted(measurements, key=lambda m: (m.finished_at, m))
    for m in by_time:
        setting = (m.year, m.paper, m.recipe, m.model, m.profile, m.dataset, m.dataset_digest)
        test = (m.num_classes, m.split, m.n, m.protocol, m.recipe_id)
        groups[setting + test][m.seed, m.metric] = m
    figures = {paper.paper: paper.figures for paper in papers}
    grouped = (
        Reproduction(found, figures.get(found[0].paper, ()))
        for found in (tuple(sorted(group.values())) for group in groups.values())
    )
    return tuple(sorted(grouped, key=lambda r: r.measurements))
