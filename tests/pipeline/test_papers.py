"""Every paper's recipes and figures, against what it published."""

import re
from collections.abc import Iterator

import pytest
from torch import nn

import models
from models.vgg import TAKEN_FROM_A
from pipeline import papers
from pipeline.papers import PAPERS
from pipeline.papers.alexnet import recipes as alexnet
from pipeline.papers.googlenet import recipes as googlenet
from pipeline.papers.record import published_results
from pipeline.papers.resnet import recipes as resnet
from pipeline.papers.resnext import recipes as resnext
from pipeline.papers.senet import recipes as senet
from pipeline.papers.trimps import recipes as trimps
from pipeline.papers.vgg import recipes as vgg
from pipeline.papers.zfnet import recipes as zfnet
from stages.embedded import CLASSES
from stages.errors import PipelineError
from stages.load.loader import steps_per_epoch
from stages.metrics import BENCHMARKS
from stages.paper import PROFILES, Paper
from stages.recipe import Ensemble, Plateau
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification
from stages.training import optim

EMBEDDED_IMAGES = 200 * len(CLASSES)

by_paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)


def trainings(recipe: Classification | Ensemble) -> tuple[Classification, ...]:
    """All that must be trained for a recipe, each once."""
    nets = (
        [member.recipe for member in recipe.members] if isinstance(recipe, Ensemble) else [recipe]
    )
    return tuple({r.id: r for net in nets for r in (*net.ancestors, net)}.values())


def recipes_of(paper: Paper) -> Iterator[tuple[str, Classification | Ensemble]]:
    for profile in PROFILES:
        for name, recipe in paper.recipes[profile].items():
            yield f"{profile} {name}", recipe


def network(recipe: Classification) -> nn.Module:
    classes = len(CLASSES) if "width" in recipe.knobs else 1000
    return models.create_on_meta(recipe.model, classes, **recipe.knobs)


# The history as a list


def test_the_winner_stands_first_in_its_year() -> None:
    assert [paper.year for paper in PAPERS] == sorted(paper.year for paper in PAPERS)
    first = {year: papers.find(year, None).name for year in range(2012, 2018)}
    assert first == {
        2012: "alexnet",
        2013: "zfnet",
        2014: "googlenet",
        2015: "resnet",
        2016: "trimps",
        2017: "senet",
    }
    assert [paper.name for paper in papers.select(2014, None)] == ["googlenet", "vgg"]
    assert papers.find(None, "resnext").year == 2016
    with pytest.raises(PipelineError, match="planned"):
        papers.find(2011, None)


# The record's families whose figures of one net are those of a paper of another name.
FAMILIES = {"ensemble": "trimps", "inception": "trimps"}
# Figures (team, top-5 error) that stand in the record alone. This one is of Inception-ResNet-v2 with multiple
# crops, a test that the recipe of 2016's fusion does not have, so that no run could stand beside it.
ALONE = {("Google (Feb 2016 paper)", "3.7")}


@by_paper
def test_the_record_s_figures_of_one_net_stand_in_its_paper(paper: Paper) -> None:
    """`timeline.csv` and the papers' files were written apart; both say the same."""
    rows = [r for r in published_results() if FAMILIES.get(r.family, r.family) == paper.name]
    singles = [(row, single) for row in rows for single in row.single]
    assert bool(singles) == (paper.year >= papers.FIRST_CHALLENGE)
    for row, single in singles:
        top1 = float(single.error_top1) if single.error_top1 else None
        same = [
            one
            for one in paper.published
            if one.nets == 1
            # The record rounds VGG's entry, which is 8.434 in the official results.
            and (one.figures.get("error_top1"), round(one.figures.get("error_top5", 0), 2))
            == (top1, float(single.error_top5))
            and one.split == single.split
            # The record names one crop and ten, and does not say of what.
            and one.protocol.startswith(single.protocol)
            and one.extra_data == row.extra_data
        ]
        alone = (row.team, single.error_top5) in ALONE
        assert bool(same) != alone, (row.team, single.described, same)


def test_only_figures_of_papers_that_are_not_here_stand_in_the_record_alone() -> None:
    families = {row.family for row in published_results() if row.single}
    known = {paper.name for paper in PAPERS} | FAMILIES.keys()
    assert families - known == {"shallow", "bn-inception", "prelu-net", "polynet", "dpn"}


