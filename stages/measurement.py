"""Measured and published figures, the two kinds that the report compares.

Pure data, so that the tracking store, the papers' record and the report can share it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from statistics import mean
from typing import Literal, Protocol

from stages.metrics import BENCHMARKS, IMAGENET, METRICS, Benchmark

# The protocol of the figures that a training measures itself.
TRAINING = "training"


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """The result of testing a network or an ensemble.

    Attributes:
        protocol: how it was tested.
        n: the number of items that it was tested on, each once.
        figures: the figures by metric.
    """

    protocol: str
    n: int
    figures: Mapping[str, Interval]

    def to_json(self) -> str:
        """The content of its file: one flat JSON object."""
        figures = {metric: asdict(figure) for metric, figure in self.figures.items()}
        return json.dumps({"protocol": self.protocol, "n": self.n, **figures}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        protocol, n = values.pop("protocol"), values.pop("n")
        return cls(protocol, n, {metric: Interval(**value) for metric, value in values.items()})


@dataclass(frozen=True, order=True, kw_only=True)
class Measurement:
    """One figure of one trained network, with everything that must accompany it.

    Attributes:
        year: the year of the challenge.
        paper: the key of the paper, e.g. ``"alexnet"``.
        recipe: the recipe's name in the paper's file.
        model: a name that `models.create` knows; for an ensemble, several joined by " + ".
        nets: the number of networks averaged.
        profile: ``toy``, ``mini`` or ``paper``.
        dataset: the data set's name.
        dataset_digest: a hash of the data set's bytes.
        num_classes: the number of classes, of the network and of the data set.
        split: where it was measured: ``val``, or ``train`` for the augmented images during training.
        protocol: ``centre_crop``, ``ten_crop``, ...; ``training`` for the split ``train``.
        recipe_id: a hash of the recipe, without the seed.
        metric: what `value` measures, a key of `METRICS`.
        value: the figure, in the metric's unit.
        ci_low: the lower end of the 95 % interval; `ci_high` is the upper end.
        n: the number of images.
        run_name: the run in the tracking store.
        code_version: the git revision.
        finished_at: ISO 8601.
        url: the run's page, or "" if there is none.
        deviations: departures from the published recipe.
        benchmark: the benchmark that the figure would count for at full scale; "" for none.
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
    """A paper's figures for one test of one net, or of several together, to compare with a run's.

    Attributes:
        described: the net or nets, in the paper's words.
        protocol: how it was tested: one of the task's protocols, or words if none matches.
        figures: the figures by metric, as printed.
        benchmark: what it was tested on.
        nets: the number of networks averaged; None if it was not published.
        extra_data: whether images outside the year's training set were used.
        recipe: the name of the paper's recipe that trains this net; "" for none.
        logged: whether it comes from the authors' logs or the notes on the nets that they released, rather
            than from the paper.
        source: section, table or file.
    """

    described: str
    protocol: str
    figures: Mapping[str, float]
    _: KW_ONLY
    benchmark: str = IMAGENET.name
    nets: int | None = 1
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
    nets: int | None = 1,
    extra_data: bool = False,
    recipe: str = "",
    logged: bool = False,
    **figures: float | None,
) -> Published:
    """A row of a paper's figures, with the metrics as keywords; None means not printed."""
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
    """The part of a paper that `reproductions` reads; `stages.paper.Paper` imports this module."""

    @property
    def name(self) -> str:
        """The paper's key, as in `Measurement.paper`."""

    @property
    def published(self) -> tuple[Published, ...]:
        """The paper's figures, to compare with its runs."""


