"""The controls beside the variants of a study: computed once in OUT/controls, for all studies of the same clips there.

In: a store, the config of a study, OUT. Out: the controls that its table shows; OUT/controls/controls.md and .csv with
all of them. The test side is read for those that are shown, after all choices, and only if a variant is shown on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artifacts.files import write_atomic
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig
from star.controls.inputs import Pictures
from star.controls.kept import FOLDER, Control
from star.controls.run import Progress, controls
from star.controls.shown import handful
from star.distributed.world import World
from star.study.table import markdown, rows_csv, table_of, with_test


def with_tokens_of(config: TrainConfig, variants: Iterable[TrainConfig]) -> TrainConfig:
    """The config, on the kinds of tokens that the variants read together."""
    kinds = {kind for each in variants for kind in each.model.kinds} or set(config.model.kinds)
    tokens = "both" if len(kinds) > 1 else next(iter(kinds), config.model.tokens)
    return replace(config, model=replace(config.model, tokens=tokens))


def study_controls(
    store: TokenStore,
    out: Path,
    config: TrainConfig,
    *,
    test: bool,
    frames: Pictures | None,
    progress: Progress | None,
    world: World,
) -> list[Control]:
    """The handful that a table shows, of a config with a validation side; with `test` scored on the test side as well.

    The first process computes them, and the others read what it has kept. Raises as `star.controls.run.controls`.
    """
    shared: dict[str, Any] = {"out": out / FOLDER, "frames": frames}

    def both() -> tuple[list[Control], list[Control]]:
        found = controls(store, config, test=False, progress=progress, **shared)
        shown = handful(found, config.model.tokens)
        if not test:
            return found, shown
        names = {(each.method, each.sees): place for place, each in enumerate(shown)}
        tested = controls(store, config, test=True, only=lambda *each: each in names, progress=progress, **shared)
        return found, sorted(tested, key=lambda each: names[each.method, each.sees])

    with world.agreed():
        if world.leads:
            found, shown = both()
            _write(out, found, shown)
    return shown if world.leads else both()[1]


def _write(out: Path, found: Sequence[Control], shown: Sequence[Control]) -> None:
    """OUT/controls/controls.md, with how each was chosen, and controls.csv."""
    table = table_of("control", {}, [], {each.name: [each.validation] for each in found})
    table = with_test(table, {each.name: [each.test] for each in shown if each.test is not None}, looks=0)
    how = "".join(f"- {each.name}: {each.chosen}\n" for each in found)
    write_atomic(out / FOLDER / "controls.md", f"{markdown(table)}\n{how}".encode())
    write_atomic(out / FOLDER / "controls.csv", rows_csv(table).encode())
