"""The page holds the run's numbers and figures, asks no network for anything, and escapes what users named; the
command that writes it finds frames behind the store, or says that it did not.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from command_line import done, one_sentence, star
from extract_corpus import KEPT, OPTIONS, content, install, write_prepared
from star_stores import one_thread, plain, write_small_store

from cli.pictures.attention import over_time
from cli.pictures.frames import frames_of, middle_pictures, prepared_of
from pipeline.artifacts.files import write_atomic
from pipeline.errors import ArtifactError, CorruptError
from pipeline.extract.coordinator import SOURCE, extract
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import decode_picture
from pipeline.store.token_store import TokenStore
from star.data.dataset import TokenDataset
from star.evaluate.attention_maps import class_attention, class_attention_in_run
from star.evaluate.completeness import Completeness, completeness_of
from star.evaluate.scoring import evaluate_run
from star.model import StarTransformer
from star.report.figures import curve_figure
from star.report.html import Illustration, report
from star.runs.run import Run
from star.train.start import train

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
        self.without_data = re.sub(r"data:image/png;base64,[^\"]*", "", page)
        self.feed(page)
        assert self.open == []

    def require_nothing_outside(self, *, pictures: int) -> None:
        """No script, no address that a browser would fetch, and so many pictures whose data the page holds."""
        assert not self.tags & {"script", "iframe", "object", "embed", "base"}
        assert not re.search(r"https?:|//|@import|url\(", self.without_data)
        found = [source for source in self.sources if source.startswith("data:image/png;base64,")]
        assert len(found) == pictures
        assert all(base64.b64decode(source.split(",")[1]).startswith(b"\x89PNG") for source in found)
        assert set(self.sources) - set(found) == {"data:,"}  # the icon: nothing to fetch

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
    store = write_small_store(tmp_path / "small.zarr", signal=0.4, subjects=(1, 2, 4, 9))
    config = plain("model.width=16", "data.frame_step=1", "eval_every=1", "optim.epochs=3")
    run = train(store, tmp_path / "run", config=config)
    scores = evaluate_run(run)
    hostile = dataclasses.replace(scores, class_names=("<script>alert(1)</script>", 'a "b"', "c & d", "e"))
    pictures = [Illustration(heading="Frames <b>", caption="what & how", figure=curve_figure(run.metrics()))]
    page = Page(report(run, hostile, completeness=completeness_of(run), pictures=pictures))
    page.require_nothing_outside(pictures=3)
    assert {"<script>alert(1)</script>", 'a "b"', "c & d", "Frames <b>", "what & how"} <= set(page.texts)
    text = " ".join(page.texts)
    assert f"{100 * scores.top1:.1f} %" in text
    assert "optim.schedule" in text
    assert "cosine" in text
    assert run.store["fingerprint"] in text
    assert "Unfinished" not in text
    assert "not scored" not in text
    part = Completeness(step=3, steps=12, left_out=2)
    text = " ".join(Page(report(run, scores, completeness=part)).texts)
    assert (
        "Unfinished: step 3 of 12. 2 clips of xsub test have no tokens (failed, missing or excluded) and are not sc"
        in text
    )
    low, high = (100 * end for end in scores.interval)
    assert f"95 % interval {low:.1f} to {high:.1f} over the clips" in text
    grouped = dataclasses.replace(scores, subjects=np.arange(len(scores.labels)) % 3)
    low, high = (100 * end for end in grouped.cluster_interval)
    text = " ".join(Page(report(run, grouped, completeness=part)).texts)
    assert f"over the clips, {low:.1f} to {high:.1f} over 3 subjects" in text
    worst = np.nanargmin(scores.per_class)
    assert page.texts.index(hostile.class_names[worst]) < page.texts.index(hostile.class_names[worst - 1])


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, PreparedFolder, Run]:
    """A store of 12 clips from a prepared folder, by a stub instead of the backbone, and a run of one epoch."""
    install(monkeypatch)
    folder = write_prepared(tmp_path / "prepared", 12)
    extract(folder.path, tmp_path / "store", OPTIONS)
    settings = ["model.width=16", "model.tokens=both", "optim.epochs=1", "data.frame_step=2"]
    settings += ["data.validation=0"]
    run = train(tmp_path / "store", tmp_path / "run", config=plain(*settings))
    return tmp_path / "store", folder, run


def test_the_command_lays_attention_on_the_frames_behind_the_store(
    made: tuple[Path, PreparedFolder, Run], tmp_path: Path
) -> None:
    store, folder, run = made
    shown = star("report", run.path, "--quiet")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0] == str(run.path / "report.html")
    page = Page((run.path / "report.html").read_text())
    page.require_nothing_outside(pictures=4)  # curve, confusion, attention over time, attention on frames
    assert {"Training", "Confusion", "Attention over time", "Attention on frames"} <= set(page.texts)
    moved = store.rename(tmp_path / "moved")
    folder.path.rename(tmp_path / "elsewhere")
    shown = star("report", "--quiet", run.path, "--store", moved, "--out", tmp_path / "short.html")
    assert shown.exit_code == 0
    assert shown.stderr.startswith("without frames: ")
    assert "does not exist" in shown.stderr
    Page((tmp_path / "short.html").read_text()).require_nothing_outside(pictures=3)
    done("report", run.path, "--store", moved, "--out", tmp_path / "long.html", "--prepared", tmp_path / "elsewhere")
    assert (tmp_path / "long.html").read_bytes() == (run.path / "report.html").read_bytes()
    for shard in (tmp_path / "elsewhere").glob("clips-*.h5"):
        shard.unlink()
    one_sentence(
        star("report", "--quiet", run.path, "--store", moved, "--prepared", tmp_path / "elsewhere"),
        "clips-0",
        "is missing",
    )
    (tmp_path / "elsewhere").rename(folder.path)  # where the store looks for it
    shown = star("report", "--quiet", run.path, "--store", moved, "--out", tmp_path / "short.html")
    assert (shown.exit_code, shown.stderr.startswith("without frames: ")) == (0, True)
    Page((tmp_path / "short.html").read_text()).require_nothing_outside(pictures=3)
    other = write_prepared(tmp_path / "other", 8).path
    one_sentence(star("report", "--quiet", run.path, "--store", moved, "--prepared", other), "other", "was made from")
    one_sentence(star("report", run.path), "does not exist", "--store")
    one_sentence(star("report", tmp_path / "absent"), "absent")
    for line in (b'{"step"', b'{"stap": 2}', b'{"step": null}', b"[]"):
        write_atomic(run.path / "metrics.jsonl", b'{"step": 1, "epoch": 1, "loss": 1.0, "lr": 0.1}\n' + line + b"\n")
        shown = star("report", "--quiet", run.path, "--store", moved)
        assert shown.exit_code == 1
        assert "metrics.jsonl: line 2 is not a metrics line: it " in shown.stderr.splitlines()[-1]


def test_attention_over_time_is_labelled_by_the_stores_frames(made: tuple[Path, PreparedFolder, Run]) -> None:
    store, _, run = made  # every second frame of sixteen
    (axes,) = over_time(run, TokenStore.open(store), evaluate_run(run)).figure.axes
    assert axes.get_xticks().tolist() == list(range(1, 16, 2))
    assert all(line.get_xdata().tolist() == list(range(1, 16, 2)) for line in axes.lines[1:])
    assert len(axes.lines) > 1


def test_frames_are_those_that_view_0_was_made_from(made: tuple[Path, PreparedFolder, Run]) -> None:
    path, folder, _ = made
    store = TokenStore.open(path)
    spare = (KEPT - OPTIONS.crop) // 2
    for row in (0, 7):
        kept = np.stack([decode_picture(picture) for picture in content(row, 1).frames[0]])
        cropped = kept[:, spare : spare + OPTIONS.crop, spare : spare + OPTIONS.crop]
        assert np.array_equal(frames_of(store, prepared_of(store), row), cropped)
    grey = middle_pictures(store, folder, side=4)
    for rows in ([7], [0, 7, 7, 3]):
        found = grey(np.asarray(rows))
        assert (found.shape, found.dtype) == ((len(rows), 4, 4), np.uint8)
        for row, picture in zip(rows, found, strict=True):
            middle = frames_of(store, folder, row)[8].astype(float) @ (0.299, 0.587, 0.114)
            cells = middle.reshape(4, OPTIONS.crop // 4, 4, OPTIONS.crop // 4).mean(axis=(1, 3))
            assert np.abs(picture - cells).max() <= 1
    shard = folder.shard(0)
    whole = shard.path.read_bytes()
    picture = whole.index(content(0, 1).frames[0][3])
    try:  # a flipped bit amid a JPEG: it decodes, to something else
        shard.path.write_bytes(whole[: picture + 400] + bytes([whole[picture + 400] ^ 1]) + whole[picture + 401 :])
        with pytest.raises(
            CorruptError, match=r"clips-00000.h5: clip 0000 does not match its digest; run `star verify"
        ):
            frames_of(store, folder, 0)
        with pytest.raises(CorruptError, match="clip 0000 does not match its digest"):
            middle_pictures(store, folder)(np.asarray([1, 0]))
    finally:
        shard.path.write_bytes(whole)
    (path / SOURCE).unlink()
    with pytest.raises(ArtifactError, match="does not record where"):
        prepared_of(store)
    assert prepared_of(store, folder.path).fingerprint == folder.fingerprint


def test_class_attention_of_a_run_is_the_mean_over_its_modules(made: tuple[Path, PreparedFolder, Run]) -> None:
    store, _, run = made
    frames, looks = class_attention_in_run(run, [2, 5])
    assert frames.tolist() == list(range(0, 16, 2))
    model = run.model()
    assert isinstance(model, StarTransformer)
    dataset = TokenDataset(store, split="train", tokens=("gg", "jm"), frame_step=2)
    item = int(np.flatnonzero(dataset.rows == 5)[0])
    modules = list(class_attention(model, dataset.read([item])).values())
    for kind in ("cells", "joints"):
        assert np.allclose(looks[kind][1], sum(module[kind][0] for module in modules) / len(modules), atol=1e-6)
    assert not np.allclose(looks["joints"][0], looks["joints"][1])


def test_a_baseline_has_a_page_without_attention(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", subjects=(1, 2, 4, 9))
    settings = ["model.kind=attentive_probe", "data.frame_step=1", "optim.epochs=1", "log_every=1000"]
    run = train(store, tmp_path / "run", config=plain(*settings))
    shown = star("report", run.path, "--quiet")
    assert shown.exit_code == 0
    assert "without attention" in shown.stderr
    Page((run.path / "report.html").read_text()).require_nothing_outside(pictures=2)
