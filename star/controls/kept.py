"""Results of controls, in memory and in a folder, so that they are computed once.

In: controls, and what they were computed from. Out: OUT/controls.json, sealed, and a score file for each control and
side (`star.evaluate.scores`). Results of other inputs, or damaged ones, count as none: they are computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import read_file
from pipeline.artifacts.files import make_folder, unwritable, write_atomic
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.errors import ArtifactError
from star.evaluate.scores import Scores, load_scores, save_scores
from star.runs.store_identity import clips_digest

FORMAT, RECORD, FOLDER = "star-controls/1", "controls.json", "controls"  # the folder: where others lie beside it
ROW = {"method": str, "sees": str, "part": str, "chosen": str, "sides": [("validation", "test")]}
SCHEMA = {"format": str, "inputs": dict, "controls": [ROW]}


@dataclass(frozen=True, kw_only=True)
class Control:
    """What one simpler method reaches.

    Attributes:
        method, sees: for instance "ridge", "all JM tokens"; `sees` is "" where it looks at no clip.
        validation: of held-out training clips, or of the validation side. test: None where it was not asked for.
        chosen: how its settings were found, and which they are.
        part: "", or how many of the training clips fitted into the memory.
    """

    method: str
    sees: str
    validation: Scores
    test: Scores | None
    chosen: str
    part: str = ""

    @property
    def name(self) -> str:
        """For instance "ridge on all JM tokens"."""
        return name_of(self.method, self.sees) + (f" ({self.part})" if self.part else "")


def name_of(method: str, sees: str) -> str:
    return f"{method} on {sees}" if sees else method


def save_controls(out: Path, inputs: Mapping[str, Any], controls: Sequence[Control]) -> None:
    """Write the score files, then the record that names them; it is away while they change."""
    make_folder(out)
    try:
        (out / RECORD).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(out / RECORD, error) from error
    rows = []
    for number, control in enumerate(controls):
        sides = {"validation": control.validation, "test": control.test}
        held = {side: scores for side, scores in sides.items() if scores is not None}
        for side, scores in held.items():
            save_scores(scores, _file(out, number, side))
        rows.append({**{name: getattr(control, name) for name in ROW if name != "sides"}, "sides": list(held)})
    write_atomic(out / RECORD, seal({"format": FORMAT, "inputs": dict(inputs), "controls": rows}), root=out)


def kept_controls(out: Path, inputs: Mapping[str, Any]) -> list[Control]:
    """The controls in a folder, if they were computed from these inputs and are whole; else none."""
    try:
        record = unseal(read_file(out / RECORD, root=out), out / RECORD, SCHEMA)
        if record["format"] != FORMAT or record["inputs"] != inputs:
            return []
        return [_read(out, number, row, inputs) for number, row in enumerate(record["controls"])]
    except (ArtifactError, OSError):  # none, or damaged
        return []


def _read(out: Path, number: int, row: Mapping[str, Any], inputs: Mapping[str, Any]) -> Control:
    if row["sides"] not in (["validation"], ["validation", "test"]):
        raise ArtifactError(out / RECORD, "names other sides than there are")
    held = {side: load_scores(_file(out, number, side)) for side in row["sides"]}
    for side, scores in held.items():
        if clips_digest(scores.clip_ids, scores.labels) != inputs[side]["labels"]:
            raise ArtifactError(_file(out, number, side), "holds the scores of other clips")
    texts = {name: text for name, text in row.items() if name != "sides"}
    return Control(**texts, validation=held["validation"], test=held.get("test"))


def _file(out: Path, number: int, side: str) -> Path:
    return out / f"{number:02d}-{side}.npz"