@by_paper
def test_published_figures_name_a_recipe_that_could_give_them(paper: Paper) -> None:
    assert paper.published
    for row in paper.published:
        assert row.source
        assert row.figures
        if not row.recipe:
            continue
        recipe = paper.recipes["paper"][row.recipe]
        assert row.protocol in recipe.protocols, row
        nets = len(recipe.members) if isinstance(recipe, Ensemble) else 1
        assert row.nets in (None, nets), row
        # The labels of ILSVRC-2012's test set were never released; on all others a run can meet its row.
        benchmark = BENCHMARKS[row.benchmark]
        assert benchmark.name == "ilsvrc2012-test" or benchmark.data == recipe.data, row
    keys = [(r.described, r.protocol, r.split, r.logged) for r in paper.published]
    assert len(keys) == len(set(keys))


# Every recipe of every profile


@by_paper
def test_every_network_builds_and_every_parameter_has_its_group(paper: Paper) -> None:
    every = {r.id: r for _, recipe in recipes_of(paper) for r in trainings(recipe)}
    built: dict[str, nn.Module] = {}
    for recipe in every.values():
        key = f"{recipe.model} {sorted(recipe.knobs.items())}"
        model = built.setdefault(key, network(recipe))
        groups = optim.build(model, recipe.optimiser).param_groups
        found = sum(p.numel() for group in groups for p in group["params"])
        assert found == sum(p.numel() for p in model.parameters())
        assert getattr(model, "input_size", recipe.augmentation.crop) in (
            recipe.augmentation.crop,
            224,  # nets that end in a global average pool take any size
            32,
        )
        assert recipe.auxiliary_weight == 0 or any(
            "aux" in n.lower() for n, _ in model.named_modules()
        )


@by_paper
def test_a_start_copies_layers_that_fit(paper: Paper) -> None:
    for name, recipe in recipes_of(paper):
        for net in trainings(recipe):
            if net.start is None:
                continue
            own, source = network(net).state_dict(), network(net.start.recipe).state_dict()
            taken = {k for k in source if re.fullmatch(net.start.parameters, k)}
            assert taken, name
            assert all(own[key].shape == source[key].shape for key in taken), name


@by_paper
def test_recipes_differ_and_say_how_they_depart_from_the_paper(paper: Paper) -> None:
    for profile in PROFILES:
        ids = [r.id for r in paper.recipes[profile].values() if isinstance(r, Classification)]
        assert len(ids) == len(set(ids))
    for name, recipe in recipes_of(paper):
        for one in (recipe, *trainings(recipe)):
            assert all(item.what and item.why for item in one.deviations), name
            assert len({item.what for item in one.deviations}) == len(one.deviations), name
        if not name.startswith("paper"):
            assert recipe.deviations, f"{name} is not what was published"


@by_paper
def test_protocols_fit(paper: Paper) -> None:
    for name, recipe in recipes_of(paper):
        assert "centre_crop" in recipe.protocols or isinstance(recipe, Ensemble), name
        if isinstance(recipe, Ensemble):
            assert len(recipe.members) >= 2, name
            runs = {(member.recipe.id, member.seed) for member in recipe.members}
            assert len(runs) == len(recipe.members), f"{name} averages a net with itself"
            for member in recipe.members:
                assert set(recipe.protocols) <= set(member.recipe.protocols), name
        for net in trainings(recipe):
            augmentation = net.augmentation
            assert augmentation.crop <= augmentation.resize, name
            assert list(net.test_scales) == sorted(net.test_scales), name
            crops = {"multi_crop", "multi_crop_and_dense", "144_crops"}
            if crops & set(net.protocols):
                assert net.test_scales[0] >= augmentation.crop, name
            for protocol in net.protocols:
                assert all(weight > 0 for weight in Views(protocol, net.shown).weights), name


@by_paper
def test_toy_runs_are_short(paper: Paper) -> None:
    for name, recipe in paper.recipes["toy"].items():
        images = sum(
            r.epochs * r.batch_size * steps_per_epoch(EMBEDDED_IMAGES, r.batch_size)
            for r in trainings(recipe)
        )
        assert images <= 75_000, name


def test_toy_starts_where_the_embedded_images_are_enough() -> None:
    for paper in PAPERS:
        for recipe in paper.recipes["toy"].values():
            for net in trainings(recipe):
                steps = net.epochs * steps_per_epoch(EMBEDDED_IMAGES, net.batch_size)
                assert net.start_steps < steps, "the guard against not learning never looks"


# Against the fact sheets


