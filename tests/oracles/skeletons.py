"""Made-up `.skeleton` files and what is in them, kept as plain dictionaries: the truth that readers are held to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

JOINTS = 25
FIELDS = 12


@dataclass
class MadeSkeleton:
    """Lines of a file, and by (body ID, frame, joint) the texts of its twelve fields."""

    num_frames: int
    lines: list[str] = field(default_factory=list)
    joints: dict[tuple[int, int, int], list[str]] = field(default_factory=dict)
    body_ids: set[int] = field(default_factory=set)

    def data(self, *, newline: str = "\n", end: str = "\n") -> bytes:
        return (newline.join(self.lines) + end.replace("\n", newline)).encode()


def make_skeleton(rng: np.random.Generator, *, most_frames: int = 5) -> MadeSkeleton:
    """A file of 0 to 6 bodies that come, go and change places in the frame, with odd numbers among the joints.

    IDs are neighbours above 2^53, which collide as floats. Head and tail may be empty.
    """
    made = MadeSkeleton(int(rng.integers(0, most_frames + 1)))
    first_id = int(rng.integers(1 << 55, (1 << 63) - 8))
    bodies = [first_id + k for k in range(int(rng.integers(0, 7)))]
    presence = rng.random((made.num_frames, len(bodies))) < rng.choice([0.3, 0.8, 1.0])
    head, tail = rng.integers(0, 3, size=2) * (rng.random(2) < 0.3)
    presence[:head] = False
    presence[made.num_frames - tail :] = False
    odd = rng.choice([0.0, 0.0, 0.02, 0.3])
    made.lines.append(str(made.num_frames))
    for frame in range(made.num_frames):
        there = rng.permutation(np.flatnonzero(presence[frame]))
        made.lines.append(str(len(there)))
        for slot in there:
            _add_body(made, rng, bodies[slot], frame, odd=odd)
    return made


def _add_body(made: MadeSkeleton, rng: np.random.Generator, body: int, frame: int, *, odd: float) -> None:
    made.body_ids.add(body)
    made.lines.append(f"{body} 0 1 1 1 1 0 0.0276 -0.0574 2")
    made.lines.append(str(JOINTS))
    values = rng.normal(0, 1, size=(JOINTS, FIELDS)) * 10.0 ** rng.integers(-3, 4, size=(JOINTS, FIELDS))
    digits = rng.integers(5, 9, size=(JOINTS, FIELDS))
    odds = rng.random((JOINTS, FIELDS)) < odd
    states = rng.integers(0, 3, size=JOINTS)
    for joint in range(JOINTS):
        texts = [f"{value:.{digit}g}" for value, digit in zip(values[joint], digits[joint], strict=True)]
        texts[-1] = str(states[joint])
        for column in np.flatnonzero(odds[joint, :-1]):
            texts[column] = odd_number(rng)
        made.joints[body, frame, joint] = texts
        made.lines.append(" ".join(texts))


def odd_number(rng: np.random.Generator) -> str:
    """A text that is a number, but not of the usual seven digits."""
    usual = [
        "NaN",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "Infinity",
        "0",
        "-0",
        "5.",
        ".5",
        "+7.25",
        "1e-7",
        "-3.2E-05",
        "1e300",
    ]
    long = [
        "-1.#INF"[:2] + "2345678",
        "0.123456789012",
        "123456789.5",
        "12345678",
        "0.00001234567",
        "-0.0271508",
        "1e400",
    ]
    choices = usual + long + ["999999.9", "00.5", "12345678.12345678", "0.12345678", "-10.123456", "9007199254740993"]
    return str(rng.choice(choices))


def expected_arrays(made: MadeSkeleton) -> dict[str, np.ndarray]:
    """The arrays of the Skeleton a file holds, filled joint by joint."""
    ids = sorted(made.body_ids)
    shape = (len(ids), made.num_frames, JOINTS)
    arrays = {
        "joints": np.full((*shape, 2), np.nan, np.float32),
        "xyz": np.full((*shape, 3), np.nan, np.float32),
        "scores": np.zeros(shape, np.float32),
        "present": np.zeros(shape[:2], bool),
        "body_ids": np.array(ids, dtype=np.int64),
    }
    for (body, frame, joint), texts in made.joints.items():
        slot = ids.index(body)
        arrays["present"][slot, frame] = True
        with np.errstate(over="ignore"):
            xyz = np.array([float(text) for text in texts[:3]]).astype(np.float32)
            colour = np.array([float(text) for text in texts[5:7]]).astype(np.float32)
        if np.isfinite(xyz).all():
            arrays["xyz"][slot, frame, joint] = xyz
        if np.isfinite(colour).all() and texts[-1] != "0":
            arrays["joints"][slot, frame, joint] = colour
            arrays["scores"][slot, frame, joint] = {"1": 0.5, "2": 1.0}[texts[-1]]
    return arrays
