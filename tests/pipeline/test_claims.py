"""The claims as data: each can be trained wherever it does not say why not."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from models import create_on_meta
from pipeline import papers
from pipeline.engine.arm_runs import arms_of
from pipeline.papers import CLAIMS
from stages.claim import Arm, Claim
from stages.errors import PipelineError
from stages.ledger.arms import recipe_of
from stages.metrics import METRICS
from stages.paper import PROFILES, Profile
from stages.recipe import Steps
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification
from tests.conftest import ROOT

NAMES = [paper.name for paper in papers.PAPERS]


def arms_at(claim: Claim, profile: Profile) -> list[tuple[Arm, Classification]]:
    """The arms with their recipes; none where the claim says why not."""
    if claim.computed or profile in claim.not_comparable:
        return []
    return [(arm, recipe_of(claim, arm, papers.PAPERS, profile)) for arm in claim.arms(profile)]


def test_keys_are_unique_and_papers_known() -> None:
    assert max(Counter(claim.key for claim in CLAIMS).values()) == 1
    assert {claim.paper for claim in CLAIMS} <= set(NAMES)
    for claim in CLAIMS:
        assert claim.statement.endswith("."), claim.key
        assert claim.source or claim.computed
        assert (claim.margin > 0) == (claim.expects == "equivalent"), claim.key
        assert "," not in claim.id  # ids are joined by commas on the command line


@pytest.mark.parametrize("profile", ["toy", pytest.param("mini", marks=pytest.mark.slow), "paper"])
def test_every_arm_builds_its_network_and_differs_from_the_other(profile: Profile) -> None:
    built = set()
    for claim in CLAIMS:
        arms = arms_at(claim, profile)
        described = {(recipe.id, arm.tested_by(recipe), arm.nets) for arm, recipe in arms}
        assert len(described) == len(arms), f"{claim.key}: the arms are one and the same"
        for arm, recipe in arms:
            if METRICS[claim.metric].split == "val":
                Views(arm.tested_by(recipe), recipe.shown)  # refuses whole images without scales
            network = recipe.model, repr(sorted(recipe.knobs.items()))
            if network not in built:
                built.add(network)
                create_on_meta(recipe.model, 100, **recipe.knobs)


def test_arms_change_what_they_say_and_nothing_else() -> None:
    arms = {claim.id: arms_at(claim, "toy") for claim in CLAIMS if claim.paper == "alexnet"}
    base = papers.find(None, "alexnet").recipes["toy"]["authors"]
    assert isinstance(base, Classification)
    for claim, changed in {
        "lrn": {"knobs.lrn"},
        "overlap": {"knobs.overlapping_pooling"},
        "dropout": {"knobs.dropout"},
        "pca_colour": {"augmentation.colour_noise"},
        "crops_flips": {"augmentation.flip", "augmentation.random_crop"},
    }.items():
        (_, with_it), (_, without) = arms[claim]
        assert with_it.id == base.id
        assert differences(with_it, without) == changed
    (_, with_it), (_, without) = arms["weight_decay"]
    assert differences(with_it, without) == {"optimiser"}
    assert [group.weight_decay for group in without.optimiser.groups] == [0] * len(
        without.optimiser.groups
    )
    (_, relu), (_, tanh) = arms["relu"]
    assert differences(relu, tanh) == {"knobs.activation"}
    # Section 3.1: without any regularisation.
    assert not any(group.weight_decay for group in relu.optimiser.groups)
    assert not relu.augmentation.flip
    assert not relu.augmentation.random_crop
    assert {g.schedule for g in relu.optimiser.groups} == {Steps(((0, 4e-3),))}
    assert relu.epochs >= 36  # what tanh took
    (claim,) = (claim for claim in CLAIMS if claim.key == "alexnet/relu")
    assert {arm.searched_by for arm in arms_of([claim], "toy", None)} == {"train_error_top1"}


def differences(one: Classification, other: Classification) -> set[str]:
    """Names of the fields in which two recipes differ."""
    a, b = one.resolved(), other.resolved()
    found = set()
    for name in a:
        if a[name] != b[name] and name in ("knobs", "augmentation"):
            keys = a[name].keys() | b[name].keys()
            found |= {f"{name}.{k}" for k in keys if a[name].get(k) != b[name].get(k)}
        elif a[name] != b[name]:
            found.add(name)
    return found


def test_tests_of_one_run_train_once() -> None:
    """Where two protocols are compared, both arms are the same run."""
    for key in ("alexnet/ten_crop", "vgg/multi_scale", "googlenet/144_crops", "resnet/multi_scale"):
        (claim,) = (claim for claim in CLAIMS if claim.key == key)
        (with_it, one), (without, other) = arms_at(claim, "mini")
        assert one.id == other.id
        assert with_it.tested_by(one) != without.tested_by(other)


def test_published_arms_are_the_papers_own_recipes() -> None:
    """At the published scale an arm that a paper trained itself is that run, not a second one."""
    for key, names in {
        "resnet/residual_34": ("resnet34", "plain34"),
        "resnet/option_c": ("resnet34_c", "resnet34_b"),
        "resnet/cifar_depth_32": ("cifar32", "cifar20"),
        "vgg/depth_16": ("d_256", "b_256"),
        "vgg/lrn": ("a_lrn_256", "a_256"),
        "zfnet/wider": ("wider", "fig3"),
        "resnext/cardinality": ("50_32x4d", "50_1x64d"),
        "senet/resnet50": ("se_resnet50", "resnet50"),
    }.items():
        (claim,) = (claim for claim in CLAIMS if claim.key == key)
        own = papers.find(None, claim.paper).recipes["paper"]
        for (_, recipe), name in zip(arms_at(claim, "paper"), names, strict=True):
            expected = own[name]
            assert isinstance(expected, Classification)
            assert differences(recipe, expected) <= {"protocols"}, (key, name)


def test_the_grid_trains_every_net_by_every_recipe() -> None:
    of_grid = [claim for claim in CLAIMS if claim.source == "counterfactual, claimed nowhere"]
    cells = {
        (arm.network or arm.paper, arm.paper)
        for claim in of_grid
        for arm, _ in arms_at(claim, "mini")
    }
    nets = {net for net, _ in cells}
    assert len(nets) == 7
    assert cells >= {(net, recipe) for net in nets for recipe in nets} - {("senet", "senet")}
    for claim in of_grid:
        for arm, recipe in arms_at(claim, "mini"):
            if "image_size" in recipe.knobs:
                assert recipe.knobs["image_size"] == recipe.augmentation.crop, (claim.key, arm.name)


def test_what_cannot_be_tested_says_why() -> None:
    (claim,) = (claim for claim in CLAIMS if claim.key == "alexnet/pretraining")
    with pytest.raises(PipelineError, match="Fall 2011"):
        claim.arms("toy")
    (computed,) = (claim for claim in CLAIMS if claim.key == "googlenet/parameters")
    with pytest.raises(PipelineError, match="60,965,224"):
        computed.arms("paper")


def test_the_terminal_lists_every_claim_of_an_empty_store(tmp_path: Path) -> None:
    """Without importing torch, MLflow or Ray."""
    code = (
        "import sys; sys.argv = ['claims', '--workspace', sys.argv[1]]\n"
        "import runpy\n"
        "try: runpy.run_module('pipeline.claims', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'mlflow', 'ray'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    listed = [line for line in done.stdout.splitlines() if "/" in line.split(" ")[0]]
    assert [line.split()[0] for line in listed] == [claim.key for claim in CLAIMS]
    for line, claim in zip(listed, CLAIMS, strict=True):
        untestable = claim.computed or set(claim.not_comparable) == set(PROFILES)
        assert ("  not run" in line) != bool(untestable), line


# How the papers tested what they published, and the protocols that are that test.
TESTED = {
    "ten crops": {"ten_crop", "ten_crop_rectangle"},
    "not spelt out: ten crops": {"ten_crop"},
    "centre crop": {"centre_crop"},
    "1 crop": {"centre_crop"},
    "144 crops": {"144_crops"},
    "dense, one scale": {"dense"},
    "dense, one scale, Q = 384": {"dense"},
    "dense, one scale, S in [256, 512]": {"dense"},
    "plain image": {"centre_crop"},
    "whole digit": {"centre_crop"},
}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_claim_is_tested_as_its_published_figure_was(claim: Claim) -> None:
    """Where the arms are two tests, or the paper does not say how it tested, there is nothing to compare."""
    used = {arm.tested_by(recipe) for arm, recipe in arms_at(claim, "paper")}
    for effect in claim.published:
        if effect.protocol in TESTED:
            assert used <= TESTED[effect.protocol], (effect.protocol, effect.source)


def test_every_way_to_test_that_is_published_is_known_here() -> None:
    other = {"not stated", "training", "training error", "1 net", "ten crops against one"}
    of_tests = {"D, S in [256, 512], Q = 256, 384, 512", "ResNet-152"}
    said = {effect.protocol for claim in CLAIMS for effect in claim.published}
    assert said == TESTED.keys() | other | of_tests