def rates(recipe: Classification | Ensemble, *epochs: float, drops: int = 0) -> list[float]:
    assert isinstance(recipe, Classification)
    schedule = recipe.optimiser.groups[-1].schedule
    return [optim.rate_at(schedule, epoch, epochs=recipe.epochs, drops=drops) for epoch in epochs]


def decays(recipe: Classification | Ensemble, *parameters: str) -> list[float]:
    assert isinstance(recipe, Classification)
    return [
        next(
            group.weight_decay
            for group in recipe.optimiser.groups
            if re.fullmatch(group.pattern, name)
        )
        for name in parameters
    ]


def views(recipe: Classification | Ensemble) -> dict[str, int]:
    assert isinstance(recipe, Classification)
    return {protocol: Views(protocol, recipe.shown).count for protocol in recipe.protocols}


def test_alexnet() -> None:
    recipe = alexnet.PAPER_RECIPE
    assert (recipe.batch_size, recipe.epochs) == (128, 91)
    assert rates(recipe, 0, 25, 51, 79) == [1e-2, 1e-3, 1e-4, 1e-5]
    assert rates(alexnet.RECIPE_2010, 0, 23, 51, 78) == [1e-2, 1e-3, 1e-4, 1e-5]
    assert decays(recipe, "conv1.bias", "fc8.bias", "conv1.weight", "fc8.weight") == [
        0.0,
        0.0,
        5e-4,
        5e-4,
    ]
    groups = optim.build(network(recipe), recipe.optimiser).param_groups
    late = [optim.rate_at(group["schedule"], 72, epochs=91) for group in groups]
    assert late == [0.0, 2e-2, 0.0, 1e-4]  # conv1 frozen, the other biases not dropped
    assert views(recipe) == {"ten_crop": 10, "centre_crop": 1}


def test_zfnet() -> None:
    recipe = zfnet.FIG_3
    assert (recipe.batch_size, recipe.epochs, recipe.filter_rms) == (128, 70, 0.1)
    assert [rates(recipe, 0, drops=n) for n in range(5)] == [
        pytest.approx([rate]) for rate in (1e-2, 1e-3, 1e-4, 1e-5, 1e-5)
    ]
    assert recipe.augmentation.sampling.kind == "fixed_crops"
    assert views(recipe) == {"ten_crop": 10, "centre_crop": 1}
    assert sum(p.numel() for p in network(zfnet.WIDER).parameters()) == 107_627_624


def test_googlenet() -> None:
    recipe = googlenet.SZEGEDY
    assert (recipe.batch_size, recipe.epochs, recipe.auxiliary_weight) == (32, 250, 0.3)
    assert rates(recipe, 0, 7.9, 8, 16) == pytest.approx([0.01, 0.01, 0.0096, 0.009216])
    assert rates(recipe, 60) == pytest.approx([0.0075], rel=0.01)  # almost flat: 0.74 of the start
    assert decays(recipe, "conv1.conv.bias", "conv1.conv.weight") == [0.0, 2e-4]
    assert [group.factor for group in recipe.optimiser.groups] == [2.0, 1.0]
    assert views(recipe) == {"144_crops": 144, "ten_crop": 10, "centre_crop": 1}
    assert sum(p.numel() for p in network(recipe).parameters()) == 13_378_280
    quick = googlenet.BVLC_QUICK
    assert quick.epochs == 60
    assert rates(quick, 0, 45, 60) == pytest.approx([0.01, 0.005, 0.0])


def test_vgg() -> None:
    a = vgg.A_256
    assert (a.batch_size, a.epochs) == (256, 74)
    assert [rates(a, 0, drops=n)[0] for n in range(4)] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])
    assert decays(a, "conv1_1.bias", "fc8.weight") == [0.0, 5e-4]
    assert [r.model for r in vgg.D_JITTER.ancestors] == ["vgg_a", "vgg_d", "vgg_d"]
    assert vgg.D_JITTER.ancestors == (a, vgg.D_256, vgg.D_384)
    assert rates(vgg.D_384, 0) == [1e-3]
    assert {name.split("\\.")[0] for name in TAKEN_FROM_A} == {
        name.split(".")[0]
        for name in network(vgg.D_256).state_dict()
        if re.fullmatch(vgg.FROM_A, name)
    }
    assert views(vgg.D_JITTER) == {
        "dense": 2,
        "dense_multi_scale": 6,
        "multi_crop": 150,
        "multi_crop_and_dense": 156,
        "centre_crop": 1,
    }
    scales = [member.recipe.test_scales for member in vgg.SUBMISSION.members]
    assert scales == [
        (224, 256, 288),
        (352, 384, 416),
        (256, 384, 512),
        (224, 256, 288),
        (352, 384, 416),
        (224, 256, 288),
        (352, 384, 416),
    ]
    frozen = optim.build(network(vgg.D_JITTER_FC), vgg.D_JITTER_FC.optimiser)
    optim.set_rates(frozen, 0, epochs=74)
    assert [group["lr"] for group in frozen.param_groups] == [0.0, 2e-3, 1e-3]


