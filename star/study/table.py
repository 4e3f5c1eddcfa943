"""The table of a study: a row for each variant, and its named pairs compared on the same clips.

In: the scores of each variant's seeds, and of controls; pairs of them. Out: `Table`, as Markdown for people, as CSV and
plain values for programs. Trains nothing, and does not choose: every row and every pair is shown, in the order given.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from star.evaluate.clusters import Difference, paired_difference
from star.evaluate.metrics import holm, mcnemar
from star.evaluate.scores import Scores, fuse, require_same_clips
from star.study.seeds import Spread, mean_right, spread_of
from star.study.studies import Pair


@dataclass(frozen=True, kw_only=True)
class Row(Spread):
    """The accuracy of one variant on the validation side; `test`: that on the test split, None if it was not scored."""

    label: str
    test: Spread | None = None

    def summary(self) -> dict[str, Any]:
        test = None if self.test is None else self.test.summary()
        return {"label": self.label, **super().summary(), "test": test}


@dataclass(frozen=True, kw_only=True)
class Comparison(Difference):
    """A pair of variants: the difference of the means over their seeds.

    Attributes:
        pair: their labels.
        mcnemar: p of McNemar's exact test of their fused seeds; it takes clips for independent.
        holm: `p_value`, or `mcnemar` where each clip is alone, corrected by Holm over the table's pairs.
    """

    pair: Pair
    mcnemar: float
    holm: float

    def summary(self) -> dict[str, Any]:
        return {"pair": list(self.pair), **super().summary(), "p_value": self.mcnemar, "holm_p_value": self.holm}


@dataclass(frozen=True, kw_only=True)
class Table:
    """All that a study shows.

    Attributes:
        title: of the first column. clips: those of the validation side, on which rows and pairs are.
        looks: the number of variants that were ever scored on the test split.
        controls: rows of simpler methods on the same clips, below the variants.
        one_subject: whether all these clips are of one person.
    """

    title: str
    rows: list[Row]
    comparisons: list[Comparison]
    clips: int
    looks: int = 0
    controls: list[Row] = field(default_factory=list)
    one_subject: bool = False

    @property
    def every(self) -> list[Row]:
        """Variants, then controls."""
        return [*self.rows, *self.controls]

    @property
    def best(self) -> str:
        """The label of the variant with the best mean; of equal ones the first."""
        return max(self.rows, key=lambda row: row.mean).label


def with_test(table: Table, test: Mapping[str, Sequence[Scores]], *, looks: int) -> Table:
    """The table with the test scores of some variants' seeds, and of some controls, beside."""

    def beside(rows: Sequence[Row]) -> list[Row]:
        return [replace(row, test=spread_of(test[row.label]) if row.label in test else None) for row in rows]

    return replace(table, rows=beside(table.rows), controls=beside(table.controls), looks=looks)


def table_of(
    title: str,
    scores: Mapping[str, Sequence[Scores]],
    pairs: Sequence[Pair],
    controls: Mapping[str, Sequence[Scores]] | None = None,
) -> Table:
    """The table of variants and controls by label, each with the scores of its seeds, all of the same clips.

    Raises:
        ConfigError: scores of different clips.
    """
    beside = controls or {}
    every = {**scores, **beside}
    first, *_ = every.values()
    for label, seeds in every.items():
        for each in seeds:
            require_same_clips(first[0], each, what=f"the scores of {label}")
    rows = {label: Row(label=label, **vars(spread_of(seeds))) for label, seeds in every.items()}
    return Table(
        title=title,
        rows=[rows[label] for label in scores],
        controls=[rows[label] for label in beside],
        comparisons=_compared(every, pairs),
        clips=len(first[0].labels),
        one_subject=first[0].one_subject,
    )


def _compared(scores: Mapping[str, Sequence[Scores]], pairs: Sequence[Pair]) -> list[Comparison]:
    found = []
    for one, other in pairs:
        clusters = scores[one][0].clusters
        difference = paired_difference(mean_right(scores[one]), mean_right(scores[other]), clusters)
        found.append((difference, mcnemar(fuse(scores[one]).right, fuse(scores[other]).right)))
    corrected = holm([exact if each.over == "clips" else each.p_value for each, exact in found])
    return [
        Comparison(pair=pair, mcnemar=exact, holm=p_value, **vars(difference))
        for pair, (difference, exact), p_value in zip(pairs, found, corrected, strict=True)
    ]


def markdown(table: Table) -> str:
    """The table for people, in per cent, and below it the pairs with what their clips could show at all."""
    clusters = table.every[0].clusters
    grouped = clusters.over != "clips"
    tested = any(row.test is not None for row in table.every)
    heads = [
        table.title,
        "validation top-1",
        "± over seeds",
        "95 % over clips",
        f"95 % over {clusters}",
        "mean class",
        "seeds",
    ]
    lines = _lines(
        [head for head in heads if grouped or head != heads[4]] + (TEST_HEADS if tested else []),
        [
            [
                ("control: " if i >= len(table.rows) else "") + row.label,
                _percent(row.mean),
                "" if math.isnan(row.spread) else _percent(row.spread),
                _range(row.interval),
                *([_range(row.cluster_interval)] if grouped else []),
                _percent(row.mean_class_accuracy),
                str(len(row.top1)),
                *(_test_cells(row.test) if tested else []),
            ]
            for i, row in enumerate(table.every)
        ],
    )
    pairs = _pair_lines(table.comparisons, str(clusters) if grouped else "clips")
    return "\n".join([*lines, *pairs, "", _sides(table)]) + "\n"


