"""What a paper claims, as data that can be tested: pairs of recipes that differ in the one thing.

A claim has two arms, trained with the same seeds on the same data, and a rule that turns their difference
into a verdict (`stages.ledger.verdict`). Pure data: importing this module imports no torch.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from stages.errors import PipelineError
from stages.measurement import Metric
from stages.recipe import Ensemble, Recipe, Schedule, Steps

PROFILES = ("toy", "mini", "paper")

# Paper, profile and name of each recipe that an arm may change; the first name is the headline's.
Bases = Mapping[str, Mapping[Any, Mapping[str, Recipe | Ensemble]]]


@dataclass(frozen=True)
class Arm:
    """A recipe that differs from one of the paper's by what is said here, and how it is tested.

    Attributes:
        name: what tells it from the other arm, in a few words.
        knobs: arguments of the network, over the base's; `without_knobs` are left to their defaults.
        changes: fields of `Recipe`, over the base's.
        augmentation: fields of `Augmentation`, over the base's.
        weight_decay: of every parameter group that is decayed in the base; None for the base's.
        constant_rate: whether the base's fixed drops are left out, and the highest rate holds throughout.
        base: profile -> name of the recipe that is changed; the headline's where none is named.
        paper: whose recipe that is; "" for the claim's own.
        protocol: of the test; "" for the first one of the recipe.
        nets: so many runs, of successive seeds, answer together by the mean of their probabilities.
        network: paper whose headline's network is trained, by this recipe; "" for the base's own.
    """

    name: str
    _: KW_ONLY
    knobs: Mapping[str, Any] = field(default_factory=dict)
    without_knobs: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    weight_decay: float | None = None
    constant_rate: bool = False
    base: Mapping[str, str] = field(default_factory=dict)
    paper: str = ""
    protocol: str | Literal[""] = ""
    nets: int = 1
    network: str = ""

    def recipe(self, base: Recipe, network: Recipe | None = None) -> Recipe:
        """The recipe of this arm; equal to `base`, and so the same run, where it changes nothing.

        Deviations of the base are kept: they hold for both arms.

        Args:
            base: what is changed.
            network: recipe whose network, with its knobs and auxiliary heads, takes the place of
                the base's. It sees the base's crops.

        Raises:
            TypeError: `Recipe` or `Augmentation` has no such field; or the rate is to be constant and
                the base's does not fall in fixed drops.
        """
        if network is not None:
            base = _with_network(base, network)
        groups = base.optimiser.groups
        if self.weight_decay is not None:
            groups = tuple(
                dataclasses.replace(g, weight_decay=self.weight_decay) if g.weight_decay else g
                for g in groups
            )
        if self.constant_rate:
            groups = tuple(dataclasses.replace(g, schedule=_highest(g.schedule)) for g in groups)
        fields: dict[str, Any] = {
            "knobs": {
                **{k: v for k, v in base.knobs.items() if k not in self.without_knobs},
                **self.knobs,
            },
            "augmentation": dataclasses.replace(base.augmentation, **self.augmentation),
            "optimiser": dataclasses.replace(base.optimiser, groups=groups),
        }
        return dataclasses.replace(base, **{**fields, **self.changes})

    def tested_by(self, recipe: Recipe) -> str:
        """The protocol of the test of `recipe`, which is this arm's."""
        return self.protocol or recipe.protocols[0]


@dataclass(frozen=True)
class PublishedEffect:
    """What the paper, or its authors' log, says the difference is.

    Attributes:
        value: points of error (of the metric's unit), positive where ``with_it`` is better.
        dataset: and split, e.g. ``"ILSVRC-2012 val"``.
        protocol: how it was tested, in words.
        source: section, table or file.
        metric: of what it is the difference, where that is not the claim's.
        printed: the words, where the paper prints no plain number ("over 1").
        logged: not printed, but in the authors' logs.
    """

    value: float
    dataset: str
    protocol: str
    source: str
    _: KW_ONLY
    metric: Metric | None = None
    printed: str = ""
    logged: bool = False


