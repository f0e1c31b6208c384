"""The official record as typed data."""

import csv

import pytest

from pipeline.papers.record import RECORD, published_results

ROWS = published_results()


def winners():
    return {row.year: row for row in ROWS if row.headline and row.role.startswith("winner")}


def test_every_row_of_the_file_is_there_with_its_figure_as_printed():
    with RECORD.open(newline="") as lines:
        printed = [row["top5_err_pct"] for row in csv.DictReader(lines)]
    assert [row.error_top5 for row in ROWS] == printed
    assert "25.770" in printed  # the last digit survives


def test_headline_winners_used_the_provided_data_alone():
    assert {year: row.error_top5 for year, row in winners().items()} == {
        2010: "28.191",
        2011: "25.770",
        2012: "16.422",
        2013: "11.743",
        2014: "6.656",
        2015: "3.567",
        2016: "2.991",
        2017: "2.251",
    }
    assert not any(row.extra_data for row in winners().values())


def test_the_famous_2012_figure_is_labelled_as_seven_nets_with_outside_data():
    (row,) = (row for row in ROWS if row.error_top5 == "15.315")
    assert (row.role, row.nets, row.extra_data, row.headline) == ("winner", "7", True, False)


def test_three_test_sets_and_their_sizes():
    sizes = {row.eval_set: row.images for row in winners().values()}
    assert sizes == {
        "ilsvrc2010-test-150k": 150_000,
        "ilsvrc2011-test-100k": 100_000,
        "ilsvrc2012-test-100k": 100_000,
    }
    human = next(row for row in ROWS if row.role == "human" and row.headline)
    assert (human.error_top5, human.images, human.nets) == ("5.1", 1500, "")


def test_single_net_figures_tell_crops_and_split():
    (alexnet,) = winners()[2012].single
    assert (alexnet.error_top1, alexnet.error_top5) == ("40.7", "18.2")
    assert (alexnet.protocol, alexnet.split) == ("ten_crop", "val")

    by_protocol = {single.protocol: single for single in winners()[2015].single}
    assert by_protocol["centre_crop"].error_top5 == "6.7"
    assert by_protocol["ten_crop"].error_top1 == "21.43"
    assert by_protocol[""].described == "152-layer, multi-scale dense, val"


def test_a_figure_in_brackets_on_the_test_set_stays_one():
    vgg = next(row for row in ROWS if row.team == "VGG" and row.role == "runner_up")
    assert [(s.error_top5, s.split) for s in vgg.single] == [("7.1", "val"), ("7.0", "test")]


def test_what_was_not_checked_says_so():
    assert {row.error_top5 for row in ROWS if row.status == "memory"} == {"8.06", "4.581"}


def test_a_test_set_that_does_not_tell_its_size_is_refused(tmp_path):
    damaged = tmp_path / "timeline.csv"
    damaged.write_text(RECORD.read_text().replace("ilsvrc2011-test-100k", "ilsvrc2011-test"))
    with pytest.raises(ValueError, match="ilsvrc2011-test"):
        published_results(damaged)
