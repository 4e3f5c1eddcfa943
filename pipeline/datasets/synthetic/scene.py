"""One performance, in metres and over time: people, movements, props, and when the sensor loses somebody.

In: a clip's name (SsssCcccPpppRrrrAaaa) and the seed. Out: a Scene; joints (M, T, 25, 3) in the room's frame.
All but the movement itself (person, tempo, style, position, chair, drop-outs) is drawn from generators keyed without
the action field, and the three cameras see the same movement. It paints nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.ntu import record_from_name
from pipeline.datasets.synthetic.actions import MOVEMENTS, Act, Style
from pipeline.datasets.synthetic.body import (
    FEET,
    HAND_TIPS,
    HANDS,
    HEAD,
    NECK,
    NUM_JOINTS,
    SHOULDERS,
    SPINE_SHOULDER,
    THUMBS,
    Array,
    Controls,
    pose,
)
from pipeline.datasets.synthetic.camera import ANGLES, Camera, camera
from pipeline.datasets.synthetic.paint import Colour
from pipeline.datasets.synthetic.people import HATS, Person, person
from pipeline.errors import DataError
from pipeline.records import VideoRecord, keyed_rng

FRAMES_PER_SECOND = 30
SHORTEST, LONGEST = 32, 48  # frames


@dataclass(frozen=True, kw_only=True)
class Props:
    """The things in a scene, over time; None for a thing that it lacks.

    Attributes:
        hat: (T, 3) the middle of its brim; `hat_up` (T, 3) the direction of its crown.
        cup: (T, 3) its middle.
        trolley: (T, 3) the middle of its handle; it points along `trolley_ahead` (3,).
        chair: (3,) the middle of its seat on the floor; it faces along `chair_ahead` (3,).
    """

    chair: Array
    chair_ahead: Array
    hat_colour: Colour
    hat: Array | None = None
    hat_up: Array | None = None
    cup: Array | None = None
    trolley: Array | None = None
    trolley_ahead: Array | None = None

    def backwards(self) -> Props:
        """The same, from the last frame to the first."""
        paths = {name: getattr(self, name) for name in ("hat", "hat_up", "cup", "trolley")}
        return replace(self, **{name: path[::-1] for name, path in paths.items() if path is not None})


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole clip before it is rendered.

    Attributes:
        joints: (M, T, 25, 3) metres in the room's frame: each person in each frame, whether the sensor saw it or not.
        lost: (M, T) whether the sensor lost the person in that frame.
        doubtful: (M, T, 25) whether the sensor only inferred the joint, though nothing hid it.
        people: (M,) bodies and looks.
        light: (3,) gain of red, green and blue in this clip.
    """

    record: VideoRecord
    camera: Camera
    joints: Array
    lost: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    people: tuple[Person, ...]
    props: Props
    light: Array


def scene(name: str, *, seed: int) -> Scene:
    """The scene of a clip: a pure function of its name and the seed.

    Raises DataError: the name is not of the form SsssCcccPpppRrrrAaaa, or the set has no such action or camera.
    """
    record = record_from_name(name)
    if record.label >= len(MOVEMENTS) or record.camera not in ANGLES:
        got = f"action {record.label + 1}, camera {record.camera}"
        expected = f"an action of 1 to {len(MOVEMENTS)}, a camera of 1 to {len(ANGLES)}"
        raise DataError(name, "is not a clip of the synthetic set", got=got, expected=expected)
    movement, backwards = tuple(MOVEMENTS.values())[record.label]
    performance = (record.setup, record.subject, record.replication)  # the same for the three cameras
    rng = keyed_rng(seed, "synthetic performance", *performance)
    actor, partner = person(seed, "subject", record.subject), person(seed, "partner", *performance)
    style = _style(actor, rng)
    seconds, phase = _time(actor, rng)
    act = movement(phase, seconds, style)
    people = (actor, partner)[: len(act.persons)]
    joints, props = _stage(act, people, style, record.replication, rng)
    sensor = keyed_rng(seed, "synthetic sensor", *performance, record.camera)
    light = sensor.uniform(0.98, 1.02) * sensor.uniform(0.993, 1.007, 3)
    lost, doubtful = _faults(len(people), len(phase), sensor)
    if backwards:
        joints, lost, doubtful, props = joints[:, ::-1], lost[:, ::-1], doubtful[:, ::-1], props.backwards()
    return Scene(
        record=record,
        camera=camera(record.setup, record.camera, seed=seed),
        joints=joints,
        lost=lost,
        doubtful=doubtful,
        people=people,
        props=props,
        light=light,
    )


def _style(actor: Person, rng: np.random.Generator) -> Style:
    """The actor's style, a little different in each performance."""
    return Style(
        hand=actor.hand,
        amplitude=actor.amplitude * rng.uniform(0.92, 1.08),
        rate=actor.rate * rng.uniform(0.93, 1.07),
        phase=rng.uniform(0.0, 2 * np.pi),
        arms=actor.arms + rng.uniform(-0.02, 0.02, (2, 3)),
    )


