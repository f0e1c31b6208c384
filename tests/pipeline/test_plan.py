"""What a plan says, against the formula; budgets; what a plan cannot be made of."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine.arm_runs import arms_of
from pipeline.engine.command_line import Where
from pipeline.engine.data import Located
from pipeline.engine.plan import (
    START_SECONDS,
    TRAINING_SECONDS,
    Planner,
    Step,
    trainings,
    wanted_of,
)
from pipeline.engine.progress import Progress
from pipeline.papers import CLAIMS
from pipeline.run import Options, check
from stages.devices import DEVICES
from stages.errors import PipelineError
from stages.execution import Execution
from stages.job import Cost
from stages.paper import Paper
from stages.recipe import Deviation, Ensemble, Member, Start
from stages.tasks.classification.recipe import Classification
from stages.training.cost import REACHED
from tests.conftest import command

COUNTS = {"train": 1000, "val": 50}
# A floating-point operation is half a multiply-add; a backward pass costs two forward ones.
VGG_A = 7_609_090_048
T4_SECONDS = 3 * 2 * VGG_A / (REACHED * DEVICES["t4"])


@pytest.fixture(scope="module")
def tiny(recipe: Classification) -> Classification:
    """A network whose costs can be counted on paper."""
    return replace(
        recipe,
        model="vgg_a",
        knobs={"width": 0.125, "image_size": 32},
        augmentation=replace(recipe.augmentation, resize=32, crop=32),
    )


@pytest.fixture(scope="module")
def whole(recipe: Classification) -> Classification:
    """VGG's net A as published: 10 steps an epoch."""
    return replace(
        recipe,
        model="vgg_a",
        knobs={},
        augmentation=replace(recipe.augmentation, resize=256, crop=224),
        batch_size=100,
    )


@pytest.fixture(scope="module")
def paper(whole: Classification) -> Paper:
    """On one T4 an epoch takes 3.5 seconds."""
    small = Deviation("hardly any epochs", "a test")
    return Paper(
        name="planned",
        year=2014,
        title="A plan",
        system="Planned",
        headline="Planned",
        built_of="plans",
        hardware="3 weeks on four of the best",
        recipes={
            "paper": {"a": replace(whole, epochs=100_000)},
            "mini": {"a": replace(whole, epochs=100)},
            "toy": {"a": replace(whole, epochs=2, deviations=(small,))},
        },
    )


def located(role: str) -> Located:
    return Located(Path("planned"), None, "planned", COUNTS, 1000, 3 << 30)


def planner(
    workers: int | None = None, price: float | None = None, execution: Execution | None = None
) -> Planner:
    where = Where(launcher="inline", workers=workers)
    return Planner(where, execution or Execution(), located, device="t4", price=price)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_steps_seconds_and_multiply_adds_of_a_training(paper: Paper, tiny: Classification) -> None:
    recipe = replace(tiny, batch_size=32, epochs=4)
    cost = Cost(12, 32, 0.25, 1000, 7, 100, "it", measured=True)
    assert cost.total_multiply_adds == 3 * 7 * 12 * 32
    assert cost.memory(32) == 12 * 1000 + 32 * 100
    step = Step(paper.name, "a", recipe, cost, workers=2, runs=3)
    assert step.seconds == 12 * 32 * 0.25 / 2
    total = START_SECONDS["inline"] + 3 * (TRAINING_SECONDS["inline"] + step.seconds)
    assert planner().total([step]) == total


def test_a_plan_is_told_in_the_formulas_numbers(paper: Paper, capsys) -> None:
    plan = planner(workers=4, price=3.0, execution=Execution(micro_batch=5))
    with Progress() as progress:
        (step,) = plan.print_plan_of_papers(wanted_of([paper], "mini", None), progress)
    text = said(capsys)
    assert "2014 Planned: A plan" in text
    assert "the authors' hardware and time: 3 weeks on four of the best" in text
    assert "train vgg_a (132,863,336 parameters, profile mini) on 1,000 images of 1000" in text
    assert "100 epochs, 1,000 steps of 100" in text
    assert f"{3 * VGG_A * 100_000 / 1e15:.3g} P multiply-adds" in text
    assert step.seconds == pytest.approx(1000 * 100 * T4_SECONDS / 4)
    assert f"{step.seconds:.0f} s at {4 / T4_SECONDS:,.0f} images/s on 4 x t4" in text
    assert "a rough estimate from the data sheet" in text
    memory = 12 * 132_863_336 + 5 * step.cost.activation_bytes
    assert f"about {memory / 2**30:.1f} GiB of memory on each" in text
    assert "ten_crop and centre_crop on 50 images" in text
    total = START_SECONDS["inline"] + TRAINING_SECONDS["inline"] + step.seconds
    assert plan.total([step]) == pytest.approx(total)
    assert f"about {total:.0f} s: {step.seconds:.0f} s of training" in text
    cost = f"{3 * 4 * total / 3600:.2f} (4 x {total / 3600:.2f} h x 3 per hour)"
    assert f"cost: {cost}" in text
    # Weights at the end, and twice weights and velocities in checkpoints.
    checkpoints = (4 + 28) * 132_863_336
    assert plan.checkpoint_bytes([step]) == checkpoints
    assert f"3.0 GiB of shards to write, up to {checkpoints / 2**30:.1f} GiB" in text


