"""The ledger from constructed measurements: what counts as a pair, each verdict, and the files."""

import csv
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.flows.report import read_ledger
from pipeline.papers.alexnet import PAPER
from pipeline.papers.alexnet.recipes import TOY_RECIPE
from pipeline.papers.record import published_results
from pipeline.tracking.store import Tracker
from stages.claim import Arm, Claim, PublishedEffect, everywhere
from stages.ledger.entries import Entry, Ledger, make_ledger
from stages.load.samples import Dataset
from stages.measurement import Evaluation, Interval, Measurement
from stages.metrics import METRICS, Metric
from stages.report.forest import draw_forest
from stages.report.tables import SCHEMA, lines
from stages.report.write import Report, write_report
from stages.tasks.classification.predict import Prediction, prediction_table

LRN = Claim(
    paper="alexnet",
    id="lrn",
    statement="LRN lowers the error.",
    source="section 3.3",
    with_it=Arm("with"),
    without=Arm("without", knobs={"lrn": False}),
    published=(
        PublishedEffect(1.4, "ILSVRC-2012 val", "ten crops", "section 3.3"),
        PublishedEffect(1.37, "ILSVRC-2012 val", "ten crops", "logs", logged=True),
    ),
)
TEN_CROP = Claim(
    paper="alexnet",
    id="ten_crop",
    statement="Ten crops have a lower error than one.",
    source="section 6",
    with_it=Arm("ten", protocol="ten_crop"),
    without=Arm("one", protocol="centre_crop"),
)
NO_DATA = replace(
    LRN, id="no_data", with_it=None, without=None, not_comparable=everywhere("no data")
)
MEASURED = Measurement(
    year=2012,
    paper="alexnet",
    recipe="authors",
    model="alexnet",
    nets=1,
    profile="toy",
    dataset="embedded-24",
    dataset_digest="0a1b2c3d4e5f",
    num_classes=24,
    split="val",
    protocol="ten_crop",
    recipe_id="",
    seed=0,
    metric="error_top1",
    value=50.0,
    ci_low=45.0,
    ci_high=55.0,
    n=1000,
    run_name="",
    code_version="69a6a85",
    finished_at="2026-01-01T10:00:00+00:00",
)


def runs(arm: Arm | None, values: Mapping[int, float], **fields: object) -> list[Measurement]:
    """Measurements of an arm at toy scale, by seed."""
    assert arm is not None
    recipe = arm.recipe(TOY_RECIPE)
    fields = {"protocol": arm.tested_by(recipe)} | fields
    return [
        replace(
            MEASURED,
            recipe_id=recipe.id,
            seed=seed,
            value=value,
            run_name=f"{arm.name}-{seed}",
            url=f"http://tracking/#/runs/{arm.name}-{seed}",
            **fields,
        )
        for seed, value in values.items()
    ]


def pairs(claim: Claim, gains: Sequence[float], **fields: object) -> list[Measurement]:
    """Both arms of a claim, of which the one with it is better by these gains."""
    return runs(claim.with_it, dict.fromkeys(range(len(gains)), 50.0), **fields) + runs(
        claim.without, {s: 50.0 + gain for s, gain in enumerate(gains)}, **fields
    )


def only(ledger: Ledger) -> Entry:
    """The only entry."""
    (entry,) = ledger.entries
    return entry


@pytest.mark.parametrize(
    ("claim", "gains", "verdict"),
    [
        (LRN, (1.3, 1.5, 1.4), "confirmed"),
        (LRN, (-1.3, -1.5, -1.4), "contradicted"),
        (LRN, (2.0, -1.0, 0.5), "inconclusive"),
        (LRN, (1.4, 1.5), "inconclusive"),  # two of three seeds
        (LRN, (), "not run"),
        (NO_DATA, (), "not comparable"),
        (replace(NO_DATA, not_comparable={}, computed="27 < 49"), (), "computed only"),
        (replace(LRN, expects="equivalent", margin=2.0), (1.3, 1.5, 1.4), "confirmed"),
        (replace(LRN, expects="equivalent", margin=0.5), (1.3, 1.5, 1.4), "contradicted"),
    ],
)
def test_each_verdict_is_reached(claim: Claim, gains: Sequence[float], verdict: str) -> None:
    measured = pairs(claim, gains) if gains else []
    assert only(make_ledger([claim], [PAPER], measured)).verdict == verdict


