"""`star inspect`: what an artifact is, how complete it is, what failed and why."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import CLIPS_FAILED, Debug, Json, with_options
from pipeline.artifacts.kinds import artifact_type
from pipeline.artifacts.outcomes import LARGE_SHARE

if TYPE_CHECKING:
    from pipeline.artifacts.outcomes import Account

MAX_REASONS = 12
MANY_OUTSIDE = 0.05  # of a clip's joints: perhaps its poses are of another picture


def inspect(
    path: Annotated[str, typer.Argument(help="A prepared folder, a token store or a run.", show_default=False)],
    other: Annotated[
        str | None, typer.Argument(help="A second token store to compare with the first.", show_default=False)
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What an artifact is, how complete it is, what failed and why; or how two token stores differ."""
    if other is not None:
        from pipeline.store.compare import compare
        from pipeline.store.token_store import TokenStore

        facts = compare(TokenStore.open(path), TokenStore.open(other))
    else:
        facts = {"prepared": _prepared, "store": _store, "run": _run}[artifact_type(path)](path)
    print(json.dumps(facts, indent=1) if as_json else "\n".join(_lines(facts)))


def account_lines(account: Account) -> list[str]:
    """Counts of all outcomes, then the reasons, most frequent first."""
    counts = f"{account.done} done, {account.excluded} excluded, {account.failed} failed"
    counts += f", {account.missing} missing" if account.missing else ""
    lines = [counts + (f", {account.pending} pending" if account.pending else "") + f", of {account.total}"]
    shown = account.reasons[:MAX_REASONS]
    lines += [f"  {outcome} {count}x: {with_options(reason)}" for outcome, reason, count in shown]
    more = len(account.reasons) - MAX_REASONS
    return lines + ([f"  and {more} more reasons: see --json or the commit records"] if more > 0 else [])


def print_account(path: str, account: Account, *, max_failures: int, allow_missing: bool) -> None:
    """Print the outcomes of a stage; exit with 3 where more clips failed than may, or some are missing that may not."""
    print("\n".join([path, *account_lines(account)]))
    if account.missing > LARGE_SHARE * account.total:
        told = f"caution: {account.missing} of {account.total} clips lack a file; is an archive not unpacked?"
        print(f"star: {path}: {told}", file=sys.stderr)
    if account.failed > max_failures or (account.missing and not allow_missing):
        raise typer.Exit(CLIPS_FAILED)


def _account(account: Account) -> dict[str, Any]:
    reasons = [{"outcome": o, "reason": r, "clips": n} for o, r, n in account.reasons]
    return {
        "clips": account.total,
        "done": account.done,
        "excluded": account.excluded,
        "failed": account.failed,
        "missing": account.missing,
        "pending": account.pending,
        "reasons": reasons,
    }


def _prepared(path: str) -> dict[str, Any]:
    from pipeline.prepare.folder import PreparedFolder

    folder = PreparedFolder.open(path)
    entries = folder.outcomes()
    return {
        "artifact": "prepared clips",
        "path": path,
        "dataset": folder.listing.dataset,
        "classes": len(folder.listing.class_names),
        "topology": folder.listing.topology,
        "protocols": list(folder.listing.protocols),
        **_account(folder.account(entries)),
        "shards": folder.shards,
        "bytes": sum(p.stat().st_size for p in folder.path.glob("clips-*.h5")),
        "poses": _poses([entry for entry in entries if "poses" in entry]),
        "options": folder.options.content(),
        "fingerprint": folder.fingerprint,
        "content_digest": folder.content_digest(entries),
        **_named(entries),
    }