@dataclass(frozen=True)
class SingleModelResult:
    """What the record's source says about one network of an entry.

    Attributes:
        error_top1: in percent, as printed; "" if it was not printed.
        error_top5: the same for the top-5 error.
        described: network, crops and split in the record's words.
        split: ``val`` or ``test``.
        protocol: our name of that protocol, or "" if we have none.
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
        year: the year of the challenge.
        role: ``winner``, ``winner_provided_data`` (the best without outside data, where the winner used
            some), ``runner_up``, ``notable``, ``post_challenge`` or ``human``.
        team: the team's name as published, shortened.
        method: the method as published, shortened.
        family: the key of the paper, e.g. ``"alexnet"``.
        built_of: the family's name in the picture, e.g. ``"Inception"``.
        model: the network that a run of the paper trains.
        error_top5: percent on the test set, as printed: text, so that nothing rounds it again.
        nets: the number of networks averaged; words if it was not published, "" if there are none.
        extra_data: whether images outside the year's training set were used.
        eval_set: the test set; 2010, 2011 and 2012-2017 have three different ones.
        images: the number of images in `eval_set`.
        single: what the same source printed for one network.
        headline: whether the timeline's picture shows it.
        status: ``verified`` (read on the organisers' page), ``verified-2nd`` (read in a paper or a
            transcription), or what part of it is from memory.
        source: where it was published.
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
    """A figure with its 95 % interval or, for several seeds, their mean with their range."""

    seeds: int


@dataclass(frozen=True)
class Reproduction:
    """One recipe on one data set under one protocol: the measurements of all its seeds.

    Attributes:
        published: all figures that its paper published.
    """

    measurements: tuple[Measurement, ...]
    published: tuple[Published, ...] = ()

    @property
    def any(self) -> Measurement:
        """Any one of the measurements, for what they have in common."""
        return self.measurements[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that were measured, in the order of `METRICS`."""
        return tuple(name for name in METRICS if self.measurements_of(name))

    def measurements_of(self, metric: str) -> tuple[Measurement, ...]:
        """The measurements of ``metric``, one per seed."""
        return tuple(m for m in self.measurements if m.metric == metric)

    def estimate(self, metric: str) -> Estimate | None:
        """The figure to show; None if ``metric`` was not measured."""
        measured = self.measurements_of(metric)
        if not measured:
            return None
        if len(measured) == 1:
            return Estimate(measured[0].value, measured[0].ci_low, measured[0].ci_high, 1)
        values = [m.value for m in measured]
        return Estimate(mean(values), min(values), max(values), len(measured))

    @property
    def benchmark(self) -> Benchmark | None:
        """The benchmark that the figures would count for at full scale."""
        return BENCHMARKS.get(self.any.benchmark)

    @property
    def not_comparable(self) -> str:
        """Why this is not comparable to the published figures; "" if it is.

        A figure counts for a benchmark if it was measured at the published scale, over all of the
        benchmark's classes and items.
        """
        m, benchmark = self.any, self.benchmark
        if benchmark is None:
            return f"no figures were published for {m.dataset}"
        reasons = []
        if m.profile != "paper":
            reasons.append(f"profile {m.profile}, not the published scale")
        if m.num_classes != benchmark.classes:
            reasons.append(f"{m.num_classes} classes, not {benchmark.classes}")
        if m.n != benchmark.items:
            reasons.append(f"{m.n:,} images, not {benchmark.items:,}")
        if m.split != "val":
            reasons.append(f"split {m.split}, not val")
        return "; ".join(reasons)

    @property
    def counterparts(self) -> tuple[Published, ...]:
        """The published figures for the same recipe, protocol, benchmark and number of nets, if known.

        What the paper prints comes before what its authors logged. Figures of networks that were trained on
        outside data do not count.
        """
        m = self.any
        same = (m.recipe, m.protocol, m.benchmark, False)
        matching = [
            figure
            for figure in self.published
            if (figure.recipe, figure.protocol, figure.benchmark, figure.extra_data) == same
            and figure.nets in (None, m.nets)
        ]
        return tuple(sorted(matching, key=lambda figure: figure.logged))


def reproductions(
    measurements: Iterable[Measurement], papers: Iterable[Publication] = ()
) -> tuple[Reproduction, ...]:
    """Group `measurements` over their seeds, in an order that does not depend on theirs.

    If two measurements have the same seed, the later counts, so that no seed counts twice.
    """
    groups: dict[tuple[object, ...], dict[tuple[int, str], Measurement]] = defaultdict(dict)
    by_time = sorted(measurements, key=lambda m: (m.finished_at, m))
    for m in by_time:
        training = (m.year, m.paper, m.recipe, m.model, m.profile, m.dataset, m.dataset_digest)
        test = (m.num_classes, m.split, m.n, m.protocol, m.recipe_id, m.benchmark)
        groups[training + test][m.seed, m.metric] = m
    published = {paper.name: paper.published for paper in papers}
    over_seeds = (tuple(sorted(group.values())) for group in groups.values())
    grouped = (Reproduction(group, published.get(group[0].paper, ())) for group in over_seeds)
    return tuple(sorted(grouped, key=lambda r: r.measurements))
