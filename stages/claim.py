"""What a paper claims, as data that can be tested: pairs of recipes that differ in one thing.

A claim has two arms, trained with the same seeds on the same data, and a rule that turns their difference
into a verdict (`stages.ledger.verdict`). Pure data: importing this module imports no torch.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, TypeVar

from stages.augmentation import Augmentation
from stages.errors import PipelineError
from stages.recipe import PROFILES, Optimiser, ParameterGroup, Profile, Recipe, Schedule, Steps

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Arm:
    """A recipe that differs from one of the paper's by what is said here, and how it is tested.

    An arm of knobs and changes can be made of any kind of recipe. `augmentation`, `weight_decay` and
    `constant_rate` shorten what many arms of classifiers change; they apply to recipes that have an
    augmentation, or an optimiser.

    Attributes:
        name: what tells it from the other arm, in a few words.
        knobs: arguments of the network that are added to the base's, or replace them.
        without_knobs: arguments of the base's that are left to the network's defaults.
        changes: fields of the recipe that replace the base's.
        augmentation: fields of the recipe's `Augmentation` that replace the base's.
        weight_decay: replaces that of every parameter group that the base decays; None keeps the base's.
        constant_rate: leaves out the base's fixed drops, so that the highest rate holds throughout.
        base: the name of the recipe that is changed, by profile; the headline's where none is named.
        paper: the paper that has this recipe; "" for the claim's own.
        protocol: how the arm is tested; "" for the recipe's first protocol.
        nets: how many runs, of successive seeds, answer together by the mean of their probabilities.
        network: the paper whose headline's network this recipe trains; "" for the base's own.
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
    protocol: str = ""
    nets: int = 1
    network: str = ""

    def recipe(self, base: AnyRecipe) -> AnyRecipe:
        """The recipe of this arm; equal to `base`, and so the same run, where it changes nothing.

        The base's deviations are kept, since they hold for both arms.

        Raises:
            TypeError: the base, or its augmentation, has no such field; or the rate is to be constant
                and the base's does not fall in fixed drops.
        """
        inherited = {
            name: knob for name, knob in base.knobs.items() if name not in self.without_knobs
        }
        fields: dict[str, Any] = {"knobs": {**inherited, **self.knobs}}
        if self.augmentation:
            augmentation = self._part(base, "augmentation", Augmentation)
            fields["augmentation"] = dataclasses.replace(augmentation, **self.augmentation)
        if self.weight_decay is not None or self.constant_rate:
            optimiser = self._part(base, "optimiser", Optimiser)
            groups = tuple(self._group(group) for group in optimiser.groups)
            fields["optimiser"] = dataclasses.replace(optimiser, groups=groups)
        fields |= self.changes
        unknown = fields.keys() - {item.name for item in dataclasses.fields(base)}
        if unknown:
            raise TypeError(
                f"the arm {self.name!r} changes {', '.join(sorted(unknown))}, which a "
                f"{type(base).__name__} does not have"
            )
        return dataclasses.replace(base, **fields)

    def tested_by(self, recipe: Recipe) -> str:
        """The protocol by which `recipe`, which is this arm's, is tested."""
        return self.protocol or recipe.protocols[0]

    def _part(self, base: Recipe, name: str, kind: type[_Part]) -> _Part:
        part = getattr(base, name, None)
        if not isinstance(part, kind):
            raise TypeError(
                f"the arm {self.name!r} changes the {name}, which a {type(base).__name__} does not have"
            )
        return part

    def _group(self, group: ParameterGroup) -> ParameterGroup:
        if self.weight_decay is not None and group.weight_decay:
            group = dataclasses.replace(group, weight_decay=self.weight_decay)
        if self.constant_rate:
            group = dataclasses.replace(group, schedule=_highest(group.schedule))
        return group


def _highest(schedule: Schedule) -> Steps:
    if not isinstance(schedule, Steps):
        raise TypeError(
            f"a rate can be made constant only where it falls in steps, not by {schedule}"
        )
    return Steps(((0, max(rate for _, rate in schedule.rates)),))


@dataclass(frozen=True)
class PublishedEffect:
    """What the paper, or its authors' log, says the difference is.

    Attributes:
        value: the difference in points of error, or in the metric's unit; positive where ``with_it`` is
            better.
        dataset: the data set and its split, e.g. ``"ILSVRC-2012 val"``.
        protocol: how it was tested, in words.
        source: section, table or file.
        metric: what the difference is of, where that is not the claim's metric.
        printed: the paper's words, where it prints no plain number ("over 1").
        logged: whether it stands in the authors' logs, not in the paper.
    """

    value: float
    dataset: str
    protocol: str
    source: str
    _: KW_ONLY
    metric: str | None = None
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
    errors: tuple[tuple[str, float | None], ...] = (("error_top1", top1), ("error_top5", top5))
    return tuple(
        PublishedEffect(round(value, 3), dataset, protocol, source, metric=metric, logged=logged)
        for metric, value in errors
        if value is not None
    )


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper that a pair of trainings can test.

    The effect is metric(without) - metric(with_it) of runs that share their seed, or the reverse where a
    higher figure is better: positive where the thing claimed helps. A series (depth 20, 32, 44, ...) is one
    claim for each step, so that each step has its own verdict.

    Attributes:
        paper: the key of the paper that makes it.
        id: a short name, unique in the paper.
        statement: one sentence in the present tense.
        source: the section or table that makes it.
        with_it: the arm with the thing claimed; `without` is the arm it is compared with. Both are None
            where nothing can be trained, which `not_comparable` or `computed` then explains.
        metric: the name of what the arms differ in (see `stages.metrics.METRICS`).
        published: the published effects, first the one that belongs to the statement; none where the paper
            gives no number.
        expects: ``improves``, or ``equivalent``: no difference as large as `margin`.
        margin: the points (of the metric's unit) up to which a difference counts as none.
        seeds: how many pairs a verdict needs, of runs or of groups of an arm's `nets` runs.
        not_comparable: why the claim cannot be tested, by profile.
        computed: what settles it without training, and where that can be checked.
        tuned: whether the published comparison gave each arm its own learning rate.
    """

    paper: str
    id: str
    statement: str
    source: str
    with_it: Arm | None = None
    without: Arm | None = None
    metric: str = "error_top1"
    published: tuple[PublishedEffect, ...] = ()
    expects: Literal["improves", "equivalent"] = "improves"
    margin: float = 0.0
    seeds: int = 3
    not_comparable: Mapping[str, str] = field(default_factory=dict)
    computed: str = ""
    tuned: bool = False

    @property
    def key(self) -> str:
        """The claim's name among those of all papers."""
        return f"{self.paper}/{self.id}"

    def arms(self, profile: Profile) -> tuple[Arm, Arm]:
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


def everywhere(reason: str) -> dict[str, str]:
    """A reason that holds at every profile."""
    return dict.fromkeys(PROFILES, reason)
