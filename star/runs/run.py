"""The folder of a training run: RUN/config.json, metrics.jsonl, checkpoint-*.pt, at the end val.npz and test.npz.

In: a folder. Out: the run's config, metrics and model. Trains nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.artifacts.boundary import read_file
from pipeline.artifacts.files import write_atomic
from pipeline.artifacts.fingerprint import differences
from pipeline.artifacts.kinds import MARKERS
from pipeline.artifacts.schema import check, names, parse_json
from pipeline.errors import ArtifactError, ConfigError, CorruptError
from star.build import seeded_model, state_bytes
from star.config.text import TrainConfig, from_dict, to_dict
from star.model import TokenModel
from star.runs.checkpoint import FORMAT, STORE, Checkpoint, checkpoints, load_checkpoint
from star.runs.metrics_log import read_metrics
from star.runs.store_identity import require_same_content, require_same_store

CONFIG = MARKERS["run"]
REMEDY = "restore it from a copy, or train into another folder"
ITS_OWN_OR_NEW = "give the store it was trained on, or another `out`"


def score_file(split: str) -> str:
    """The file in a run's folder with the finished model's scores of a split, "val" or "test"."""
    return f"{split}.npz"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished or unfinished training run.

    Attributes:
        path: its folder. config: its settings.
        store: its store, views and clips (`star.runs.store_identity.run_inputs`).
        class_names: by label.
    """

    path: Path
    config: TrainConfig
    store: dict[str, Any]
    class_names: tuple[str, ...]

    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint.

        Raises:
            ArtifactError: there is none yet. CorruptError: it cannot be read.
        """
        found = load_checkpoint(self.path)
        if found is None:
            raise ArtifactError(self.path, "has no checkpoint yet", remedy="run the same `star train` again")
        return found

    @property
    def reports(self) -> str | None:
        """The split of the figures that stand for the run: "test"; "val" where the run is not to be scored on test;
        None where it has no validation side either."""
        if self.config.score_test:
            return "test"
        return "val" if "val" in self.store["clips"] else None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; an incomplete last line (the writer was killed) is left out."""
        return read_metrics(self.path)

    def model(self) -> TokenModel:
        """The newest checkpoint's model in evaluation mode, with averaged weights if the run keeps them."""
        return restored_model(self.checkpoint())


def restored_model(checkpoint: Checkpoint) -> TokenModel:
    """A checkpoint's model in evaluation mode."""
    config = from_dict({"model": checkpoint.model_config}).model
    own = {value.untyped_storage().data_ptr(): value.nbytes for value in checkpoint.model.values()}
    held = sum(own.values())  # tensors that share their memory count once
    if state_bytes(config) != held:  # before it is built: a few bytes of settings could claim all memory
        raise _of_another_model(f"settings of {state_bytes(config):.3g} bytes of weights", f"{held:.3g} bytes")
    model = seeded_model(config, seed=checkpoint.seed)
    load_weights(model, {**checkpoint.model, **checkpoint.average})
    return model.eval()


def load_weights(model: TokenModel, weights: dict[str, Tensor]) -> None:
    """Give a model its weights. Raises CorruptError where they are another model's, or not finite."""
    for name, value in model.state_dict().items():
        if name in weights and weights[name].dtype != value.dtype:
            raise _of_another_model(f"{name} of {weights[name].dtype}", str(value.dtype))
        if name in weights and not weights[name].isfinite().all():
            raise CorruptError("the checkpoint", "holds weights that are not finite", got=name, remedy=REMEDY)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise _of_another_model(str(error).splitlines()[-1].strip()[:200], "the weights of its settings") from None


def _of_another_model(got: str, expected: str) -> CorruptError:
    return CorruptError(
        "the checkpoint", "holds another model than its settings say", got=got, expected=expected, remedy=REMEDY
    )


def open_run(path: Path | str) -> Run:
    """The run in a folder.

    Raises:
        ArtifactError: it holds no run, or one of another format. CorruptError: its config.json is damaged.
    """
    path = Path(path)
    try:
        about = parse_json(read_file(path / CONFIG, root=path), path / CONFIG)
        check(about, {"format": str}, path / CONFIG)
        found = about["format"]
    except CorruptError as error:
        raise CorruptError(
            path / CONFIG,
            f"is damaged: it {error.problem}",
            remedy="restore it from a copy (each checkpoint holds the same settings), or train into another folder",
        ) from error
    except OSError:
        raise ArtifactError(
            path,
            "is not a training run" if path.exists() else "does not exist",
            expected=f"a folder with {CONFIG}, made by `star train --out`",
        ) from None
    if found != FORMAT:
        raise ArtifactError(
            path,
            "is a run of another version of this program",
            got=found,
            expected=FORMAT,
            remedy="train it again into another folder",
        )
    check(about, {"config": dict, "store": STORE, "class_names": names}, path / CONFIG)
    return Run(
        path=path,
        config=from_dict(about["config"]),
        store=about["store"],
        class_names=tuple(about["class_names"]),
    )


def run_there(path: Path) -> Run | None:
    """The run in a folder, or None."""
    return open_run(path) if (path / CONFIG).exists() else None


def require_place(path: Path) -> None:
    """Raise ArtifactError for a folder that holds something other than a run."""
    if run_there(path) is None and path.is_dir() and any(not name.startswith(".") for name in os.listdir(path)):
        raise ArtifactError(path, "is not empty and is not a training run", remedy="choose another `out`")


def has_begun(path: Path) -> bool:
    """Whether the run in a folder has made a step."""
    return bool(checkpoints(path) or read_metrics(path))


def start_run(run: Run) -> None:
    """Write config.json, or check that the existing one has the same settings and clips.

    The store's URL may change: the file is then updated. A run without a step (refused for its memory, say) takes any
    settings.

    Raises:
        ConfigError: the existing run has other settings (they are named). ArtifactError: it has another store, or the
            file cannot be written.
    """
    require_place(run.path)
    before = run_there(run.path)
    if before is not None and has_begun(run.path):
        lines = differences(to_dict(before.config), to_dict(run.config))
        if lines:
            raise ConfigError(
                run.path,
                "was started with other settings: " + "; ".join(lines),
                remedy="use the same settings again, or another `out`",
            )
        require_same_store(run.path, before.store, run.store, remedy=ITS_OWN_OR_NEW)
        require_same_content(run.path, before.store, run.store, remedy=ITS_OWN_OR_NEW)
        if before.store["url"] == run.store["url"]:
            return
    about = {
        "format": FORMAT,
        "config": to_dict(run.config),
        "store": run.store,
        "class_names": list(run.class_names),
    }
    write_atomic(run.path / CONFIG, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