def effects(
    dataset: str,
    protocol: str,
    source: str,
    *,
    top1: float | None = None,
    top5: float | None = None,
    logged: bool = False,
) -> tuple[PublishedEffect, ...]:
    """Published differences of the top-1 and the top-5 error, rounded to a log's three decimals."""
    found: tuple[tuple[Metric, float | None], ...] = (("error_top1", top1), ("error_top5", top5))
    return tuple(
        PublishedEffect(round(value, 3), dataset, protocol, source, metric=metric, logged=logged)
        for metric, value in found
        if value is not None
    )


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper that a pair of trainings can test.

    The effect is metric(without) - metric(with_it) of runs that share their seed: positive where the
    thing claimed lowers the error. A series (depth 20, 32, 44, ...) is one claim a step, so that
    each step has its own verdict.

    Attributes:
        paper: key of the paper; `id` is unique in it.
        statement: one sentence, present tense.
        source: section or table.
        with_it: arm with the thing claimed; `without` is the arm it is compared with. Both None
            where nothing can be trained, which `not_comparable` or `computed` then explains.
        metric: of the difference.
        published: effects, the one that belongs to the statement first; none where it has no number.
        expects: ``improves``, or ``equivalent``: no difference as large as `margin`.
        margin: points (of the metric's unit) that are taken for no difference.
        seeds: pairs below which there is no verdict: of runs, or of groups of an arm's `nets` runs.
        not_comparable: profile -> why the claim cannot be tested there.
        computed: what settles it without training, and where that is checked.
        tuned: the published comparison gave each arm its own learning rate.
    """

    paper: str
    id: str
    statement: str
    source: str
    with_it: Arm | None = None
    without: Arm | None = None
    metric: Metric = "error_top1"
    published: tuple[PublishedEffect, ...] = ()
    expects: Literal["improves", "equivalent"] = "improves"
    margin: float = 0.0
    seeds: int = 3
    not_comparable: Mapping[str, str] = field(default_factory=dict)
    computed: str = ""
    tuned: bool = False

    @property
    def key(self) -> str:
        """Its name among all papers' claims."""
        return f"{self.paper}/{self.id}"

    @property
    def in_epochs(self) -> bool:
        """Whether its effect is in epochs, not in points of error."""
        return self.metric == "epochs_to_train_error_25"

    def arms(self, profile: str) -> tuple[Arm, Arm]:
        """The arms to train at a profile: with the thing claimed, and without.

        Raises:
            PipelineError: there are none, for the reason given.
        """
        reason = self.computed or self.not_comparable.get(profile)
        if reason is not None or self.with_it is None or self.without is None:
            raise PipelineError(
                f"the claim {self.key} is not tested at profile {profile}: {reason}",
                "leave it out of --claims",
            )
        return self.with_it, self.without


def recipe_of(claim: Claim, arm: Arm, bases: Bases, profile: str) -> Recipe:
    """What an arm of a claim trains.

    Raises:
        PipelineError: a paper has no such recipe at that profile, or it is an ensemble's.
    """
    base = _find(bases, arm.paper or claim.paper, profile, arm.base.get(profile, ""))
    return arm.recipe(base, _find(bases, arm.network, profile) if arm.network else None)


def scaled_rates(recipe: Recipe, factor: float) -> Recipe:
    """The same recipe with every learning rate multiplied by ``factor``; the same run where that is 1."""
    groups = tuple(
        dataclasses.replace(group, factor=group.factor * factor)
        for group in recipe.optimiser.groups
    )
    return dataclasses.replace(
        recipe, optimiser=dataclasses.replace(recipe.optimiser, groups=groups)
    )


def _highest(schedule: Schedule) -> Steps:
    if not isinstance(schedule, Steps):
        raise TypeError(f"no rate of {schedule} holds until an epoch")
    return Steps(((0, max(rate for _, rate in schedule.rates)),))


def everywhere(reason: str) -> dict[str, str]:
    """A reason that holds at every profile."""
    return dict.fromkeys(PROFILES, reason)


def _find(bases: Bases, paper: str, profile: str, name: str = "") -> Recipe:
    recipes = bases.get(paper, {}).get(profile, {})
    name = name or next(iter(recipes), "")
    found = recipes.get(name)
    if not isinstance(found, Recipe):
        raise PipelineError(
            f"{paper} has no recipe {name!r} of one network at profile {profile}",
            f"there are: {', '.join(recipes) or 'none'}",
        )
    return found


def _with_network(recipe: Recipe, network: Recipe) -> Recipe:
    knobs = dict(network.knobs)
    if "image_size" in knobs:
        knobs["image_size"] = recipe.augmentation.crop
    # A start is another network's weights, which do not fit.
    return dataclasses.replace(
        recipe,
        model=network.model,
        knobs=knobs,
        auxiliary_weight=network.auxiliary_weight,
        start=None,
    )
