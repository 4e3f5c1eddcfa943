"""A self-contained HTML page about a run: no script, font or picture is loaded from the network.

In: a run, its scores, pictures. Out: HTML text. Figures come from `star.report.figures` as PNG data; all text is
escaped. Reads no store and runs no model.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.errors import printable
from star.config.text import leaves, to_dict
from star.evaluate.completeness import Completeness
from star.evaluate.scores import Scores
from star.report.figures import confusion_figure, curve_figure, png
from star.runs.run import Run

HALF_PAGE = 7.0  # inches: figures up to this width are placed side by side
STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --blue: #0072b2; --orange: #d55e00 }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
h1 { font-size: 1.7rem; margin: 0 0 .2rem } h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem }
p.sub { color: var(--soft); margin: 0 0 1.6rem; max-width: 52rem } h2 + p.sub { margin: -.4rem 0 .8rem }
p.caution { color: var(--orange); margin: -.8rem 0 1.6rem }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem }
.number { flex: 1 1 11rem; border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem }
.number b { display: block; font-size: 1.8rem; line-height: 1.2; color: var(--blue) }
.number span { color: var(--soft); font-size: .9rem }
.sections { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); column-gap: 2rem; align-items: start;
  grid-auto-flow: dense }
section.wide { grid-column: 1 / -1 } @media (max-width: 60rem) { .sections { grid-template-columns: minmax(0, 1fr) } }
figure { margin: 0 } img { max-width: 100%; height: auto; display: block }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { text-align: left; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.bar { background: var(--line); height: .6rem; border-radius: .3rem; min-width: 5rem; margin-top: .45rem }
.bar i { display: block; height: 100%; border-radius: .3rem; background: var(--blue) }
td code { white-space: nowrap } code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace }
"""


def escape(text: str) -> str:
    """Text as HTML; names come from strangers, and the page may be shown in a terminal as well."""
    return escape_html(printable(text))


@dataclass(frozen=True, kw_only=True)
class Illustration:
    """A figure with a heading and a caption."""

    heading: str
    caption: str
    figure: Figure


def report(run: Run, scores: Scores, *, completeness: Completeness, pictures: Sequence[Illustration] = ()) -> str:
    """The page.

    Args:
        scores: of the run's test or validation side. completeness: caveats of these scores.
        pictures: further figures, for instance attention over time.
    """
    sections = [
        _figure_section("Training", curve_figure(run.metrics())),
        _figure_section("Confusion", confusion_figure(scores.confusion, scores.class_names)),
        *(_figure_section(each.heading, each.figure, each.caption) for each in pictures),
        _section("Classes, worst first", _class_table(scores)),
        _section("Settings", _table(to_dict(run.config) | {"model": run.checkpoint().model_config})),
        _section("Tokens it was trained on", _table(run.store)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(run.path.name)}: {100 * scores.top1:.1f} %</title>'
        f"<style>{STYLE}</style></head><body>{_head(run, scores, completeness)}"
        f'<div class="sections">{"".join(sections)}</div></body></html>\n'
    )


def _head(run: Run, scores: Scores, completeness: Completeness) -> str:
    classes = len(np.unique(scores.labels))
    model, optim = run.config.model, run.config.optim
    numbers = [
        (f"{100 * scores.top1:.1f} %", f"top-1 accuracy, 95 % interval {_intervals(scores)}"),
        (f"{100 * scores.top5:.1f} %", "top-5 accuracy"),
        (f"{100 * scores.mean_class_accuracy:.1f} %", f"mean class accuracy over {classes} classes"),
    ]
    boxes = (f'<div class="number"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in numbers)
    return (
        f"<h1>{escape(run.path.name)}</h1>"
        f'<p class="sub">{len(scores.labels)} clips of {escape(scores.protocol)} {escape(scores.split)}; '
        f"{escape(model.kind)}, {escape(model.tokens)} tokens, width {model.width}, {model.encoder_depth} + "
        f"{model.decoder_depth} layers; {completeness.step} steps of {optim.batch_size} clips, "
        f"seed {run.config.seed}</p>"
        f"{_cautions(scores, completeness)}"
        f'<div class="numbers">{"".join(boxes)}</div>'
    )


def _intervals(scores: Scores) -> str:
    low, high = scores.interval
    text = f"{100 * low:.1f} to {100 * high:.1f} over the clips"
    if scores.clusters.over == "clips":
        return text
    low, high = scores.cluster_interval
    return f"{text}, {100 * low:.1f} to {100 * high:.1f} over {scores.clusters}"


def _cautions(scores: Scores, completeness: Completeness) -> str:
    cautions = []
    if not completeness.finished:
        cautions.append(f"Unfinished: step {completeness.step} of {completeness.steps}.")
    if completeness.left_out:
        split = f"{scores.protocol} {scores.split}"
        cautions.append(
            f"{completeness.left_out} clips of {split} have no tokens (failed, missing or excluded) and are not scored."
        )
    if completeness.other_tokens:
        cautions.append(f"Its {scores.split} clips have other tokens now than when it was trained.")
    return f'<p class="caution">{escape(" ".join(cautions))}</p>' if cautions else ""


def _section(heading: str, content: str, caption: str = "", *, wide: bool = False) -> str:
    paragraph = f'<p class="sub">{escape(caption)}</p>' if caption else ""
    width = "wide" if wide else "half"
    return f'<section class="{width}"><h2>{escape(heading)}</h2>{paragraph}{content}</section>'


def _figure_section(heading: str, figure: Figure, caption: str = "") -> str:
    data, inches = base64.b64encode(png(figure, dpi=110)).decode(), figure.get_figwidth()
    size = f'width="{round(inches * 96)}"'
    image = f'<figure><img {size} alt="{escape(heading)}" src="data:image/png;base64,{data}"></figure>'
    return _section(heading, image, caption, wide=inches > HALF_PAGE)


def _class_table(scores: Scores) -> str:
    rows = []
    for name, clips, share, taken_for, wrong in scores.worst_first():
        bar = f'<div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
        predicted = f"{escape(taken_for)} ({wrong})" if wrong else ""
        rows.append(
            f'<tr><td>{escape(name)}</td><td class="n">{clips}</td>'
            f'<td class="n">{100 * share:.1f} %</td><td>{bar}</td><td>{predicted}</td></tr>'
        )
    head = '<th>class</th><th class="n">clips</th><th class="n">right</th><th></th><th>taken for</th>'
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _table(values: Mapping[str, Any]) -> str:
    rows = leaves(values).items()
    cells = (f"<tr><td><code>{escape(name)}</code></td><td>{escape(_plain(value))}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return str(value)
