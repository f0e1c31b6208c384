"""The official record of the challenge, 2010 to 2017: ``timeline.csv``, typed."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.papers import PAPERS, trimps
from stages.measurement import PublishedResult, SingleModelResult

RECORD = Path(__file__).with_name("timeline.csv")

# What the entries of a family were built of, in the words of the figure. A family is a paper's name, or a
# family for which there is no paper here.
_BUILT_OF = {paper.name: paper.built_of for paper in PAPERS} | {
    "shallow": "hand-made\nfeatures",
    "ensemble": trimps.PAPER.built_of,
}

# "... (21.43/5.71 10-crop; 23.0/6.7 centre crop)": further figures of the same network.
_FURTHER = re.compile(r"[(;] ?(?:(?P<top1>\d+\.\d+)/)?(?P<top5>\d+\.\d+) (?P<how>[^;)]+)")


def published_results(record: Path = RECORD) -> tuple[PublishedResult, ...]:
    """Every row of the record, in the order of the file (years, with the human rows last).

    Raises:
        KeyError: a column is missing.
        ValueError: a figure is not a number, or the name of a test set does not say its size.
    """
    with record.open(newline="", encoding="utf-8") as lines:
        return tuple(_result(row) for row in csv.DictReader(lines))


def _result(row: dict[str, str]) -> PublishedResult:
    return PublishedResult(
        year=int(row["year"]),
        role=row["role"],
        team=row["team"],
        method=row["method"],
        family=row["model_family"],
        built_of=_BUILT_OF.get(row["model_family"], row["model_family"]),
        model=row["repro_model"],
        error_top5=row["top5_err_pct"],
        nets="" if row["role"] == "human" else row["ensemble_models"],
        extra_data=row["external_data"] == "yes",
        eval_set=row["eval_set"],
        images=_images(row["eval_set"]),
        single=tuple(_single(row)),
        headline=row["plot_default"] == "1",
        status=row["status"],
        source=row["source"],
    )


def _images(eval_set: str) -> int:
    """The size of a test set, from its name: "204 images of ..." or "...-100k"."""
    if part := re.match(r"(\d+) images of ", eval_set):
        return int(part[1])
    if whole := re.search(r"-(\d+)k$", eval_set):
        return 1000 * int(whole[1])
    raise ValueError(f"the name of the test set {eval_set!r} does not say its size")


def _single(row: dict[str, str]) -> Iterator[SingleModelResult]:
    if not row["single_top5_err_pct"]:
        return
    described = row["single_protocol"]
    yield _single_result(row["single_top1_err_pct"], row["single_top5_err_pct"], described)
    for further in _FURTHER.finditer(described):
        how = further["how"] if "test" in further["how"] else f"{further['how']}, val"
        yield _single_result(further["top1"] or "", further["top5"], how)


def _single_result(top1: str, top5: str, described: str) -> SingleModelResult:
    described = re.sub(r" \(\d.*\)$", "", described)
    if "10-crop" in described:
        protocol = "ten_crop"
    elif re.search(r"centre crop|\b1 crop", described):
        protocol = "centre_crop"
    else:
        protocol = ""
    split = re.search(r"\b(val|test)\b", described)
    if split is None:
        raise ValueError(f"{described!r} names neither val nor test")
    return SingleModelResult(
        top1, top5, described, "val" if split[0] == "val" else "test", protocol
    )
