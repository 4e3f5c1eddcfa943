"""All 114,480 clip names of NTU RGB+D 120, made up where they are unknown.

Known: 60 actions in setups 1 to 17 and 60 others in 18 to 32, three cameras each; the names on the lists of missing
skeletons; the published sizes of the splits. Which performers are in which setup, beyond those lists, is made up so
that the sizes match: 636 takes, a take being one (setup, performer, replication), of 60 actions before 3 cameras.
"""

from __future__ import annotations

from pipeline.manifest import missing

Take = tuple[int, int, int]
CLIPS_OF_A_TAKE = 180
TRAIN_60 = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
TRAIN_120 = TRAIN_60 | {45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89}
TRAIN_120 |= {91, 92, 93, 94, 95, 97, 98, 100, 103}


def ntu_names() -> list[str]:
    """114,480 names, sorted; the first 56,880 (setups 1 to 17) are those of NTU RGB+D 60."""
    first = _takes(range(1, 18), range(1, 41), TRAIN_60, total=56880, train=40320, even=26640)
    second = _takes(range(18, 33), range(1, 107), TRAIN_120, total=57600, train=63360 - 40320, even=54720 - 26640)
    return sorted(
        f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{action:03}"
        for setup, subject, replication in [*first, *second]
        for camera in (1, 2, 3)
        for action in (range(1, 61) if setup <= 17 else range(61, 121))
    )


def _takes(setups: range, subjects: range, trainers: set[int], *, total: int, train: int, even: int) -> list[Take]:
    """The takes of the missing list and as many others as bring the counts of clips to those given."""
    listed = {(int(name[1:4]), int(name[9:12]), int(name[13:16])) for name in missing("ntu120")}
    chosen = sorted(take for take in listed if take[0] in setups)
    wanted = {"train": train, "test": total - train, "even": even, "odd": total - even}
    lacking = {side: clips // CLIPS_OF_A_TAKE for side, clips in wanted.items()}
    for take in chosen:
        for side in _sides(take, trainers):
            lacking[side] -= 1
    for take in ((s, p, r) for r in (1, 2) for p in subjects for s in setups):
        sides = _sides(take, trainers)
        if take not in listed and all(lacking[side] > 0 for side in sides):
            chosen.append(take)
            for side in sides:
                lacking[side] -= 1
    assert not any(lacking.values()), lacking
    return chosen


def _sides(take: Take, trainers: set[int]) -> tuple[str, str]:
    return ("train" if take[1] in trainers else "test"), ("odd" if take[0] % 2 else "even")
