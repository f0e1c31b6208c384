"""From paired figures to verdicts: each verdict and its bounds; statistics by hand and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from stages.ledger.verdict import (
    Effect,
    compare_items,
    holm,
    judge,
    mcnemar,
    p_value,
    paired_effect,
    seeds_needed,
)

FINE = 0.01  # a resolution that does not matter


def effect_of(*differences: float, resolution: float = FINE) -> Effect:
    """The effect of pairs with these differences."""
    with_it = dict.fromkeys(range(len(differences)), 50.0)
    without = {seed: 50.0 + gain for seed, gain in enumerate(differences)}
    return paired_effect(with_it, without, resolution=resolution)


def interval(low: float, high: float, pairs: int = 3) -> Effect:
    """An effect with a given interval."""
    return Effect((low + high) / 2, 1.0, low, high, pairs)


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    gains = [1.2, 0.7, 1.9, 0.4]
    effect = effect_of(*gains)
    expected = stats.ttest_1samp(gains, 0)
    low, high = expected.confidence_interval(0.95)
    assert (effect.value, effect.low, effect.high) == pytest.approx((1.05, low, high))
    assert p_value(effect) == pytest.approx(expected.pvalue)


def test_only_common_seeds_are_paired() -> None:
    effect = paired_effect({0: 10, 1: 11, 7: 0}, {1: 13, 0: 11, 2: 99}, resolution=FINE)
    assert effect.pairs == 2
    assert effect.value == pytest.approx(1.5)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_effect({0: 10}, {1: 10}, resolution=FINE)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_not_a_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="seed 1"):
        paired_effect({0: 1, 1: 2}, {0: 1, 1: value}, resolution=FINE)


def test_one_pair_has_no_interval_and_decides_nothing() -> None:
    effect = effect_of(40.0)
    assert (effect.low, effect.high) == (-math.inf, math.inf)
    assert p_value(effect) == 1
    assert judge(effect, "improves", 0, seeds=1) == ("inconclusive", "1 of 2 pairs of runs")
    assert seeds_needed(effect, 1.0) is None


def test_equal_differences_are_known_no_better_than_the_images_allow() -> None:
    """Three pairs that differ by the same 0.2 points, one image of 500, prove nothing."""
    effect = effect_of(0.2, 0.2, 0.2, resolution=0.2)
    assert effect.low < 0.2 < effect.high
    assert effect.sd == pytest.approx(0.2 / math.sqrt(6))
    assert effect_of(0, 0, 0, resolution=0.2).high > 0
    # It does not matter if the pairs spread more than that.
    assert effect_of(0, 2, 4, resolution=0.2).sd == pytest.approx(2)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 2.0, "confirmed"),
        (0.0, 2.0, "inconclusive"),  # an end that touches decides nothing
        (-1.0, 2.0, "inconclusive"),
        (-2.0, 0.0, "inconclusive"),
        (-2.0, -0.1, "contradicted"),
    ],
)
def test_an_improvement_is_decided_by_the_side_of_zero(
    low: float, high: float, verdict: str
) -> None:
    assert judge(interval(low, high), "improves", 0, seeds=3)[0] == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.4, 0.4, "confirmed"),
        (-0.5, 0.4, "inconclusive"),
        (0.1, 0.6, "inconclusive"),
        (-0.9, 0.9, "inconclusive"),
        (0.5, 0.9, "inconclusive"),
        (0.6, 0.9, "contradicted"),
        (-0.9, -0.6, "contradicted"),
    ],
)
def test_equivalence_is_decided_by_the_margin(low: float, high: float, verdict: str) -> None:
    assert judge(interval(low, high), "equivalent", 0.5, seeds=3)[0] == verdict


def test_fewer_pairs_than_asked_for_decide_nothing() -> None:
    sure = interval(5, 6, pairs=4)
    assert judge(sure, "improves", 0, seeds=4)[0] == "confirmed"
    assert judge(sure, "improves", 0, seeds=5) == ("inconclusive", "4 of 5 pairs of runs")


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("value", [-0.9, 0.2, 0.45, 1.3])
def test_p_is_the_level_at_which_the_interval_would_just_decide(
    value: float, margin: float
) -> None:
    effect = effect_of(value - 0.2, value, value + 0.2)
    p = p_value(effect, margin)
    half = stats.t.ppf(1 - p / 2, 2) * effect.standard_error
    assert half == pytest.approx(abs(abs(value) - margin))


def test_intervals_cover_the_truth_in_95_of_100_cases() -> None:
    """Also where figures are rounded to whole images, which can only widen them."""
    generator = np.random.default_rng(0)
    for pairs, images in ((3, 50_000), (5, 500), (3, 100)):
        step = 100 / images
        covered = 0
        for _ in range(1500):
            shared = generator.normal(50, 3, pairs)
            figures = (
                dict(
                    enumerate(
                        np.round((shared + generator.normal(-gain, 0.6, pairs)) / step) * step
                    )
                )
                for gain in (1.0, 0.0)
            )
            effect = paired_effect(*figures, resolution=step)
            covered += effect.low <= 1.0 <= effect.high
        assert 0.935 <= covered / 1500 <= (0.965 if step < 0.5 else 1)


def test_the_seeds_that_are_needed_have_the_promised_power() -> None:
    effect = Effect(0.0, 1.0, -1.0, 1.0, 5)
    needed = seeds_needed(effect, 1.4)
    assert needed == 7  # as tabulated for a paired t test with d = 1.4
    generator = np.random.default_rng(1)
    drawn = generator.normal(1.4, 1.0, (20_000, needed))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(
        0.84, abs=0.05
    )
    assert seeds_needed(effect, 50.0) == 2
    assert seeds_needed(effect, 1e-4) is None  # more than anyone would run
    assert seeds_needed(effect, 0.0) is None


def test_the_seeds_that_show_equivalence() -> None:
    needed = seeds_needed(Effect(0.0, 1.0, -1.0, 1.0, 5), 1.0, "equivalent")
    assert needed is not None
    generator = np.random.default_rng(2)
    drawn = generator.normal(0, 1.0, (20_000, needed))
    half = stats.t.ppf(0.975, needed - 1) * drawn.std(axis=1, ddof=1) / math.sqrt(needed)
    assert (np.abs(drawn.mean(axis=1)) + half < 1).mean() == pytest.approx(0.82, abs=0.04)


def test_mcnemar_by_hand() -> None:
    """Nine images right only with it, two only without: 2 (1 + 11 + 55) / 2^11."""
    gained = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 500)
    assert mcnemar(gained) == pytest.approx(2 * 67 / 2048)
    assert mcnemar(np.zeros(100)) == 1


def test_the_bootstrap_is_that_over_seeds_and_images() -> None:
    generator = np.random.default_rng(3)
    with_it = (generator.random((4, 600)) < [[0.6], [0.65], [0.55], [0.6]]).astype(float)
    without = (generator.random((4, 600)) < 0.5).astype(float)
    view = compare_items(with_it, without)
    gained = with_it - without
    means = []
    for _ in range(3000):
        seeds, images = generator.integers(4, size=4), generator.integers(600, size=600)
        means.append(100 * gained[np.ix_(seeds, images)].mean())
    assert (view.low, view.high) == pytest.approx(
        tuple(np.quantile(means, (0.025, 0.975))), abs=0.5
    )
    assert view.images == 600
    assert view.mcnemar == pytest.approx([mcnemar(pair) for pair in gained])
    assert view == compare_items(with_it, without)


def test_shares_of_several_networks_have_no_mcnemar() -> None:
    view = compare_items(np.array([[1.0, 1.0, 0.0]]), np.array([[0.4, 1.0, 0.2]]))
    assert view.mcnemar == ()
    with pytest.raises(ValueError, match="do not pair"):
        compare_items(np.ones((1, 3)), np.ones((1, 4)))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == pytest.approx([1, 1])
    assert holm([]) == []
