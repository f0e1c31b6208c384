"""From the figures of paired runs to an effect with its uncertainty, and from that to a verdict.

The effect is the mean over seeds of error(without) - error(with), or of the reverse for a metric that is
better when it is higher: positive where the thing claimed helps.
The two runs of a pair share their seed, and so the order of the images and, where shapes allow, the initial
weights. The pairs are the sample, and Student's t of their differences gives the interval that decides.
That interval holds for the validation images at hand; what other images might show is a second view
(`compare_items`), which does not affect the verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Verdict = Literal[
    "confirmed", "contradicted", "inconclusive", "not run", "not comparable", "computed only"
]
Expectation = Literal["improves", "equivalent"]

LEVEL = 0.05
POWER = 0.8
# `seeds_needed` gives up beyond this many.
MOST_SEEDS = 10_000
_RESAMPLES = 2000


@dataclass(frozen=True)
class Effect:
    """The difference between two arms over paired seeds, in the metric's unit (points, epochs, ...).

    Attributes:
        value: mean of the pairs' differences.
        sd: their standard deviation, at least what the resolution implies; nan for one pair.
        low: lower end of the 95 % t interval, minus infinity for one pair; `high` is the upper end.
        pairs: the number of seeds that both arms have.
    """

    value: float
    sd: float
    low: float
    high: float
    pairs: int

    @property
    def standard_error(self) -> float:
        """The standard error of `value`; nan for one pair."""
        return self.sd / math.sqrt(self.pairs)


def paired_effect(
    with_it: Mapping[int, float],
    without: Mapping[int, float],
    *,
    resolution: float,
    sign: int = 1,
) -> Effect:
    """The effect over the seeds that both arms have.

    One pair has no interval. Differences that happen to be equal are known no better than the figures
    themselves: a figure that moves in steps of `resolution` is off by up to half a step, which gives the
    difference of two figures a standard deviation of resolution / sqrt(6). That is the least value used.

    Args:
        with_it: seed -> figure of the arm with the thing claimed.
        without: the same for the other arm.
        resolution: smallest step of a figure: 100 / images for errors in percent.
        sign: 1 where a lower figure is better, -1 where a higher one is (`stages.metrics.Metric.sign`).

    Raises:
        ValueError: there is no common seed, or a figure is not a finite number.
    """
    for seed, value in [*with_it.items(), *without.items()]:
        if not math.isfinite(value):
            raise ValueError(f"the figure of seed {seed} is {value}, which no verdict can rest on")
    seeds = sorted(with_it.keys() & without.keys())
    if not seeds:
        raise ValueError("the arms have no seed in common")
    differences = sign * np.array([without[seed] - with_it[seed] for seed in seeds])
    value = float(differences.mean())
    if len(seeds) == 1:
        return Effect(value, math.nan, -math.inf, math.inf, 1)
    sd = max(float(differences.std(ddof=1)), resolution / math.sqrt(6))
    half = float(stats.t.ppf(1 - LEVEL / 2, len(seeds) - 1)) * sd / math.sqrt(len(seeds))
    return Effect(value, sd, value - half, value + half, len(seeds))


def judge(effect: Effect, expects: Expectation, margin: float, seeds: int) -> tuple[Verdict, str]:
    """The verdict on an effect, and the reason in a few words.

    ``improves`` is confirmed by an interval wholly above zero and contradicted by one wholly below.
    ``equivalent`` is confirmed by an interval wholly within the margin and contradicted by one wholly
    outside. An end that touches a bound decides nothing. Nor do fewer pairs than `seeds`, so that nobody
    can decide a claim by stopping at a convenient moment; nor does a single pair, however many images.
    """
    wanted = max(2, seeds)
    if effect.pairs < wanted:
        return "inconclusive", f"{effect.pairs} of {wanted} pairs of runs"
    if expects == "improves":
        if effect.low > 0:
            return "confirmed", "the interval lies above zero"
        if effect.high < 0:
            return "contradicted", "the interval lies below zero"
        return "inconclusive", "the interval includes zero"
    if -margin < effect.low and effect.high < margin:
        return "confirmed", f"the interval lies within the margin of {margin:g}"
    if effect.low > margin or effect.high < -margin:
        return "contradicted", f"the interval lies beyond the margin of {margin:g}"
    return "inconclusive", f"the interval crosses the margin of {margin:g}"


def p_value(effect: Effect, margin: float = 0.0) -> float:
    """The smallest level at which the interval would decide, one way or the other; 1 for one pair.

    Args:
        effect: the effect that was measured.
        margin: the margin of an ``equivalent`` claim, which is undecided while the interval includes it; 0
            for an ``improves`` claim, which gives the usual two-sided p.
    """
    if effect.pairs == 1:
        return 1.0
    distance = abs(abs(effect.value) - margin) / effect.standard_error
    return min(1.0, 2 * float(stats.t.sf(distance, effect.pairs - 1)))


def seeds_needed(effect: Effect, size: float, expects: Expectation = "improves") -> int | None:
    """The pairs of runs that would decide, with probability 0.8, if the claim were true.

    For ``improves``, this is the power of the two-sided paired t test at the 5 % level for a true effect of
    `size` and the measured spread of the pairs; for ``equivalent``, that of an interval within +-`size` for
    a true effect of zero. The spread is itself an estimate, and a rough one for few pairs.

    Returns:
        At least 2; None for one pair, whose spread is unknown, and for more than `MOST_SEEDS`.
    """
    if effect.pairs == 1 or size == 0:
        return None

    def power(pairs: int) -> float:
        shift = abs(size) * math.sqrt(pairs) / effect.sd
        beyond = float(stats.nct.sf(stats.t.ppf(1 - LEVEL / 2, pairs - 1), pairs - 1, shift))
        # scipy's tail of the noncentral t is nan where it equals 1 to all digits.
        beyond = 1.0 if math.isnan(beyond) else beyond
        return beyond if expects == "improves" else 2 * beyond - 1

    low, high = 1, 2
    while power(high) < POWER:
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


@dataclass(frozen=True)
class ImageView:
    """The same pairs compared image by image.

    Attributes:
        low: lower end, in points, of the 95 % percentile interval of a bootstrap over seeds and images;
            `high` is the upper end. Too narrow for few seeds; it describes other images, not other seeds.
        mcnemar: exact p of each pair: do the two networks err equally often on these images?
        images: the number of images in the validation set.
    """

    low: float
    high: float
    mcnemar: tuple[float, ...]
    images: int


def compare_items(with_it: NDArray[np.float64], without: NDArray[np.float64]) -> ImageView:
    """Compare two arms image by image.

    Args:
        with_it: (pairs, images), whether each image was classified correctly: 0 or 1, or the share of an
            arm's networks that did so.
        without: the same for the other arm, with rows for the same seeds.

    Raises:
        ValueError: the shapes differ.
    """
    if with_it.shape != without.shape:
        raise ValueError(f"{with_it.shape} items do not pair with {without.shape}")
    gained = with_it - without
    pairs, images = gained.shape
    # Images with the same differences in all pairs are interchangeable: resampling images amounts to
    # resampling the number of images of each kind.
    kinds, counts = np.unique(gained, axis=1, return_counts=True)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(images, counts / images, size=_RESAMPLES)
    seeds = generator.multinomial(pairs, np.full(pairs, 1 / pairs), size=_RESAMPLES)
    effects = 100 * ((drawn @ kinds.T) * seeds).sum(axis=1) / (pairs * images)
    low, high = np.quantile(effects, [LEVEL / 2, 1 - LEVEL / 2])
    whole = bool(np.isin(with_it, (0, 1)).all() and np.isin(without, (0, 1)).all())
    return ImageView(float(low), float(high), tuple(map(mcnemar, gained)) if whole else (), images)


def mcnemar(gained: NDArray[np.float64]) -> float:
    """Exact two-sided p of McNemar's test; `gained` (images,) is 1 (only the first is correct), 0 or -1."""
    better, worse = int((gained > 0).sum()), int((gained < 0).sum())
    if better + worse == 0:
        return 1.0
    return float(stats.binomtest(better, better + worse).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, adjusted so that the chance of any false decision stays at the level (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
