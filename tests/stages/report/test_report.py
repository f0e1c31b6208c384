"""The report from constructed measurements: what is shown where, and what is never shown together."""

import csv
import random
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace

import pytest

from pipeline.papers import PAPERS
from pipeline.papers.record import published_results
from stages.measurement import Measurement, reproductions
from stages.report.write import COLUMNS, write_report

SVG = "{http://www.w3.org/2000/svg}"
PUBLISHED = published_results()

ALEXNET = Measurement(
    year=2012,
    paper="alexnet",
    recipe="authors",
    model="alexnet",
    nets=1,
    profile="paper",
    dataset="imagenet-2012",
    dataset_digest="0a1b2c3d4e5f",
    num_classes=1000,
    split="val",
    protocol="ten_crop",
    recipe_id="9f8e7d6c5b4a",
    seed=0,
    metric="error_top5",
    value=18.31,
    ci_low=17.97,
    ci_high=18.65,
    n=50_000,
    run_name="alexnet-paper-0",
    code_version="69a6a85",
    finished_at="2026-01-01T10:00:00+00:00",
    url="http://127.0.0.1:5000/#/experiments/1/runs/8",
)
TOY = replace(
    ALEXNET,
    profile="toy",
    dataset="embedded-24",
    num_classes=24,
    value=24.4,
    ci_low=20.7,
    ci_high=28.4,
    n=480,
    run_name="alexnet-toy-0",
    deviations=("inputs of 64 pixels: two CPU cores",),
)


def report(tmp_path, measurements, name="report"):
    return write_report(measurements, PUBLISHED, tmp_path / name, papers=PAPERS)


def rows(written):
    with written.csv.open(newline="") as lines:
        return list(csv.DictReader(lines))