def test_resnet() -> None:
    recipe = resnet.RESNET_152
    assert (recipe.batch_size, recipe.epochs) == (256, 120)
    assert [rates(recipe, 0, drops=n)[0] for n in range(3)] == pytest.approx([0.1, 0.01, 0.001])
    names = ["conv1.weight", "conv2_x.0.conv3.weight", "conv3_x.0.shortcut.0.weight"]
    assert decays(recipe, *names) == [1e-4] * 3
    assert decays(recipe, "fc.weight") == [1e-4]
    assert decays(resnet.RESNET_50_CONV_DECAY, "conv1.weight", "fc.weight") == [1e-4, 0.0]
    names = ["bn1.weight", "conv2_x.0.bn3.bias", "conv3_x.0.shortcut.1.weight", "fc.bias"]
    assert decays(recipe, *names) == [0.0] * 4
    assert views(recipe) == {"dense_multi_scale": 10, "ten_crop_rectangle": 10, "centre_crop": 1}
    cifar = resnet.RECIPES["paper"]["cifar110"]
    assert rates(cifar, 0, 1, 81, 82, 122, 123) == [0.01, 0.1, 0.1, 0.01, 0.01, 0.001]
    assert isinstance(cifar, Classification)
    iterations = [e * steps_per_epoch(50_000, 128) for e in (82, 123, cifar.epochs)]
    assert iterations == pytest.approx([32_000, 48_000, 64_000], rel=0.001)


def test_resnext() -> None:
    recipe = papers.find(None, "resnext").recipe("paper")[1]
    assert isinstance(recipe, Classification)
    assert (recipe.batch_size, recipe.epochs) == (256, 100)
    assert rates(recipe, 29.9, 30, 60, 90) == [0.1, 0.01, 0.001, 1e-4]
    assert (recipe.optimiser.rate, recipe.optimiser.nesterov) == ("outside", True)
    assert decays(recipe, "fc.bias", "conv1.weight") == [1e-4, 1e-4]
    sizes = {
        name: sum(p.numel() for p in network(net).parameters())
        for name, net in resnext.RECIPES["paper"].items()
        if isinstance(net, Classification)
    }
    assert sizes["101_64x4d"] == 83_455_272
    assert sizes["50_8x14d"] == 25_603_016
    assert sizes["101_1x100d"] == 85_611_336


def test_trimps() -> None:
    weights = {m.recipe.model: m.weight for m in trimps.FUSION.members}
    assert max(weights, key=weights.__getitem__) == "inception_resnet_v2"
    inception = trimps.INCEPTION_V3
    assert rates(inception, 0, 2, 4) == pytest.approx([0.045, 0.0423, 0.039762])
    assert inception.label_smoothing == 0.1
    assert {views(m.recipe)["dense_multi_scale"] for m in trimps.FUSION.members} == {6}


def test_senet() -> None:
    recipe = senet.RECIPES["paper"]["se_resnet50"]
    assert isinstance(recipe, Classification)
    assert (recipe.batch_size, recipe.epochs) == (1024, 100)
    assert rates(recipe, 0, 30, 60, 90) == [0.6, 0.06, 6e-3, 6e-4]
    assert views(recipe) == {"centre_crop": 1}
    largest = senet.SENET_154
    assert (largest.batch_size, rates(largest, 0), largest.label_smoothing) == (2048, [1.0], 0.1)
    assert sum(p.numel() for p in network(largest).parameters()) == 115_088_984
    long = senet.RECIPES["paper"]["resnet50_270"]
    assert rates(long, 0, 125, 200, 250, 269) == [0.1, 0.01, 1e-3, 1e-4, 1e-4]


def test_what_waits_for_a_plateau_can_meet_it() -> None:
    for paper in PAPERS:
        for _, recipe in recipes_of(paper):
            for net in trainings(recipe):
                found = [
                    g.schedule for g in net.optimiser.groups if isinstance(g.schedule, Plateau)
                ]
                assert len({(s.patience, s.threshold, s.drops) for s in found}) <= 1
                assert all(s.patience * s.drops < net.epochs for s in found)
