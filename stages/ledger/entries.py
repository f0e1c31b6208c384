"""The ledger: the verdict on each claim, from measurements alone.

An arm's runs are found by the hash of its recipe; what counts for a verdict is a pair of runs with the same
seed on the same bytes. A claim that was never run has one entry; one that was run under several conditions
has one for each.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.claim import Arm, Claim, PublishedEffect
from stages.errors import PipelineError
from stages.ledger.arms import recipe_of
from stages.ledger.verdict import (
    Effect,
    ImageView,
    Verdict,
    compare_items,
    holm,
    judge,
    p_value,
    paired_effect,
    seeds_needed,
)
from stages.measurement import TRAINING, Measurement
from stages.metrics import METRICS
from stages.paper import PROFILES, Paper, Profile
from stages.recipe import Recipe
from stages.tasks import correct_items

# The kept predictions of a measurement's network to the validation images (`stages.evaluate.score`), or None.
Predictions = Callable[[Measurement], pa.Table | None]


@dataclass(frozen=True, order=True)
class Conditions:
    """The conditions under which a claim was tested: what two runs must share to be compared.

    Attributes:
        searched: whether each arm had its own learning rate, found by a search.
    """

    profile: str
    dataset: str
    dataset_digest: str
    num_classes: int
    n: int
    searched: bool = False

    @property
    def label(self) -> str:
        """The conditions in a few words."""
        rates = ", rates searched" if self.searched else ""
        return f"{self.profile}, {self.dataset}{rates}"


@dataclass(frozen=True)
class Entry:
    """The verdict on one claim under one set of conditions.

    Attributes:
        conditions: None if it was never run.
        command: starts, or resumes, the runs that the entry rests on; "" if nothing can be run.
        effect: None if there is no pair of runs; `images` is also None if no predictions were kept.
        runs_needed: how many runs of each arm would decide the published effect (or the margin) at this
            scale.
        p: see `p_value`; `p_holm` is corrected for all claims that were tested.
        with_it: the runs that count, one per seed; `without` has the other arm's.
    """

    claim: Claim
    conditions: Conditions | None
    verdict: Verdict
    reason: str
    command: str
    effect: Effect | None = None
    images: ImageView | None = None
    runs_needed: int | None = None
    p: float | None = None
    p_holm: float | None = None
    with_it: tuple[Measurement, ...] = ()
    without: tuple[Measurement, ...] = ()


@dataclass(frozen=True)
class Ledger:
    """All claims in their order.

    Attributes:
        entries: at least one per claim.
        recipe_ids: hashes of the recipes that are run only to test a claim, and belong to no paper.
    """

    entries: tuple[Entry, ...] = ()
    recipe_ids: frozenset[str] = frozenset()


# The runs of one recipe, by conditions and seed.
_Runs = Mapping[Conditions, Mapping[int, Measurement]]


class _Key(NamedTuple):
    """What tells one arm's figures from those of others."""

    profile: str
    recipe_id: str
    protocol: str
    metric: str


@dataclass(frozen=True)
class _Side:
    """An arm at a profile, and its measurements by conditions and seed."""

    arm: Arm
    recipe: Recipe
    measured: _Runs


def make_ledger(
    claims: Iterable[Claim],
    papers: Sequence[Paper],
    measurements: Iterable[Measurement],
    predictions: Predictions = lambda _: None,
    searched: Mapping[tuple[str, str], str] | None = None,
) -> Ledger:
    """Compute every entry.

    Args:
        claims: all of them.
        papers: the papers whose recipes the claims' arms change.
        measurements: all those in the store. If two have the same conditions and seed, the later counts.
        predictions: without it there is no comparison image by image, and no verdict on averaged networks.
        searched: ids of the recipes with searched learning rates, by the id of the arm's own recipe
            and the data's digest.
    """
    searched = searched or {}
    measured = _by_arm(measurements, searched)
    entries: list[Entry] = []
    recipe_ids: set[str] = set()
    for claim in claims:
        tested: list[Entry] = []
        for profile in PROFILES:
            try:
                with_it, without = (
                    _side(claim, arm, papers, profile, measured) for arm in claim.arms(profile)
                )
            except PipelineError:  # it cannot be tested here, or there is no such recipe
                continue
            recipe_ids |= {with_it.recipe.id, without.recipe.id}
            for conditions in sorted(with_it.measured.keys() & without.measured.keys()):
                entry = _entry(claim, conditions, with_it, without, predictions)
                tested += [entry] if entry else []
        entries += tested or [_untested(claim)]
    recipe_ids |= {best for (arm, _), best in searched.items() if arm in recipe_ids}
    return Ledger(_corrected(entries), frozenset(recipe_ids - _published_ids(papers)))


def published_effect(claim: Claim, *, logged: bool) -> PublishedEffect | None:
    """The effect that the paper prints for the claim's metric, or that its authors logged; None if none."""
    for effect in claim.published:
        if effect.logged == logged and effect.metric in (None, claim.metric):
            return effect
    return None