def _named(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """The clips that failed, and those that lack a file, with their reasons."""
    return {
        f"{outcome}_clips": [{"id": e["id"], "reason": e["reason"]} for e in entries if e["outcome"] == outcome]
        for outcome in ("failed", "missing")
    }


def _poses(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """How the poses of the clips were read, in numbers of clips."""
    poses = [(entry["poses"], entry["raw"]["video"]["frames"], entry["raw"]["pose"]["frames"]) for entry in entries]
    return {
        "units": dict(Counter(pose["units"] for pose, _, _ in poses)),
        "first_frame_number": dict(Counter(str(pose["first_frame"]) for pose, _, _ in poses)),
        "reader": dict(Counter(entry["reader"] for entry in entries if "reader" in entry)),
        "clips_with_other_numbers_of_pose_and_video_frames": sum(ours != theirs for _, ours, theirs in poses),
        "clips_without_a_pose_in_their_first_frames": sum((pose["first_pose"] or 0) > 0 for pose, _, _ in poses),
        "clips_without_a_pose_in_their_last_frames": sum(
            pose["last_pose"] is not None and pose["last_pose"] < ours - 1 for pose, ours, _ in poses
        ),
        "frames_without_a_pose": sum(pose["frames_without_pose"] for pose, _, _ in poses),
        "frames": sum(ours for _, ours, _ in poses),
        "clips_with_joints_outside_the_picture": sum(pose["outside"] > MANY_OUTSIDE for pose, _, _ in poses),
        "clips_with_bodies_left_out": sum(pose["bodies_left_out"] > 0 for pose, _, _ in poses),
        "bodies_left_out": sum(pose["bodies_left_out"] for pose, _, _ in poses),
    }


def _store(path: str) -> dict[str, Any]:
    from pipeline.store.statistics import token_statistics
    from pipeline.store.token_store import TokenStore

    store = TokenStore.open(path)
    survey = store.survey()
    done = sum(account.done for account in survey.views)
    return {
        "artifact": "token store",
        "path": path,
        "dataset": store.attrs["dataset"],
        "classes": len(store.attrs["class_names"]),
        "topology": store.attrs["topology"],
        "protocols": store.attrs["protocols"],
        **_account(survey.account),
        "views": [f"{account.done} of {account.total} done" for account in survey.views],
        "gg": list(store.gg.shape),
        "jm": list(store.jm.shape),
        "codec": store.attrs["codec"],
        "dtype": store.attrs["dtype"],
        "bytes": survey.nbytes,
        "bytes_per_clip": survey.nbytes // done if done else None,
        "tokens": token_statistics(store),
        "made_from": store.attrs.get("made_from"),
        "weights": store.attrs.get("weights"),
        "prepared_with": store.attrs.get("prepared_with"),
        "versions": store.attrs.get("versions"),
        "fingerprint": store.attrs["fingerprint"],
        "content_digest": survey.content_digest,
        **_named(survey.outcomes),
    }


def _run(path: str) -> dict[str, Any]:
    from star.config.text import to_dict
    from star.runs.run import open_run

    run = open_run(path)
    metrics = run.metrics()
    losses = [m for m in metrics if "loss" in m and "split" not in m]
    scored = {m["split"]: m for m in metrics if "top1" in m}  # the last of each split
    return {
        "artifact": "training run",
        "path": path,
        "dataset": run.store["dataset"],
        "protocol": run.store["protocol"],
        "store": run.store["url"],
        "store_fingerprint": run.store["fingerprint"],
        "store_content_digest": run.store.get("content_digest"),
        "steps": losses[-1]["step"] if losses else 0,
        "loss": losses[-1]["loss"] if losses else None,
        "evaluations": sum("top1" in m for m in metrics),
        "validation_top1": scored["val"]["top1"] if "val" in scored else None,
        "top1": scored["test"]["top1"] if "test" in scored else None,
        "config": to_dict(run.config),
    }


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Facts as text: nested ones indented, reasons as sentences, long lists cut."""
    lines = []
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' ')}"
        if name in ("reasons", "failed_clips", "missing_clips"):
            lines += _sentences(label, value)
        elif isinstance(value, dict):
            lines += [f"{label}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            shown = ", ".join(map(str, value[:20])) if value else "none"
            lines.append(f"{label}: {shown}{', …' if len(value) > 20 else ''}")
        elif value is not None:
            lines.append(f"{label}: {value}")
    return lines


def _sentences(label: str, items: list[dict[str, Any]]) -> list[str]:
    if not items:
        return []
    lines = [f"{label}:"]
    for item in items[:MAX_REASONS]:
        lead = item["id"] if "id" in item else f"{item['outcome']} {item['clips']}x"
        lines.append(f"  {lead}: {with_options(item['reason'])}")
    return lines + ([f"  and {len(items) - MAX_REASONS} more; see --json"] if len(items) > MAX_REASONS else [])
