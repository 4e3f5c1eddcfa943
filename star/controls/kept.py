"""Results of controls, in memory and in a folder, so that a study computes them once.

In: controls, and what they were computed from. Out: OUT/controls.json, sealed, and a score file for each control and
side (`star.evaluate.scores`). Results of other inputs, or damaged ones, count as none: they are computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import read_file
from pipeline.artifacts.files import make_folder, write_atomic
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.errors import ArtifactError
from star.evaluate.scores import Scores, load_scores, save_scores
from star.runs.store_identity import clips_digest

FORMAT, RECORD = "star-controls/1", "controls.json"
SCHEMA = {"format": str, "inputs": dict, "controls": [{"name": str, "chosen": str, "sides": [("validation", "test")]}]}


@dataclass(frozen=True, kw_only=True)
class Control:
    """What one simpler method reaches.

    Attributes:
        name: for what it sees, for instance "ridge on all JM tokens".
        validation: of held-out training clips, or of the validation side. test: None where it was not asked for.
        chosen: how its settings were found, and which they are.
    """

    name: str
    validation: Scores
    test: Scores | None
    chosen: str


def save_controls(out: Path, inputs: Mapping[str, Any], controls: Sequence[Control]) -> None:
    """Write the score files, then the record that names them."""
    make_folder(out)
    rows = []
    for number, control in enumerate(controls):
        sides = {"validation": control.validation, "test": control.test}
        held = {side: scores for side, scores in sides.items() if scores is not None}
        for side, scores in held.items():
            save_scores(scores, _file(out, number, side))
        rows.append({"name": control.name, "chosen": control.chosen, "sides": list(held)})
    write_atomic(out / RECORD, seal({"format": FORMAT, "inputs": dict(inputs), "controls": rows}), root=out)


def kept_controls(out: Path, inputs: Mapping[str, Any]) -> list[Control] | None:
    """The controls in a folder, if they were computed from these inputs and are whole; else None."""
    try:
        record = unseal(read_file(out / RECORD, root=out), out / RECORD, SCHEMA)
        if record["format"] != FORMAT or record["inputs"] != inputs:
            return None
        return [_read(out, number, row, inputs) for number, row in enumerate(record["controls"])]
    except (ArtifactError, OSError):  # none, or damaged
        return None


def _read(out: Path, number: int, row: Mapping[str, Any], inputs: Mapping[str, Any]) -> Control:
    wanted = [side for side in ("validation", "test") if inputs[side] is not None]
    if row["sides"] != wanted:
        raise ArtifactError(out / RECORD, "names other sides than it was computed from")
    held = {side: load_scores(_file(out, number, side)) for side in wanted}
    for side, scores in held.items():
        if clips_digest(scores.clip_ids, scores.labels) != inputs[side]["labels"]:
            raise ArtifactError(_file(out, number, side), "holds the scores of other clips")
    return Control(name=row["name"], validation=held["validation"], test=held.get("test"), chosen=row["chosen"])


def _file(out: Path, number: int, side: str) -> Path:
    return out / f"{number:02d}-{side}.npz"
