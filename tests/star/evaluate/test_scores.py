"""Score files: what they hold, what they refuse; fusion; what belongs together."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.archives import sealed_archive
from pipeline.errors import ArtifactError, ConfigError, CorruptError, StarError
from star.evaluate.clusters import cluster_interval
from star.evaluate.scores import FORMAT, Scores, fuse, load_scores, save_scores


def scores(probabilities: list[list[float]], ids: str = "abcd", classes: str = "xy", trained_on: str = "") -> Scores:
    return Scores(
        clip_ids=np.asarray(list(ids)), labels=np.asarray([0, 1, 1, 0]), probabilities=np.asarray(probabilities),
        class_names=tuple(classes), split="test", protocol="xsub", subjects=np.asarray([1, 1, 2, 2]),
        performances=np.asarray([0, 1, 2, -1]), trained_on=np.asarray(list(trained_on)) if trained_on else None,
    )  # fmt: skip


OURS = scores([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [1, 0]], trained_on="pqb")


def test_scores_survive_their_file(tmp_path: Path) -> None:
    save_scores(OURS, tmp_path / "s.npz")
    again = load_scores(tmp_path / "s.npz")
    for name, value in vars(OURS).items():
        assert np.array_equal(getattr(again, name), value), name
    assert again.summary() == OURS.summary()
    assert again.top1 == pytest.approx(3 / 4)
    assert again.seen_in_training == 1
    unknown = replace(OURS, trained_on=None)
    save_scores(unknown, tmp_path / "s.npz")
    assert load_scores(tmp_path / "s.npz").trained_on is None
    assert unknown.seen_in_training is None
    with np.load(tmp_path / "s.npz") as held:  # plain numpy reads it, without this program
        assert held["format"] == FORMAT
        assert np.array_equal(held["probabilities"], OURS.probabilities)


def test_what_is_no_score_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(CorruptError, match="not a score file"):
        load_scores(tmp_path / "bad.npz")
    with pytest.raises(ArtifactError, match="does not exist"):
        load_scores(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", format="star-pictures/1", pictures=np.zeros(3))
    with pytest.raises(CorruptError, match=r"not a score file .got no clip_ids"):
        load_scores(tmp_path / "other.npz")


def test_no_byte_of_a_score_file_may_change(tmp_path: Path) -> None:
    save_scores(OURS, tmp_path / "s.npz")
    data = (tmp_path / "s.npz").read_bytes()
    assert load_scores(tmp_path / "s.npz").top1 == OURS.top1
    kept = []
    for place in range(0, len(data), 3):  # of every member, header and list
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        (tmp_path / "s.npz").write_bytes(changed)
        try:
            load_scores(tmp_path / "s.npz")
        except StarError:
            continue
        kept.append(place)
    assert kept == []
    for other in (data[:-1], data + b"x", b"x" + data, data[:-64], data[: len(data) // 2]):
        (tmp_path / "s.npz").write_bytes(other)
        with pytest.raises(CorruptError):
            load_scores(tmp_path / "s.npz")


def test_zips_own_checksums_do_not_see_what_the_seal_does(tmp_path: Path) -> None:
    """The date of a member, say; else the checksum of the whole file would not be needed."""
    save_scores(OURS, tmp_path / "s.npz")
    data = bytearray((tmp_path / "s.npz").read_bytes())
    data[data.index(b"PK\x01\x02") + 12] ^= 1
    (tmp_path / "s.npz").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "s.npz") as archive:
        assert archive.testzip() is None
    with pytest.raises(CorruptError, match="does not match its own checksum"):
        load_scores(tmp_path / "s.npz")


@pytest.mark.parametrize("version", [None, "star-scores/2"])
@pytest.mark.parametrize("sealed", [True, False])
def test_another_version_is_refused_by_name(tmp_path: Path, version: str | None, sealed: bool) -> None:
    save_scores(OURS, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as held:
        arrays = {name: held[name] for name in held.files if name != "format"}
    if version is None:  # as written before files had versions
        del arrays["subjects"], arrays["performances"], arrays["trained_on"]
    else:
        arrays["format"] = np.asarray(version)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (tmp_path / "s.npz").write_bytes(sealed_archive(buffer.getvalue()) if sealed else buffer.getvalue())
    expected = rf"another version of this program .got format {version or 'none'}, expected {FORMAT}.; write it again"
    with pytest.raises(ArtifactError, match=expected):
        load_scores(tmp_path / "s.npz")


def test_fusion_is_the_weighted_mean_of_the_same_clips() -> None:
    a, b = scores([[1, 0], [1, 0], [0, 1], [0, 1]]), scores([[0, 1], [0, 1], [0, 1], [0, 1]])
    assert fuse([a, b], [3, 1]).probabilities.tolist() == [[0.75, 0.25], [0.75, 0.25], [0, 1], [0, 1]]
    assert fuse([a, b]).probabilities[0].tolist() == [0.5, 0.5]
    with pytest.raises(ConfigError, match="different clips"):
        fuse([a, scores([[0, 1]] * 4, ids="abce")])
    with pytest.raises(ConfigError, match="different classes"):
        fuse([a, scores([[0, 1]] * 4, classes="xz")])
    for name in ("subjects", "performances"):
        with pytest.raises(ConfigError, match=f"other {name} of the same clips"):
            fuse([a, replace(a, **{name: np.zeros(4, np.int64)})])
    with pytest.raises(ConfigError, match="a weight"):
        fuse([a, b], [1])
    with pytest.raises(ConfigError, match="at least one"):
        fuse([])


def test_fused_scores_remember_all_that_was_trained_on() -> None:
    a, b = (scores([[1, 0]] * 4, trained_on=ids) for ids in ("pqb", "pda"))
    fused = fuse([a, b])
    assert fused.trained_on is not None
    assert fused.trained_on.tolist() == ["a", "b", "d", "p", "q"]
    assert (a.seen_in_training, b.seen_in_training, fused.seen_in_training) == (1, 2, 3)
    assert fuse([a, replace(b, trained_on=None)]).seen_in_training is None


def test_scores_tell_both_intervals() -> None:
    summary = OURS.summary()
    assert (summary["over"], summary["clusters"]) == ("subjects", 2)
    assert summary["interval95"] == list(OURS.interval)
    assert summary["cluster_interval95"] == list(OURS.cluster_interval)
    assert OURS.cluster_interval == cluster_interval(OURS.right, OURS.clusters)
    assert OURS.clusters.of_clip.tolist() == [0, 0, 1, 1]
    assert OURS.cluster_interval[0] < OURS.interval[0] < OURS.interval[1] < OURS.cluster_interval[1]
    one_subject = replace(OURS, subjects=np.ones(4, np.int64), performances=np.arange(4)).summary()
    assert one_subject["over"] == "clips"
    assert one_subject["cluster_interval95"] == one_subject["interval95"]
