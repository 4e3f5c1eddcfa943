"""The page holds the run's numbers and figures, asks no network for anything, and escapes what users named."""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from star_stores import one_thread, write_small_store

from star.config import with_overrides
from star.evaluate import evaluate_run
from star.figures import curve_figure
from star.presets import smoke
from star.report import report
from star.train import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Collects texts and sources, and checks that tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_and_needs_nothing(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", signal=0.4)
    config = with_overrides(smoke(), ["model.width=16", "data.frame_step=1", "eval_every=1", "optim.epochs=3"])
    run = train(store, tmp_path / "run", config=config)
    scores = evaluate_run(run)
    hostile = dataclasses.replace(scores, class_names=("<script>alert(1)</script>", 'a "b"', "c & d", "e"))
    received = {"encoder 1 full": np.full(4, 0.25)}
    pictures = [("Frames <b>", curve_figure(run.metrics()))]
    page = Page(report(run, hostile, received=received, pictures=pictures))
    assert "script" not in page.tags
    pictures_found = [source for source in page.sources if source.startswith("data:image/png;base64,")]
    assert len(pictures_found) == 4
    assert set(page.sources) - set(pictures_found) == {"data:,"}  # the icon: nothing to fetch
    assert all(base64.b64decode(source.split(",")[1]).startswith(b"\x89PNG") for source in pictures_found)
    assert not re.search(r"https?:|@import|url\(", report(run, scores))
    assert {"<script>alert(1)</script>", 'a "b"', "c & d"} <= set(page.texts)
    text = " ".join(page.texts)
    assert f"{100 * scores.top1:.1f} %" in text
    assert "optim.schedule" in text
    assert "cosine" in text
    assert run.store["fingerprint"] in text
    worst = np.nanargmin(scores.per_class)
    assert page.texts.index(hostile.class_names[worst]) < page.texts.index(hostile.class_names[worst - 1])