def panel(written, number):
    """The texts of one panel of the picture, and how many elements of each kind it draws."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.parse(written.svg, parser).getroot()
    axes = root.find(f".//{SVG}g[@id='axes_{number}']")
    if axes is None:
        return [], Counter()
    texts = [node.text.strip() for node in axes.iter() if node.tag is ET.Comment]
    return texts, Counter(str(node.tag) for node in axes.iter())


def page(written):
    """The report as a tree; parsing it as XML proves every element closed."""
    return ET.fromstring(written.html.read_text(encoding="utf-8"))


def text_of(node):
    return " ".join(" ".join(node.itertext()).split())


def year(tree, number):
    return text_of(tree.find(f".//section[@id='y{number}']"))


def test_an_imagenet_figure_is_shown_with_the_published_ones(tmp_path):
    written = report(tmp_path, [ALEXNET])
    texts, _ = panel(written, 1)
    assert "alexnet 18.3" in texts
    assert "16.422" in texts
    assert panel(written, 2)[0] == []

    shown = year(page(written), 2012)
    assert "18.31 17.97–18.65" in shown
    assert "n = 50,000" in shown
    assert "same recipe with the same protocol: 18.2 top-5, 40.7 top-1 (1 CNN, Table 2)" in shown
    assert "Difference: +0.11 top-5" in shown
    assert "Not an ImageNet figure" not in shown


def test_a_toy_figure_never_enters_the_record(tmp_path):
    written, empty = report(tmp_path, [TOY]), report(tmp_path, [], "empty")
    assert panel(written, 1) == panel(empty, 1)  # not a label, not a marker more
    texts, _ = panel(written, 2)
    assert {"2012  alexnet, ten crop", "chance 79.2"} <= set(texts)

    (row,) = (row for row in rows(written) if row["kind"] == "reproduced")
    assert (row["scope"], row["profile"], row["dataset"]) == ("small-scale", "toy", "embedded-24")

    shown = year(page(written), 2012)
    assert "Not an ImageNet figure" in shown
    assert "24 classes, not 1000; 480 images, not 50,000" in shown
    assert "Difference" not in shown
    assert "1 deviation from the published recipe inputs of 64 pixels: two CPU cores" in shown


@pytest.mark.parametrize(
    "change",
    [{"num_classes": 100}, {"n": 5_000}, {"profile": "mini"}, {"split": "train"}],
    ids=lambda change: next(iter(change)),
)
def test_one_departure_from_imagenet_is_enough(change):
    (one,) = reproductions([replace(ALEXNET, **change)])
    assert str(next(iter(change.values()))) in one.not_comparable.replace(",", "")


def test_each_data_set_has_its_own_panel(tmp_path):
    mini = replace(TOY, profile="mini", dataset="in64-100", num_classes=100, n=5_000)
    written = report(tmp_path, [TOY, mini, ALEXNET])
    assert "chance 95.0" in panel(written, 2)[0]
    assert "chance 79.2" in panel(written, 3)[0]
    assert "alexnet 18.3" in panel(written, 1)[0]


def test_the_same_measurements_give_the_same_bytes(tmp_path):
    measurements = [ALEXNET, TOY, replace(TOY, seed=1), replace(TOY, protocol="centre_crop")]
    first = report(tmp_path, measurements, "first")
    random.Random(0).shuffle(measurements)
    second = report(tmp_path, measurements, "second")
    for one, other in zip(vars(first).values(), vars(second).values(), strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert {path.name for path in first.csv.parent.iterdir()} == {
        path.name for path in vars(first).values()
    }


def test_seeds_are_shown_as_mean_and_range_and_each_alone(tmp_path):
    seeds = [replace(TOY, seed=seed, value=value) for seed, value in enumerate((20.0, 22.0, 27.0))]
    written = report(tmp_path, seeds)
    shown = year(page(written), 2012)
    assert "23.00 20.00–27.00" in shown
    assert "mean and range of 3 seeds" in shown
    assert all(f"seed {m.seed}: {m.value:.2f} (20.70 to 28.40)" in shown for m in seeds)
    assert "23.0  (20.0 to 27.0), 3 seeds" in panel(written, 2)[0]


def test_of_two_measurements_of_one_seed_the_later_counts():
    later = replace(TOY, value=21.0, finished_at="2026-01-02T10:00:00+00:00")
    (one,) = reproductions([later, TOY])
    assert one.measurements == (later,)


def test_runs_of_different_recipes_are_not_averaged(tmp_path):
    other = replace(TOY, recipe_id="bbbbbbbbbbbb", value=30.0)
    texts, _ = panel(report(tmp_path, [TOY, other]), 2)
    assert {"2012  alexnet, ten crop  9f8e7", "2012  alexnet, ten crop  bbbbb"} <= set(texts)


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        ({}, [18.2, 18.21]),  # printed, then logged
        ({"protocol": "centre_crop"}, []),  # the paper printed ten crops only
        ({"recipe": "text"}, []),
        ({"nets": 5}, []),  # five configurations, none of which is five seeds of this one
        (
            {"paper": "resnet", "recipe": "resnet152", "protocol": "ten_crop_rectangle"},
            [5.71],
        ),
        ({"paper": "resnet", "recipe": "resnet152"}, []),  # theirs are not of the square
        (  # how many nets were fused was not published
            {"paper": "trimps", "recipe": "fusion", "protocol": "dense_multi_scale", "nets": 5},
            [2.92],
        ),
        ({"paper": "nobody"}, []),
    ],
)
def test_only_the_same_recipe_and_protocol_are_compared(change, figures):
    (one,) = reproductions([replace(ALEXNET, **change)], PAPERS)
    assert [figure.figures.get("error_top5") for figure in one.counterparts] == figures


def test_a_run_on_cifar_is_compared_with_its_published_figure(tmp_path):
    """ResNet section 4.2 uses CIFAR-10: "comparable" depends on the benchmark, not on ImageNet."""
    cifar = replace(
        ALEXNET,
        year=2015,
        paper="resnet",
        recipe="cifar20",
        model="resnet_cifar",
        protocol="centre_crop",
        dataset="cifar-10-batches-bin",
        num_classes=10,
        n=10_000,
        metric="error_top1",
        value=8.9,
        benchmark="cifar10-test",
    )
    (one,) = reproductions([cifar], PAPERS)
    assert not one.not_comparable
    assert [figure.figures for figure in one.counterparts] == [{"error_top1": 8.75}]
    written = report(tmp_path, [cifar])
    assert "Difference: +0.15 top-1" in year(page(written), 2015)
    (row,) = (row for row in rows(written) if row["kind"] == "reproduced")
    assert row["scope"] == "cifar10-test"
    part = replace(cifar, n=600, profile="toy")
    assert reproductions([part], PAPERS)[0].not_comparable == (
        "profile toy, not the published scale; 600 images, not 10,000"
    )
    texts, _ = panel(written, 1)
    assert not any("8.9" in text for text in texts)


def test_an_empty_store_shows_the_record_and_the_first_command(tmp_path):
    written = report(tmp_path, [])
    tree = page(written)
    assert "python -m pipeline.run --year 2012" in text_of(tree.find("body/header"))
    assert "Nothing has been reproduced yet" in written.svg.read_text()
    assert all(row["kind"] == "published" for row in rows(written))
    shown = text_of(tree)
    assert all(row.error_top5 in shown and row.team in shown for row in PUBLISHED)
    assert written.png.read_bytes().startswith(b"\x89PNG")


def test_the_table_reads_back(tmp_path):
    written = report(tmp_path, [ALEXNET, TOY])
    table = rows(written)
    assert tuple(table[0]) == COLUMNS
    for m in (ALEXNET, TOY):
        (row,) = (row for row in table if row["run"] == m.run_name)
        for name in ("value", "ci_low", "ci_high"):
            assert float(row[name]) == getattr(m, name)
        for name in ("year", "n", "seed", "num_classes"):
            assert int(row[name]) == getattr(m, name)
        for name in ("protocol", "profile", "dataset", "recipe_id", "code_version", "url"):
            assert row[name] == getattr(m, name)
    entries = [row for row in table if row["kind"] == "published" and row["role"] != "single_model"]
    assert [row["value"] for row in entries] == [row.error_top5 for row in PUBLISHED]
    single = [row for row in table if row["role"] == "single_model" and row["year"] == "2012"]
    assert ("40.7", "error_top1", "ilsvrc2012-val", "50000", "ten_crop", "1") in {
        tuple(row[name] for name in ("value", "metric", "eval_set", "n", "protocol", "nets"))
        for row in single
    }


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    tree = page(report(tmp_path, [ALEXNET, TOY]))
    for node in tree.iter():
        for name, value in node.attrib.items():
            local = name.rpartition("}")[2]
            if local in ("src", "href", "srcset", "data", "action", "poster"):
                assert value.startswith("#") or node.tag == "a", (node.tag, value)
            assert "url(http" not in value
    styles = "".join(node.text or "" for node in tree.iter() if node.tag.endswith("style"))
    assert not re.search(r"@import|url\(", styles)
    links = {node.get("href") for node in tree.iter("a")}
    assert links == {ALEXNET.url}


def test_hostile_names_stay_text(tmp_path):
    name = "</svg><script>alert(1)</script>-->\"'&$\\frac{$"
    hostile = replace(
        TOY, dataset=name, run_name=name, deviations=(name,), url="javascript:alert(1)"
    )
    written = report(tmp_path, [hostile])
    tree = page(written)
    assert len(list(tree.iter("script"))) == 1
    assert not list(tree.iter("a"))
    assert f"data set {' '.join(name.split())}, 24 classes" in year(tree, 2012)
    ET.parse(written.svg)
    (row,) = (row for row in rows(written) if row["kind"] == "reproduced")
    assert row["dataset"] == name