ONE_SUBJECT = (
    "All validation clips are of one subject: no interval and no p here is about other people; `star train --folds` "
    "holds out each in turn."
)
TEST_HEADS = ["test top-1", "test ± over seeds", "test 95 % over clips", "test 95 % over clusters"]


def _test_cells(test: Spread | None) -> list[str]:
    if test is None:
        return [""] * len(TEST_HEADS)
    spread = "" if math.isnan(test.spread) else _percent(test.spread)
    grouped = "" if test.clusters.over == "clips" else f"{_range(test.cluster_interval)} ({test.clusters})"
    return [_percent(test.mean), spread, _range(test.interval), grouped]


def _sides(table: Table) -> str:
    """Which clips the table is on, and how often the test split was looked at."""
    tested = ", ".join(row.label.replace("|", "/") for row in table.rows if row.test is not None)
    of = f" ({tested}; all seeds of a variant are one look)" if tested else ""
    number = sum(row.test is not None for row in table.controls)
    beside = f" {number} control{'s were' if number > 1 else ' was'} scored there as well, all choices made."
    return (
        f"{'Variants are compared' if table.rows else 'Controls are scored'} on {table.clips} validation clips. "
        f"Looks at the test split: {table.looks}{of}.{beside if number else ''}"
        + (f" {ONE_SUBJECT}" if table.one_subject else "")
    )


def _pair_lines(comparisons: Sequence[Comparison], over: str) -> list[str]:
    if not comparisons:
        return []
    grouped = over != "clips"
    tested = f"t-test over {over}" if grouped else "McNemar"
    heads = ["pair", "difference", f"95 % over {over}", *([f"p, {tested}"] if grouped else []), "p, McNemar over clips"]
    rows = [
        [
            f"{each.pair[0]} less {each.pair[1]}",
            f"{100 * each.value:+.1f}",
            _range(each.interval, sign="+"),
            *([f"{each.p_value:.2g}"] if grouped else []),
            f"{each.mcnemar:.2g}",
            f"{each.holm:.2g}",
            _percent(each.smallest),
        ]
        for each in comparisons
    ]
    hardest = max(comparisons, key=lambda each: each.smallest)
    return [
        "",
        *_lines([*heads, "p after Holm", "shown from"], rows),
        "",
        f"Differences are of the means over the seeds, McNemar's test is of the fused seeds. Holm corrects the p of "
        f"{'the ' if grouped else ''}{tested} for {len(comparisons)} comparison{'s' * (len(comparisons) > 1)}. What "
        f"these clips could show at all is in the last column: the {hardest.power()}. No interval includes the spread "
        "over seeds.",
    ]


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose first column is text and whose others are numbers."""
    texts = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in texts]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _range(interval: tuple[float, float], *, sign: str = "") -> str:
    low, high = interval
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def rows_csv(table: Table) -> str:
    """The rows for programs: shares, a column for each seed."""
    return _csv(
        {
            "variant": row.label,
            "control": int(i >= len(table.rows)),
            "top1_mean": row.mean,
            "top1_std": row.spread,
            **_limits("", row.interval),
            "over": row.clusters.over,
            "clusters": row.clusters.count,
            **_limits("cluster_", row.cluster_interval),
            "mean_class_accuracy": row.mean_class_accuracy,
            "test_top1_mean": math.nan if row.test is None else row.test.mean,
            "test_top1_std": math.nan if row.test is None else row.test.spread,
            **_limits("test_", (math.nan, math.nan) if row.test is None else row.test.interval),
            **_limits("test_cluster_", (math.nan, math.nan) if row.test is None else row.test.cluster_interval),
            **{f"top1_{k}": top1 for k, top1 in enumerate(row.top1)},
        }
        for i, row in enumerate(table.every)
    )


def pairs_csv(table: Table) -> str:
    """The pairs for programs: the accuracy of the first less that of the second, as shares; "" without pairs."""
    return _csv(
        {
            "first": each.pair[0],
            "second": each.pair[1],
            "difference": each.value,
            **_limits("", each.interval),
            "over": each.over,
            "clusters": each.clusters,
            "cluster_p_value": each.p_value,
            "mcnemar_p_value": each.mcnemar,
            "holm_p_value": each.holm,
            "smallest": each.smallest,
        }
        for each in table.comparisons
    )


def _limits(name: str, interval: tuple[float, float]) -> dict[str, float]:
    return {f"{name}low95": interval[0], f"{name}high95": interval[1]}


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    text, lines = io.StringIO(), list(rows)
    if lines:
        names = dict.fromkeys(name for line in lines for name in line)  # one row may have fewer seeds than another
        table = csv.DictWriter(text, list(names), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    return text.getvalue()