def test_a_device_is_asked_for_all_images_of_a_worker_without_micro_batches(
    paper: Paper, capsys
) -> None:
    with Progress() as progress:
        (step,) = planner(workers=3).print_plan_of_papers(wanted_of([paper], "toy", None), progress)
    memory = 12 * 132_863_336 + 34 * step.cost.activation_bytes
    assert f"about {memory / 2**30:.1f} GiB of memory on each" in said(capsys)


@pytest.mark.parametrize(
    ("seconds", "profile", "given_up"),
    [(30 * 86400, "paper", False), (3600, "mini", False), (60, "toy", True)],
)
def test_a_budget_takes_the_largest_scale_that_fits(
    paper: Paper, capsys, seconds: float, profile: str, given_up: bool
) -> None:
    with Progress() as progress:
        assert planner().fitting([paper], None, seconds, progress) == profile
    text = said(capsys)
    assert f"profile {profile} fits the budget" in text
    for larger in ("paper", "mini", "toy")[: ("paper", "mini", "toy").index(profile)]:
        assert f"profile {larger} does not fit: it would take" in text
    assert ("planned gives up: hardly any epochs" in text) == given_up


def test_a_budget_that_nothing_fits_into_is_refused(paper: Paper) -> None:
    """Two epochs of 3.5 seconds, ten seconds around them, and those of a second paper."""
    with Progress() as progress:
        assert planner().fitting([paper], None, 18, progress) == "toy"
        with pytest.raises(PipelineError, match="nothing fits into 15 s: profile toy takes 17 s"):
            planner().fitting([paper], None, 15, progress)
        with pytest.raises(PipelineError, match="raise --budget, name fewer papers"):
            planner().fitting([paper, replace(paper, name="again")], None, 28, progress)


def test_every_training_is_planned_once_for_each_seed(whole: Classification) -> None:
    first = replace(whole, epochs=1)
    second = replace(whole, epochs=2, start=Start(first))
    third = replace(whole, epochs=3, start=Start(second))
    assert trainings(third) == [(first, 0), (second, 0), (third, 0)]
    assert trainings(Ensemble((Member(first), Member(third)), ())) == trainings(third)
    assert trainings(second, seeds=2) == [(first, 0), (second, 0), (first, 1), (second, 1)]
    # Another seed starts from a first training of its own.
    members = (Member(second), Member(second, seed=1), Member(second, weight=2.0))
    assert trainings(Ensemble(members, ())) == trainings(second, seeds=2)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("90m", 5400), ("1.5 h", 5400), ("3d", 259_200)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Options(budget=text).seconds == seconds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(year=2012, budget="soon"), "--budget soon is not a duration"),
        (Options(year=2012, budget="2"), "write e.g. 90m, 2h or 3d"),
        (Options(year=2012, device="h100"), "--device and --price are for --plan"),
        (Options(year=2012, price=2.0), "--device and --price are for --plan"),
        (
            Options(year=2012, execution=Execution(micro_batch=0)),
            "--micro-batch must be at least 1, not 0",
        ),
        (Options(year=2012, recipe="nope"), "alexnet has no recipe 'nope' in profile toy"),
        (Options(year=2012, recipe="text"), "has no recipe 'text' in profile toy"),
    ],
)
def test_options_that_make_no_sense(options: Options, message: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(message)):
        check(options)


def test_no_plan_can_be_made_of_an_unknown_recipe(paper: Paper) -> None:
    message = "planned has no recipe 'nope' in profile toy\n.*use one of: a"
    with pytest.raises(PipelineError, match=message):
        wanted_of([paper], "toy", "nope")


def test_a_plan_of_arms_counts_the_trainings_that_they_start_from(capsys) -> None:
    """VGG's nets B and D start from the weights of A, which is no arm: once per seed."""
    (claim,) = (claim for claim in CLAIMS if claim.key == "vgg/depth_16")
    arms = arms_of([claim], "toy", seeds=3)
    (first,) = {start.recipe.id for arm in arms for start in arm.recipe.starts}
    assert first not in {arm.recipe.id for arm in arms}
    with Progress() as progress:
        steps = planner(workers=2).print_plan_of_arms(arms, "toy", progress)
    runs = {step.recipe.id: step.runs for step in steps}
    assert runs == {first: 3, **{arm.recipe.id: 3 for arm in arms}}
    text = said(capsys)
    assert "others start from its weights" in text
    assert "on 2 x t4" in text
    assert re.search(r"of memory on each; tested with \w+", text)
    assert f"{sum(runs.values())} runs, about" in text
    assert re.search(r"disk: .* of checkpoints", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--year", "2012", "--micro-batch", "0"], "--micro-batch must be at least 1, not 0"),
        (
            ["--year", "2012", "--plan", "--device", "foo"],
            "unknown device 'foo'\n.*use one of: t4, .*h100",
        ),
        (["--year", "all", "--recipe", "x"], "belongs to one paper|has no recipe 'x'"),
    ],
)
def test_the_command_line_says_so_too(
    arguments: list[str], message: str, source: Path, tmp_path: Path
) -> None:
    done = command("pipeline.run", *arguments, "--data", source, "--workspace", tmp_path / "ws")
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for kind in ("datasets", "runs", "mlflow.db"):
        assert not (tmp_path / "ws" / kind).exists()