def _time(actor: Person, rng: np.random.Generator) -> tuple[Array, Array]:
    """Seconds (T,) of each frame, and the movement's phase (T,), 0 before it begins and 1 after its end."""
    frames = int(np.clip(round(40 / (actor.tempo * rng.uniform(0.95, 1.05))), SHORTEST, LONGEST))
    begin, end = rng.uniform(0.02, 0.12), rng.uniform(0.88, 0.98)
    phase = np.clip((np.arange(frames) / (frames - 1) - begin) / (end - begin), 0.0, 1.0)
    return np.arange(frames) / FRAMES_PER_SECOND, phase


def _stage(
    act: Act, people: tuple[Person, ...], style: Style, replication: int, rng: np.random.Generator
) -> tuple[Array, Props]:
    """Place people and things in the room: joints (M, T, 25, 3) and props.

    As in NTU, the actor faces to one side in the first replication and to the other in the second.
    """
    facing = (-0.2 if replication % 2 else 0.2) + rng.uniform(-0.08, 0.08)
    spot = rng.uniform(-0.10, 0.10, 2)
    chair_turn, chair_distance = rng.uniform(-0.2, 0.2), rng.uniform(0.48, 0.54)
    hat_colour: Colour = HATS[rng.integers(len(HATS))]
    gap = act.gap * float(np.mean([member.body.reach for member in people]))
    joints, directions = [], []
    for member, controls in zip(people, act.persons, strict=True):
        _sway(controls, rng)
        controls.heading = controls.heading + (0.3 * facing if gap else facing)  # two are best seen from the side
        direction = np.array([np.sin(controls.heading[0]), np.cos(controls.heading[0])])
        joints.append(pose(member.body, controls, spot - gap / 2 * direction))
        directions.append(direction)
    ahead = np.array([directions[0][0], 0.0, directions[0][1]])
    things = _things(act, joints[0], style, ahead)
    if not act.seated:  # anywhere behind the actor, as seen from the cameras
        ahead = np.array([np.sin(chair_turn), 0.0, np.cos(chair_turn)])
        chair_distance += 0.25
    middle = np.array([spot[0], 0.0, spot[1]]) if not act.gap else np.zeros(3)
    chair = middle - chair_distance * ahead
    return np.stack(joints), Props(chair=chair, chair_ahead=ahead, hat_colour=hat_colour, **things)


def _things(act: Act, joints: Array, style: Style, ahead: Array) -> dict[str, Array]:
    """The positions of hat, cup and trolley, each (T, 3), from the joints (T, 25, 3) of the person who holds them."""
    hand = joints[:, HANDS[style.hand]]
    things: dict[str, Array] = {}
    if act.hat is not None:
        up = joints[:, HEAD] - joints[:, NECK]
        up = up / np.linalg.norm(up, axis=-1, keepdims=True)
        grip = (hand + joints[:, HAND_TIPS[style.hand]]) / 2
        inward = joints[:, SPINE_SHOULDER] - joints[:, SHOULDERS[style.hand]]
        held = grip + 0.5 * inward - [0.0, 0.05, 0.0]
        worn = act.hat[:, None]
        things["hat"] = (1 - worn) * held + worn * (joints[:, HEAD] + 0.06 * up)
        things["hat_up"] = (1 - worn) * np.array([0.0, 1.0, 0.0]) + worn * up
    if act.cup:
        things["cup"] = hand + 0.03 * ahead + [0.0, 0.03, 0.0]
    if act.trolley:
        things["trolley"] = joints[:, HANDS].mean(axis=1) + 0.03 * ahead
        things["trolley"][:, 1] = things["trolley"][:, 1].mean()  # it rolls on the floor
        things["trolley_ahead"] = ahead
    return things


def _sway(controls: Controls, rng: np.random.Generator) -> None:
    """Add slow sines in trunk, head and hands: nobody stands quite still."""
    time = np.arange(len(controls.heading)) / FRAMES_PER_SECOND

    def slow(size: float) -> Array:
        return size * np.sin(2 * np.pi * rng.uniform(0.2, 0.7) * time + rng.uniform(0, 2 * np.pi))

    controls.lean = controls.lean + slow(0.02)
    controls.side = controls.side + slow(0.02)
    controls.twist = controls.twist + slow(0.05)
    controls.nod = controls.nod + slow(0.06)
    controls.wrists = controls.wrists + np.stack([slow(0.015) for _ in range(6)], axis=-1).reshape(-1, 2, 3)


def _faults(persons: int, frames: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """When the sensor loses everybody for some frames, or the second person alone, and which joints it only infers."""
    lost = np.zeros((persons, frames), dtype=bool)
    doubtful = np.zeros((persons, frames, NUM_JOINTS), dtype=bool)
    if rng.random() < 0.2:
        first, length = rng.integers(0, frames - 5), rng.integers(1, 6)
        lost[:, first : first + length] = True
    if persons == 2 and rng.random() < 0.3:
        first, length = rng.integers(0, frames - 5), rng.integers(1, 6)
        lost[1, first : first + length] = True
    for member in range(persons):
        for joint in (*HAND_TIPS, *THUMBS, *FEET):
            if rng.random() < 0.3:
                first, length = rng.integers(0, frames - 5), rng.integers(2, 12)
                doubtful[member, first : first + length, joint] = True
    return lost, doubtful
