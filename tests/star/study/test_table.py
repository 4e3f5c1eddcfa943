"""The table of a study: its numbers are those of the library, whoever reads them."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.records import keyed_rng
from star.evaluate.clusters import cluster_interval, paired_difference
from star.evaluate.metrics import holm, mcnemar, wilson_interval
from star.evaluate.scores import Scores, fuse
from star.study.seeds import spread_of
from star.study.table import markdown, pairs_csv, rows_csv, table_of, with_test

CLIPS = 40


def scores(right: np.ndarray, *, subjects: int = 4) -> Scores:
    """Of 40 clips; `subjects`: their number, 0 if unknown."""
    numbers = np.arange(CLIPS) % subjects if subjects else np.full(CLIPS, -1)
    return Scores(
        clip_ids=np.arange(CLIPS).astype(str), labels=np.zeros(CLIPS, np.int64),
        probabilities=np.where(right[:, None], [1.0, 0.0], [0.0, 1.0]), class_names=("x", "y"),
        split="test", protocol="xsub", subjects=numbers, performances=np.full(CLIPS, -1),
    )  # fmt: skip


def seeds_of(name: str, share: float, subjects: int = 4) -> list[Scores]:
    rng = keyed_rng(0, name)
    return [scores(rng.random(CLIPS) < share, subjects=subjects) for _ in range(3)]


PAIRS = [("a | b", "c"), ("a | b", "d"), ("d", "c")]


def found_scores(subjects: int = 4) -> dict[str, list[Scores]]:
    return {name: seeds_of(name, share, subjects) for name, share in {"a | b": 0.9, "c": 0.5, "d": 0.7}.items()}


def test_a_row_is_mean_spread_and_both_intervals() -> None:
    found = found_scores()
    for row in table_of("x", found, []).rows:
        seeds = found[row.label]
        top1 = [float(each.right.mean()) for each in seeds]
        assert row.top1 == tuple(top1)
        assert row.mean == pytest.approx(np.mean(top1))
        assert row.spread == pytest.approx(np.std(top1, ddof=1))
        assert row.interval == wilson_interval(row.mean * CLIPS, CLIPS)
        shares = np.mean([each.right for each in seeds], axis=0)
        assert row.cluster_interval == cluster_interval(shares, seeds[0].clusters)
        summary = row.summary()
        assert (summary["label"], summary["over"], summary["clusters"]) == (row.label, "subjects", 4)
        assert summary["cluster_interval95"] == list(row.cluster_interval)
    single = table_of("x", {"a": found["c"][:1]}, [])
    assert math.isnan(single.rows[0].spread)
    assert single.rows[0].summary()["spread"] is None
    assert markdown(single).splitlines()[2].split("|")[3].strip() == ""


def test_a_pair_is_tested_over_subjects_and_corrected() -> None:
    found = found_scores()
    table = table_of("x", found, PAIRS)
    mean = {row.label: row.mean for row in table.rows}
    for each, (one, other) in zip(table.comparisons, PAIRS, strict=True):
        means = [np.mean([seed.right for seed in found[name]], axis=0) for name in (one, other)]
        expected = paired_difference(means[0], means[1], found[one][0].clusters)
        assert {name: getattr(each, name) for name in vars(expected)} == vars(expected)
        assert each.value == pytest.approx(mean[one] - mean[other])
        assert each.mcnemar == mcnemar(fuse(found[one]).right, fuse(found[other]).right)
    assert [each.holm for each in table.comparisons] == holm([each.p_value for each in table.comparisons])
    assert [each.holm for each in table.comparisons] != [each.p_value for each in table.comparisons]


def test_without_subjects_the_exact_test_is_corrected() -> None:
    table = table_of("x", found_scores(subjects=0), PAIRS)
    assert [each.over for each in table.comparisons] == ["clips"] * 3
    assert [each.holm for each in table.comparisons] == holm([each.mcnemar for each in table.comparisons])
    assert holm([each.mcnemar for each in table.comparisons]) != holm([each.p_value for each in table.comparisons])


def test_the_text_says_what_its_numbers_are_of() -> None:
    table = table_of("study", found_scores(), PAIRS)
    head, _, first, *_ = markdown(table).splitlines()
    assert (
        head
        == "| study | validation top-1 | ± over seeds | 95 % over clips | 95 % over 4 subjects | mean class | seeds |"
    )
    row = table.rows[0]
    low, high = (100 * end for end in row.cluster_interval)
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells[:3] == ["a / b", f"{100 * row.mean:.1f}", f"{100 * row.spread:.1f}"]
    assert cells[4:] == [f"{low:.1f} to {high:.1f}", f"{100 * row.mean_class_accuracy:.1f}", "3"]
    *below, empty, sides = markdown(table).splitlines()[6:]
    assert (empty, sides) == (
        "",
        f"Variants are compared on {table.clips} validation clips. Looks at the test split: 0.",
    )
    assert below[0].startswith("| pair | difference | 95 % over 4 subjects | p, t-test over 4 subjects | p, McNemar")
    each = table.comparisons[2]
    cells = [cell.strip() for cell in below[4].strip("|").split("|")]
    assert cells[:2] == ["d less c", f"{100 * each.value:+.1f}"]
    assert cells[3:] == [f"{p:.2g}" for p in (each.p_value, each.mcnemar, each.holm)] + [f"{100 * each.smallest:.1f}"]
    hardest = max(table.comparisons, key=lambda one: one.smallest)
    assert hardest.power() in below[-1]
    assert "Holm corrects the p of the t-test over 4 subjects for 3 comparisons." in below[-1]
    alone = markdown(table_of("study", found_scores(subjects=0), PAIRS[:1]))
    assert "t-test" not in alone
    assert "| 95 % over clips | mean class |" in alone
    assert "Holm corrects the p of McNemar for 1 comparison." in alone
    assert "| pair |" not in markdown(table_of("study", found_scores(), []))


def test_test_scores_stand_beside_and_their_looks_are_counted() -> None:
    found = found_scores()
    first, *others = found
    table = with_test(table_of("study", found, PAIRS), {first: found[others[0]]}, looks=2)
    expected = spread_of(found[others[0]])
    assert [row.test is None for row in table.rows] == [False, *[True] * len(others)]
    head, _, row, other, *_, sides = markdown(table).splitlines()
    assert head.endswith("| test top-1 | test ± over seeds | test 95 % over clips | test 95 % over clusters |")
    low, high = (100 * end for end in expected.cluster_interval)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-4:-2] == [f"{100 * expected.mean:.1f}", f"{100 * expected.spread:.1f}"]
    assert cells[-1] == f"{low:.1f} to {high:.1f} (4 subjects)"
    assert other.endswith("|  |  |  |  |")
    shown = first.replace("|", "/")
    assert sides.endswith(f"Looks at the test split: 2 ({shown}; all seeds of a variant are one look).")
    lines = list(csv.DictReader(io.StringIO(rows_csv(table))))
    assert (float(lines[0]["test_top1_mean"]), lines[1]["test_top1_mean"]) == (expected.mean, "nan")
    assert table.rows[0].summary()["test"] == expected.summary()
    assert table.rows[1].summary()["test"] is None
    best = max(table.rows, key=lambda row: row.mean)
    assert table.best == best.label


def test_controls_stand_below_on_the_same_clips() -> None:
    found, beside = found_scores(), {"ridge": seeds_of("ridge", 0.6)[:1], "chance": seeds_of("chance", 0.5)[:1]}
    table = table_of("study", found, [("a | b", "ridge")], beside)
    assert [row.label for row in table.controls] == ["ridge", "chance"]
    assert table.controls[0].mean == beside["ridge"][0].top1
    assert table.best in found  # a control is never chosen
    difference = table.rows[0].mean - table.controls[0].mean
    assert table.comparisons[0].value == pytest.approx(difference)
    table = with_test(table, {"ridge": beside["chance"], "d": found["d"]}, looks=1)
    assert [row.label for row in table.every if row.test is not None] == ["d", "ridge"]
    lines = markdown(table).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:7]] == [
        "a / b",
        "c",
        "d",
        "control: ridge",
        "control: chance",
    ]
    assert f"| {100 * beside['chance'][0].top1:.1f} |" in lines[5]
    assert lines[-1].endswith(
        "Looks at the test split: 1 (d; all seeds of a variant are one look). 1 control was scored there as well, all "
        "choices made."
    )
    rows = list(csv.DictReader(io.StringIO(rows_csv(table))))
    assert [line["control"] for line in rows] == ["0", "0", "0", "1", "1"]
    with pytest.raises(ConfigError, match="the scores of ridge: have other subjects"):
        table_of("study", found, [], {"ridge": seeds_of("ridge", 0.6, subjects=2)})


def test_programs_get_every_number() -> None:
    table = table_of("study", found_scores(), PAIRS)
    rows = list(csv.DictReader(io.StringIO(rows_csv(table))))
    for line, row in zip(rows, table.rows, strict=True):
        assert (line["variant"], float(line["top1_mean"]), float(line["top1_2"])) == (row.label, row.mean, row.top1[2])
        assert (float(line["cluster_low95"]), float(line["cluster_high95"])) == row.cluster_interval
        assert (line["over"], line["clusters"]) == ("subjects", "4")
    lines = list(csv.DictReader(io.StringIO(pairs_csv(table))))
    for line, each in zip(lines, table.comparisons, strict=True):
        assert (line["first"], line["second"]) == each.pair
        assert [float(line[name]) for name in ("difference", "low95", "high95")] == [each.value, *each.interval]
        names = ("cluster_p_value", "mcnemar_p_value", "holm_p_value", "smallest")
        assert [float(line[name]) for name in names] == [each.p_value, each.mcnemar, each.holm, each.smallest]
        summary = each.summary()
        assert (summary["pair"], summary["holm_p_value"]) == (list(each.pair), each.holm)
        assert (summary["cluster_p_value"], summary["p_value"]) == (each.p_value, each.mcnemar)
    assert pairs_csv(table_of("study", found_scores(), [])) == ""
    fewer = {"one seed": found_scores()["c"][:1], **found_scores()}
    rows = list(csv.DictReader(io.StringIO(rows_csv(table_of("study", fewer, [])))))
    assert [sum(line[f"top1_{seed}"] != "" for seed in range(3)) for line in rows] == [1, 3, 3, 3]


def test_scores_of_other_clips_make_no_table() -> None:
    found = found_scores()
    with pytest.raises(ConfigError, match="the scores of c: have other subjects of the same clips"):
        table_of("study", {**found, "c": seeds_of("c", 0.5, subjects=2)}, PAIRS)
