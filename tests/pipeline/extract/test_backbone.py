"""Stage 2 with the real backbone, on every available device: in other batches, and stopped in the middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extract_corpus import JOINTS, OPTIONS, content, tree
from extract_corpus import write_prepared as write

from pipeline import torch_device
from pipeline.errors import ConfigError
from pipeline.extract import compute
from pipeline.extract.coordinator import extract
from pipeline.prepare.hdf5 import decode_picture
from pipeline.store.token_store import TokenStore

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("precision", "deterministic", "tolerance"), [("fp32", False, 1e-3), ("fp32", True, 0), ("bf16", False, 4e-2)]
)
def test_the_real_backbone_in_other_batches(
    tmp_path: Path, precision: str, deterministic: bool, tolerance: float, device: str
) -> None:
    """mc3_18 on three clips, alone and together: bit-equal where that is asked for, else within one float16 step of
    the value and `tolerance` of the tokens' spread; and live tokens are those read back."""
    folder = write(tmp_path / "prepared", 3, shard_clips=3 - deterministic)
    options = replace(OPTIONS, precision=precision, deterministic=deterministic, device=device)
    if precision == "bf16" and not torch_device._bfloat16(torch.device(device))[1]:
        with pytest.raises(ConfigError, match="no bfloat16"):
            extract(folder.path, tmp_path / "one", options)
        assert not (tmp_path / "one").exists()
        return
    for name, batch_clips in (("one", 1), ("all", 3)):
        extract(folder.path, tmp_path / name, replace(options, batch_clips=batch_clips))
    one, other = (TokenStore.open(tmp_path / name).read(range(3)) for name in ("one", "all"))
    assert (one.jm[~one.joint_mask] == 0).all()
    assert one.joint_mask.shape == (3, 16, JOINTS)
    if deterministic:
        (tmp_path / "one/commits/000/00000.json").unlink()
        (tmp_path / "one/jm/c/0/0/0/0/0").unlink()
        extract(folder.path, tmp_path / "one", replace(options, batch_clips=2))  # goes on, with other companions
        workers = 2 if device == "cpu" else min(2, torch.cuda.device_count())
        extract(folder.path, tmp_path / "two", options, workers=workers)
        assert tree(tmp_path / "one") == tree(tmp_path / "all") == tree(tmp_path / "two")
    for a, b in ((one.gg, other.gg), (one.jm, other.jm)):
        exact = a.astype(np.float64)
        assert np.isfinite(exact).all()
        assert exact.std() > 0.05
        assert (np.abs(exact - b) <= 2**-10 * np.abs(exact) + tolerance * exact.std()).all()
    clip = content(0, 1)
    frames = np.stack([decode_picture(picture) for picture in clip.frames[0]])[None, :, 4:36, 4:36]
    live = compute.computer_for(options)(np.ascontiguousarray(frames), clip.joints[:1] - 4, clip.scores[:1] > 0)
    assert np.array_equal(live.gg[0], one.gg[0])
    assert np.array_equal(live.jm[0], one.jm[0])


class Stopped(Exception):
    """Ctrl-C, say."""


@pytest.mark.parametrize("device", DEVICES)
def test_a_stopped_extraction_goes_on_to_the_same_content(device: str, tmp_path: Path) -> None:
    """The default mode, where the batch and the threads may change the last digits."""
    folder, options = write(tmp_path / "prepared", 6, shard_clips=3), replace(OPTIONS, device=device, batch_clips=2)
    told: list[str] = []

    def stopping(event: dict[str, Any]) -> None:
        told.append(event.get("clip", ""))
        if told[-1] == "0005/0":  # the last one, before its shard is put
            raise Stopped

    with pytest.raises(Stopped):
        extract(folder.path, tmp_path / "s", options, progress=stopping)
    assert TokenStore.open(tmp_path / "s").account().done == 3
    assert extract(folder.path, tmp_path / "s", options).done == 6
    extract(folder.path, tmp_path / "undisturbed", options)
    assert tree(tmp_path / "s") == tree(tmp_path / "undisturbed")
    digests = {TokenStore.open(tmp_path / name).content_digest() for name in ("s", "undisturbed")}
    assert len(digests) == 1
