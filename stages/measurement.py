"""What was measured and what was published: the two kinds of figure that the report compares.

Pure data, so that the tracking store, the papers' record and the report can share it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from statistics import mean
from typing import Literal, Protocol

from stages.metrics import BENCHMARKS, IMAGENET, METRICS, Benchmark

# The protocol of what a training measures of itself.
TRAINING = "training"
SearchMetric = str


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
    """One figure of one trained network, with everything that it must not travel without.

    Attributes:
        paper: key of the paper, e.g. ``"alexnet"``; `year` is the challenge's.
        recipe: its name in the paper's file.
        model: a name that `models.create` knows; several, joined by " + ", of an ensemble.
        nets: networks averaged.
        profile: ``toy``, ``mini`` or ``paper``.
        dataset: its name; `dataset_digest` is over its bytes.
        benchmark: the benchmark that its figures would count for at full scale; "" for none.
        num_classes: how many classes the network tells apart, which are those of the data set.
        split: what the figure is of: ``val``; or ``train`` for what was seen while training, as augmented.
        protocol: ``centre_crop``, ``ten_crop``, ...; ``training`` for the split ``train``.
        recipe_id: hash of the recipe, which does not include the seed.
        run_name: the run in the tracking store; `url` is its page, or "" where there is none.
        code_version: git revision.
        finished_at: ISO 8601.
        metric: of what `value` is the figure.
        value: the figure, in the metric's unit.
        ci_low: lower end of the 95 % interval; `ci_high` is the upper.
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
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    run_name: str
    code_version: str
    finished_at: str
    url: str = ""
    deviations: tuple[str, ...] = ()
    benchmark: str = IMAGENET.name


@dataclass(frozen=True)
class Published:
    """What a paper says of one test of one net, or of several together, as it can stand beside a run's.

    Attributes:
        described: the net or nets, in the paper's words.
        protocol: how it was tested: a protocol of the task's, or words where we have none.
        figures: by metric, as printed.
        benchmark: what it was tested on.
        nets: networks averaged.
        extra_data: whether images outside the year's training set were used.
        recipe: name of the recipe in the same paper whose run this is the figure of; "" for none.
        logged: whether it is not printed in the paper, but in its authors' logs or the notes of the nets
            that they released.
        source: section, table or file.
    """

    described: str
    protocol: str
    figures: Mapping[str, float]
    _: KW_ONLY
    benchmark: str = IMAGENET.name
    nets: int = 1
    extra_data: bool = False
    recipe: str = ""
    logged: bool = False
    source: str

    @property
    def split(self) -> str:
        """The benchmark's split: ``val`` or ``test``."""
        return BENCHMARKS[self.benchmark].split


def published(
    described: str,
    protocol: str,
    *,
    source: str,
    benchmark: str = IMAGENET.name,
    nets: int = 1,
    extra_data: bool = False,
    recipe: str = "",
    logged: bool = False,
    **figures: float | None,
) -> Published:
    """A row of a paper's figures, with the metrics as keywords; one that is None was not printed."""
    return Published(
        described,
        protocol,
        {metric: value for metric, value in figures.items() if value is not None},
        benchmark=benchmark,
        nets=nets,
        extra_data=extra_data,
        recipe=recipe,
        logged=logged,
        source=source,
    )


class Publication(Protocol):
    """What `reproductions` reads of a paper; `stages.paper.Paper`, which knows this module, is one."""

    @property
    def name(self) -> str:
        """The key of the paper, as in `Measurement.paper`."""

    @property
    def published(self) -> tuple[Published, ...]:
        """What it published, to stand beside its runs."""


@dataclass(frozen=True)
class SingleModelResult:
    """What the record's source says of one network of the entry.

    Attributes:
        error_top1: percent, as printed; "" where it was not printed.
        error_top5: the same for the first five answers.
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
        team: the team as published, shortened.
        method: its method as published, shortened.
        family: key of the paper, e.g. ``"alexnet"``; `model` is the network a run of it trains.
        built_of: the family as the picture names it, e.g. ``"Inception"``.
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
    built_of: str
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
class Estimate(Interval):
    """A figure with its 95 % interval; or, of several seeds, their mean with their range."""

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
    def any(self) -> Measurement:
        """One of the measurements, to read from it what they have in common."""
        return self.measurements[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """What was measured, in the order of `METRICS`."""
        return tuple(name for name in METRICS if self.of(name))

    def of(self, metric: str) -> tuple[Measurement, ...]:
        """The measurements of ``metric``, one a seed."""
        return tuple(m for m in self.measurements if m.metric == metric)

    def estimate(self, metric: str) -> Estimate | None:
        """The figure to show; None where ``metric`` was not measured."""
        measured = self.of(metric)
        if not measured:
            return None
        if len(measured) == 1:
            return Estimate(measured[0].value, measured[0].ci_low, measured[0].ci_high, 1)
        values = [m.value for m in measured]
        return Estimate(mean(values), min(values), max(values), len(measured))

    @property
    def benchmark(self) -> Benchmark | None:
        """What the figures would count for at full scale."""
        return BENCHMARKS.get(self.any.benchmark)

    @property
    def not_comparable(self) -> str:
        """Why this may not stand beside the published figures; "" where it may.

        A figure counts for a benchmark if it is one of the published scale, over all of the benchmark's
        classes and each of its items.
        """
        one, benchmark = self.any, self.benchmark
        if benchmark is None:
            return f"no figure was published of {one.dataset}"
        reasons = []
        if one.profile != "paper":
            reasons.append(f"profile {one.profile}, not the published scale")
        if one.num_classes != benchmark.classes:
            reasons.append(f"{one.num_classes} classes, not {benchmark.classes}")
        if one.n != benchmark.items:
            reasons.append(f"{one.n:,} images, not {benchmark.items:,}")
        if one.split != "val":
            reasons.append(f"split {one.split}, not val")
        return "; ".join(reasons)

    @property
    def counterparts(self) -> tuple[Published, ...]:
        """What was published of the same recipe by the same protocol, of as many nets, on the same benchmark.

        What the paper prints comes before what its authors logged. Figures of networks that saw outside
        data do not count.
        """
        one = self.any
        same = (one.recipe, one.protocol, one.nets, one.benchmark, False)
        matching = [
            figure
            for figure in self.published
            if (figure.recipe, figure.protocol, figure.nets, figure.benchmark, figure.extra_data)
            == same
        ]
        return tuple(sorted(matching, key=lambda figure: figure.logged))


def reproductions(
    measurements: Iterable[Measurement], papers: Iterable[Publication] = ()
) -> tuple[Reproduction, ...]:
    """Group `measurements` over their seeds, in an order that does not depend on theirs.

    Of two measurements of the same seed the later counts, so that no seed weighs double.
    """
    groups: dict[tuple[object, ...], dict[tuple[int, str], Measurement]] = defaultdict(dict)
    by_time = sorted(measurements, key=lambda m: (m.finished_at, m))
    for m in by_time:
        setting = (m.year, m.paper, m.recipe, m.model, m.profile, m.dataset, m.dataset_digest)
        test = (m.num_classes, m.split, m.n, m.protocol, m.recipe_id, m.benchmark)
        groups[setting + test][m.seed, m.metric] = m
    published = {paper.name: paper.published for paper in papers}
    of_setting = (tuple(sorted(group.values())) for group in groups.values())
    grouped = (Reproduction(same, published.get(same[0].paper, ())) for same in of_setting)
    return tuple(sorted(grouped, key=lambda r: r.measurements))