@pytest.mark.parametrize(
    ("gains", "verdict"), [((7.5, 8.5, 8.0), "confirmed"), ((-7.5, -8.5, -8.0), "contradicted")]
)
def test_a_gain_of_a_metric_that_is_better_when_higher_confirms(
    gains: Sequence[float], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning that raises mAP by 8 points must not come out as contradicted."""
    precision = Metric("map", "mAP", "mAP", "average precision", better="higher")
    monkeypatch.setitem(METRICS, "map", precision)
    claim = replace(LRN, id="fine_tuning", metric="map", published=())
    measured = runs(
        claim.with_it, {seed: 50.0 + gain for seed, gain in enumerate(gains)}, metric="map"
    ) + runs(claim.without, dict.fromkeys(range(len(gains)), 50.0), metric="map")
    entry = only(make_ledger([claim], [PAPER], measured))
    assert entry.verdict == verdict
    assert entry.effect is not None
    assert entry.effect.value == pytest.approx(np.mean(gains))
    svg, _ = draw_forest("alexnet", [entry])
    assert "points of average precision gained" in svg.decode()


def test_an_entry_states_what_it_rests_on() -> None:
    entry = only(make_ledger([LRN], [PAPER], pairs(LRN, (1.3, 1.5, 1.4, 1.2))))
    assert entry.conditions is not None
    assert (entry.conditions.profile, entry.conditions.dataset, entry.conditions.n) == (
        "toy",
        "embedded-24",
        1000,
    )
    assert [m.seed for m in entry.with_it] == [m.seed for m in entry.without] == [0, 1, 2, 3]
    assert entry.runs_needed is not None
    assert entry.runs_needed <= 4  # 1.4 points, and pairs that hardly spread
    assert entry.command == (
        "python -m pipeline.ablate --paper alexnet --claims lrn --profile toy --seeds 4"
    )


def test_only_runs_on_the_same_bytes_pair() -> None:
    elsewhere = runs(LRN.without, {0: 52, 1: 52, 2: 52}, dataset_digest="ffffffffffff")
    here = runs(LRN.with_it, {0: 50, 1: 50, 2: 50})
    assert only(make_ledger([LRN], [PAPER], here + elsewhere)).verdict == "not run"
    other_seeds = runs(LRN.without, {7: 52, 8: 52})
    assert only(make_ledger([LRN], [PAPER], here + other_seeds)).verdict == "not run"
    two = make_ledger(
        [LRN],
        [PAPER],
        pairs(LRN, (1, 2, 1)) + pairs(LRN, (-1, -2, -1), dataset="in64-100", dataset_digest="1"),
    )
    assert [e.conditions and e.conditions.dataset for e in two.entries] == [
        "embedded-24",
        "in64-100",
    ]
    assert two.entries[1].command.endswith("--data PATH/in64-100")


def test_of_two_measurements_of_a_seed_the_later_counts() -> None:
    measured = pairs(LRN, (1.3, 1.5, 1.4))
    late = replace(measured[-1], value=90.0, finished_at="2026-02-01T00:00:00+00:00")
    early = replace(measured[-1], value=10.0, finished_at="2025-02-01T00:00:00+00:00")
    entry = only(make_ledger([LRN], [PAPER], [late, *measured, early]))
    assert entry.effect is not None
    assert entry.effect.value == pytest.approx((1.3 + 1.5 + 40) / 3)


def test_protocols_are_compared_on_the_same_run() -> None:
    measured = pairs(TEN_CROP, (1.0, 1.1, 0.9))
    ledger = make_ledger([TEN_CROP], [PAPER], measured)
    assert only(ledger).verdict == "confirmed"
    assert only(ledger).with_it[0].recipe_id == only(ledger).without[0].recipe_id == TOY_RECIPE.id
    assert not ledger.recipe_ids  # the paper's own recipe is no ablation


def test_training_metrics_are_found_under_their_own_protocol() -> None:
    claim = replace(LRN, metric="epochs_to_train_error_25", published=())
    fields = {"metric": claim.metric, "protocol": "training", "split": "train"}
    entry = only(make_ledger([claim], [PAPER], pairs(claim, (30, 31, 29), **fields)))
    assert entry.verdict == "confirmed"
    assert entry.images is None
    # A difference in whole epochs is known only to one epoch.
    same = only(make_ledger([claim], [PAPER], pairs(claim, (1, 1, 1), **fields)))
    assert same.verdict == "inconclusive"


def test_searched_rates_are_conditions_of_their_own() -> None:
    tuned = "abcdefabcdef"
    measured = pairs(LRN, (1, -1, 0))
    searched = {}
    for arm in (LRN.with_it, LRN.without):
        assert arm is not None
        own = arm.recipe(TOY_RECIPE).id
        best = f"{tuned}-{arm.name}"
        searched[own, MEASURED.dataset_digest] = best
        value = {"with": 40.0, "without": 41.4}[arm.name]
        measured += [
            replace(m, recipe_id=best, value=value + m.seed)
            for m in runs(arm, {0: 0.0, 1: 0.0, 2: 0.0})
        ]
    plain, with_rates = make_ledger([LRN], [PAPER], measured, searched=searched).entries
    assert plain.verdict == "inconclusive"
    assert with_rates.verdict == "confirmed"
    assert with_rates.command.endswith("--search")
    assert {f"{tuned}-with", f"{tuned}-without"} <= make_ledger(
        [LRN], [PAPER], measured, searched=searched
    ).recipe_ids


def kept_answers(probabilities: np.ndarray, labels: Sequence[int]) -> pa.Table:
    """Answers as a test of a classifier keeps them; probabilities (images, classes)."""
    import torch

    indices = torch.arange(len(labels))
    return prediction_table(Prediction(indices, torch.tensor(labels), torch.tensor(probabilities)))


def test_single_images_are_a_second_view() -> None:
    measured = pairs(LRN, (10.0, 10.0, 10.0), n=10)
    labels = list(range(10))
    right = np.eye(10, dtype=np.float32)
    one_wrong = right.copy()
    one_wrong[0] = right[1]

    def kept(m: Measurement) -> pa.Table:
        return kept_answers(one_wrong if m.run_name.startswith("without") else right, labels)

    images = only(make_ledger([LRN], [PAPER], measured, kept)).images
    assert images is not None
    assert images.images == 10
    assert images.mcnemar == (1, 1, 1)  # one image of ten
    assert images.low == 0
    assert 10 < images.high <= 50


def test_averaged_networks_answer_in_whole_groups() -> None:
    """Three nets that err on different images are correct on all when averaged; a seventh run is unused."""
    claim = replace(LRN, with_it=Arm("three", nets=3), without=Arm("one"), seeds=2)
    labels = [0, 1, 2]

    def kept(m: Measurement) -> pa.Table:
        shares = np.full((3, 3), 0.2, np.float32) + 0.4 * np.eye(3, dtype=np.float32)
        wrong = m.seed % 3
        shares[wrong] = np.roll(shares[wrong], 1)
        return kept_answers(shares, labels)

    measured = runs(claim.without, dict.fromkeys(range(7), 100 / 3), n=3)
    entry = only(make_ledger([claim], [PAPER], measured, kept))
    assert entry.effect is not None
    assert entry.effect.pairs == 2
    assert len(entry.with_it) == 6
    assert entry.effect.value == pytest.approx(100 / 3)
    assert entry.images is not None
    assert entry.images.mcnemar == ()
    without_answers = only(make_ledger([claim], [PAPER], measured))
    assert without_answers.verdict == "not run"


@pytest.mark.slow
def test_the_ledger_comes_back_from_the_tracking_store(tmp_path: Path, dataset: Dataset) -> None:
    """Two arms, three seeds and their answers, from MLflow alone."""
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    labels = list(range(10))
    for arm, wrong in ((LRN.with_it, 1), (LRN.without, 3)):
        assert arm is not None
        recipe = arm.recipe(TOY_RECIPE)
        shares = np.eye(10, dtype=np.float32)
        shares[:wrong] = np.roll(shares[:wrong], 5, axis=1)
        kept = tmp_path / "ten_crop.parquet"
        pq.write_table(kept_answers(shares, labels), kept)
        error = Interval(10.0 * wrong, 0.0, 50.0)
        for seed in range(3):
            tags = {
                "paper": "alexnet",
                "year": "2012",
                "model": "alexnet",
                "nets": "1",
                "profile": "toy",
                "recipe_name": arm.name,
                "recipe": recipe.id,
                "dataset": "slice",
                "dataset_digest": "0123456789ab",
                "num_classes": "10",
                "seed": str(seed),
                "code": "abc",
                "deviations": "",
            }
            command = tracker.command("ilsvrc/2012", "sweep", "key", {})
            run = tracker.training(
                command, f"{arm.name}-{seed}", recipe.resolved(), dataset.info, tags
            )
            tracker.evaluation(
                run, Evaluation("ten_crop", 10, {"error_top1": error, "error_top5": error}), kept
            )
    again = Tracker(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    entry = only(read_ledger(again, again.measurements(), [LRN]))
    assert entry.effect is not None
    assert (entry.effect.value, entry.effect.pairs) == (pytest.approx(20), 3)
    assert entry.verdict == "confirmed"
    assert entry.images is not None
    assert entry.images.mcnemar == (0.5, 0.5, 0.5)  # two images gained, none lost
    assert all(m.url.startswith("http") for m in entry.with_it + entry.without)


def test_p_is_corrected_over_all_tested_claims() -> None:
    ledger = make_ledger(
        [LRN, TEN_CROP, NO_DATA],
        [PAPER],
        pairs(LRN, (1.3, 1.5, 1.4)) + pairs(TEN_CROP, (1.5, 0.5, 1.0)),
    )
    lrn, ten_crop, untested = ledger.entries
    assert lrn.p is not None
    assert lrn.p_holm == pytest.approx(2 * lrn.p)
    assert ten_crop.p_holm == pytest.approx(ten_crop.p)
    assert untested.p is None
    assert untested.p_holm is None


def test_an_empty_store_lists_every_claim_on_its_line() -> None:
    ledger = make_ledger([LRN, TEN_CROP, NO_DATA], [PAPER], [])
    printed = lines(ledger)
    assert [line.split()[0] for line in printed[1:4]] == [
        "alexnet/lrn",
        "alexnet/ten_crop",
        "alexnet/no_data",
    ]
    assert [line.endswith("not run") for line in printed[1:4]] == [True, True, False]
    assert printed[3].endswith("not comparable: no data")
    assert printed[-1] == "3 claims: 1 not comparable, 2 not run."


@pytest.fixture(scope="module")
def tested() -> Ledger:
    """A confirmed, an inconclusive (one pair) and an untestable claim."""
    return make_ledger(
        [LRN, TEN_CROP, NO_DATA],
        [PAPER],
        pairs(LRN, (1.3, 1.5, 1.4)) + pairs(TEN_CROP, (1.5,)),
    )


@pytest.fixture(scope="module")
def report(tested: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report on that ledger."""
    measured = pairs(LRN, (1.3, 1.5, 1.4))
    return write_report(measured, published_results(), tmp_path_factory.mktemp("report"), tested)


def test_the_tables_hold_the_ledger(report: Report) -> None:
    table = pq.read_table(report.ledger_parquet)
    assert table.schema.equals(SCHEMA)
    first, second, third = table.to_pylist()
    assert (first["paper"], first["claim"], first["verdict"]) == ("alexnet", "lrn", "confirmed")
    assert (first["published"], first["logged"]) == (1.4, 1.37)
    assert first["effect"] == pytest.approx(1.4)
    assert 0 < first["ci_low"] < first["effect"] < first["ci_high"]
    assert (first["pairs"], first["n_images"], first["seeds"]) == (3, 1000, [0, 1, 2])
    assert first["error_without"] - first["error_with_it"] == pytest.approx(1.4)
    assert len(first["urls"]) == 6
    assert first["command"].startswith("python -m pipeline.ablate --paper alexnet")
    assert (second["verdict"], second["ci_low"], second["pairs"]) == ("inconclusive", None, 1)
    assert (third["verdict"], third["reason"], third["effect"]) == (
        "not comparable",
        "no data",
        None,
    )
    with report.ledger_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, typed in zip(rows, table.to_pylist(), strict=True):
        for name, value in typed.items():
            if isinstance(value, float):
                assert math.isclose(float(row[name]), value)
            elif isinstance(value, list):
                assert row[name] == " ".join(map(str, value))
            else:
                assert row[name] == ("" if value is None else str(value))


def test_the_report_shows_every_claim(report: Report) -> None:
    root = ET.fromstring(report.html.read_text(encoding="utf-8"))
    section = root.find(".//section[@id='claims-alexnet']")
    assert section is not None
    text = " ".join("".join(section.itertext()).split())
    for claim, verdict in ((LRN, "confirmed"), (TEN_CROP, "inconclusive")):
        assert claim.statement in text
        assert verdict in text
    assert "not comparable: no data" in text
    assert section.find(".//figure") is not None
    links = [a.get("href") for a in section.iter("a")]
    assert "http://tracking/#/runs/without-2" in links
    assert report.html.with_name("forest-alexnet.png").read_bytes().startswith(b"\x89PNG")


def test_an_ablation_run_is_not_a_reproduction(report: Report) -> None:
    with report.csv.open(newline="") as file:
        shown = {row["recipe_id"] for row in csv.DictReader(file) if row["kind"] == "reproduced"}
    assert shown == {TOY_RECIPE.id}
    page = report.html.read_text(encoding="utf-8")
    assert "without-0" in page[page.index("All measurements") :]


def test_the_same_ledger_gives_the_same_bytes(tested: Ledger, tmp_path: Path) -> None:
    measured = pairs(LRN, (1.3, 1.5, 1.4))
    for name in ("one", "two"):
        write_report(measured, published_results(), tmp_path / name, tested)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    write_report(measured, published_results(), tmp_path / "two")
    assert not list((tmp_path / "two").glob("forest-*"))  # nothing was tested