def _by_arm(
    measurements: Iterable[Measurement], searched: Mapping[tuple[str, str], str]
) -> Mapping[_Key, _Runs]:
    """The measurements of every arm; those with searched rates also count for the arm's own recipe."""
    measured: dict[_Key, dict[Conditions, dict[int, Measurement]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for m in sorted(measurements, key=lambda m: (m.finished_at, m)):
        conditions = Conditions(m.profile, m.dataset, m.dataset_digest, m.num_classes, m.n)
        measured[_Key(m.profile, m.recipe_id, m.protocol, m.metric)][conditions][m.seed] = m
    for key, by_conditions in list(measured.items()):
        for (arm, data), best in searched.items():
            if best == key.recipe_id:
                measured[key._replace(recipe_id=arm)] |= {
                    replace(conditions, searched=True): runs
                    for conditions, runs in by_conditions.items()
                    if conditions.dataset_digest == data and not conditions.searched
                }
    return measured


def _side(
    claim: Claim,
    arm: Arm,
    papers: Sequence[Paper],
    profile: Profile,
    measured: Mapping[_Key, _Runs],
) -> _Side:
    recipe = recipe_of(claim, arm, papers, profile)
    trained = METRICS[claim.metric].split == "train"
    protocol = TRAINING if trained else arm.tested_by(recipe)
    return _Side(arm, recipe, measured.get(_Key(profile, recipe.id, protocol, claim.metric), {}))


def _published_ids(papers: Sequence[Paper]) -> set[str]:
    return {
        recipe.id
        for paper in papers
        for recipes in paper.recipes.values()
        for recipe in recipes.values()
        if isinstance(recipe, Recipe)
    }


def _entry(
    claim: Claim, conditions: Conditions, with_it: _Side, without: _Side, predictions: Predictions
) -> Entry | None:
    """The entry for conditions under which both arms were run; None if none of their runs pair."""
    metric = METRICS[claim.metric]
    sides = with_it, without
    seeds = sorted(with_it.measured[conditions].keys() & without.measured[conditions].keys())
    # Runs with successive seeds answer together; no run counts in two groups.
    size = max(side.arm.nets for side in sides)
    groups = [seeds[start : start + size] for start in range(0, len(seeds) - size + 1, size)]
    runs = [[[side.measured[conditions][s] for s in group] for group in groups] for side in sides]
    correct = [
        _correct(side, claim.metric, own, predictions) if metric.per_item else None
        for side, own in zip(sides, runs, strict=True)
    ]
    figures = [
        _figures(side.arm, claim.metric, groups, own, shares)
        for side, own, shares in zip(sides, runs, correct, strict=True)
    ]
    if not all(figures):
        return None
    known = [shares for shares in correct if shares is not None]
    effect = paired_effect(*figures, resolution=metric.resolution(conditions.n), sign=metric.sign)
    verdict, reason = judge(effect, claim.expects, claim.margin, claim.seeds)
    published = published_effect(claim, logged=False) or published_effect(claim, logged=True)
    aim = claim.margin if claim.expects == "equivalent" else published.value if published else 0.0
    needed = seeds_needed(effect, aim, claim.expects)
    return Entry(
        claim,
        conditions,
        verdict,
        reason,
        _command(claim, conditions.profile, conditions, effect.pairs),
        effect,
        images=compare_items(*known) if len(known) == 2 else None,
        runs_needed=None if needed is None else needed * size,
        p=None if effect.pairs == 1 else p_value(effect, claim.margin),
        with_it=tuple(m for group in runs[0] for m in group),
        without=tuple(m for group in runs[1] for m in group),
    )


def _figures(
    arm: Arm,
    metric: str,
    groups: Sequence[Sequence[int]],
    runs: Sequence[Sequence[Measurement]],
    correct: NDArray[np.float64] | None,
) -> dict[int, float]:
    """The arm's figure for each group, by its first seed.

    It is empty if the predictions needed for averaging were not kept.
    """
    if arm.nets == 1:
        values = [mean(m.value for m in group) for group in runs]
    elif correct is not None:
        shares = [float(row.mean()) for row in correct]
        lower = METRICS[metric].better == "lower"
        values = [100 * (1 - share if lower else share) for share in shares]
    else:
        return {}
    return {group[0]: value for group, value in zip(groups, values, strict=True)}


def _correct(
    side: _Side, metric: str, groups: Sequence[Sequence[Measurement]], predictions: Predictions
) -> NDArray[np.float64] | None:
    """(groups, items): the share of an arm's networks that are correct, or whether they are together."""
    rows = []
    for group in groups:
        tables = [table for m in group if (table := predictions(m)) is not None]
        if len(tables) < len(group):
            return None
        together = [tables] if side.arm.nets > 1 else [[table] for table in tables]
        each = [correct_items(side.recipe, metric, some) for some in together]
        rows.append(np.mean(each, axis=0))
    return np.array(rows, np.float64)


def _untested(claim: Claim) -> Entry:
    runnable = [profile for profile in PROFILES if profile not in claim.not_comparable]
    if claim.computed:
        return Entry(claim, None, "computed only", claim.computed, "")
    reasons = "; ".join(dict.fromkeys(claim.not_comparable.values()))
    if not runnable:
        return Entry(claim, None, "not comparable", reasons, "")
    partly = f"not comparable at {', '.join(claim.not_comparable)}: {reasons}" if reasons else ""
    return Entry(claim, None, "not run", partly, _command(claim, runnable[0]))


def _command(
    claim: Claim, profile: str, conditions: Conditions | None = None, pairs: int = 0
) -> str:
    command = f"python -m pipeline.ablate --paper {claim.paper} --claims {claim.id}"
    command += f" --profile {profile}"
    if pairs > claim.seeds:
        command += f" --seeds {pairs}"
    if conditions and conditions.searched:
        command += " --search"
    if conditions and not conditions.dataset.startswith("embedded-"):
        command += f" --data PATH/{conditions.dataset}"
    return command


def _corrected(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    tested = [entry.p for entry in entries if entry.p is not None]
    adjusted = iter(holm(tested))
    return tuple(
        entry if entry.p is None else replace(entry, p_holm=next(adjusted)) for entry in entries
    )
