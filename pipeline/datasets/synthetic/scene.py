"""One performance, in metres and over time: people, movements, things, and when the sensor loses somebody.

In: a clip's name (SsssCcccPpppRrrrAaaa) and the seed. Out: a Scene; joints (M, T, 25, 3) in the room's frame.
All but the movement and the kind of thing beside the actor (person, tempo, style, position, colours, drop-outs) is
drawn from generators keyed without the action field, and the three cameras see the same movement. It paints nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.ntu import record_from_name
from pipeline.datasets.synthetic.actions import MOVEMENTS, Act, Movement, Style
from pipeline.datasets.synthetic.body import FEET, HAND_TIPS, NUM_JOINTS, THUMBS, Array, Controls, pose
from pipeline.datasets.synthetic.camera import ANGLES, Camera, camera
from pipeline.datasets.synthetic.paint import Colour
from pipeline.datasets.synthetic.people import Person, person
from pipeline.errors import DataError
from pipeline.records import VideoRecord, keyed_rng

FRAMES_PER_SECOND = 30
SHORTEST, LONGEST = 32, 48  # frames
THINGS: dict[str, tuple[Colour, ...]] = {
    "ball": ((216, 72, 58), (232, 186, 62), (72, 128, 206), (92, 178, 102)),
    "box": ((150, 112, 74), (136, 104, 76), (160, 122, 84), (128, 110, 92)),
}
SCREEN_FIELDS = (2, 4)  # down, across
PRINTS: tuple[Colour, ...] = ((230, 120, 90), (100, 170, 220), (140, 200, 120), (240, 210, 120), (180, 130, 210))


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A screen on a stand that shows coloured fields, which brighten and darken whatever people do.

    Attributes:
        middle: (3,) metres; it faces along +z.
        colours: of the fields, row by row.
        brightness: (T, fields) 0..1.
    """

    middle: Array
    colours: tuple[Colour, ...]
    brightness: Array


@dataclass(frozen=True, kw_only=True)
class Props:
    """The things in a scene, which stand still.

    Attributes:
        chair: (3,) the middle of its seat on the floor; it faces along `chair_ahead` (3,).
        kind: "ball", "box" or None, of the thing on the floor.
        thing: (3,) where it lies, away from every joint.
        size: of the thing, in metres; `turn` in radians about y.
        colours: of the thing, by its kind.
    """

    chair: Array
    chair_ahead: Array
    kind: str | None
    thing: Array
    size: float
    turn: float
    colours: dict[str, Colour]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole clip before it is rendered.

    Attributes:
        joints: (M, T, 25, 3) metres in the room's frame: each person in each frame, whether the sensor saw it or not.
        lost: (M, T) whether the sensor lost the person in that frame.
        doubtful: (M, T, 25) whether the sensor only inferred the joint, though nothing hid it.
        people: (M,) bodies and looks.
        props, screen: the things about them.
        light: (3,) gain of red, green and blue in this clip.
    """

    record: VideoRecord
    camera: Camera
    joints: Array
    lost: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    people: tuple[Person, ...]
    props: Props
    screen: Screen
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
    movement = tuple(MOVEMENTS.values())[record.label]
    performance = (record.setup, record.subject, record.replication)  # the same for the three cameras
    rng = keyed_rng(seed, "synthetic performance", *performance)
    actor, partner = person(seed, "subject", record.subject), person(seed, "partner", *performance)
    style = _style(actor, rng)
    phase = _phase(actor, rng)
    act = movement.act(phase, style)
    people = (actor, partner)[: len(act.persons)]
    joints, spot, ahead = _stage(act, people, record.replication, rng)
    things = keyed_rng(seed, "synthetic things", *performance)
    props = _props(movement, act, style, spot, ahead, things)
    screen = _screen(len(phase), things)
    sensor = keyed_rng(seed, "synthetic sensor", *performance, record.camera)
    light = sensor.uniform(0.98, 1.02) * sensor.uniform(0.993, 1.007, 3)
    lost, doubtful = _faults(len(people), len(phase), sensor)
    if movement.backwards:
        joints, lost, doubtful = joints[:, ::-1], lost[:, ::-1], doubtful[:, ::-1]
        screen = replace(screen, brightness=screen.brightness[::-1])
    return Scene(
        record=record,
        camera=camera(record.setup, record.camera, seed=seed),
        joints=joints,
        lost=lost,
        doubtful=doubtful,
        people=people,
        props=props,
        screen=screen,
        light=light,
    )


def _style(actor: Person, rng: np.random.Generator) -> Style:
    """The actor's style, a little different in each performance."""
    return Style(
        side=int(rng.choice([-1, 1])),
        amplitude=actor.amplitude * rng.uniform(0.92, 1.08),
        arms=actor.arms + rng.uniform(-0.02, 0.02, (2, 3)),
    )


def _phase(actor: Person, rng: np.random.Generator) -> Array:
    """The movement's phase (T,), 0 before it begins and 1 after its end."""
    frames = int(np.clip(round(40 / (actor.tempo * rng.uniform(0.95, 1.05))), SHORTEST, LONGEST))
    begin, end = rng.uniform(0.02, 0.12), rng.uniform(0.88, 0.98)
    return np.clip((np.arange(frames) / (frames - 1) - begin) / (end - begin), 0.0, 1.0)


def _stage(
    act: Act, people: tuple[Person, ...], replication: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Place people in the room: joints (M, T, 25, 3), where the actor stands (3,), which way the first one faces (3,).

    As in NTU, the actor faces to one side in the first replication and to the other in the second.
    """
    facing = (-0.2 if replication % 2 else 0.2) + rng.uniform(-0.08, 0.08)
    spot = rng.uniform(-0.10, 0.10, 2)
    gap = act.gap * float(np.mean([member.body.reach for member in people]))
    joints, directions = [], []
    for member, controls in zip(people, act.persons, strict=True):
        _sway(controls, rng)
        controls.heading = controls.heading + (0.3 * facing if act.across else facing)
        direction = np.array([np.sin(controls.heading[0]), np.cos(controls.heading[0])])
        joints.append(pose(member.body, controls, spot - gap / 2 * direction))
        directions.append(direction)
    middle = np.zeros(2) if gap else spot
    return np.stack(joints), np.array([middle[0], 0.0, middle[1]]), np.array([directions[0][0], 0.0, directions[0][1]])


def _props(movement: Movement, act: Act, style: Style, spot: Array, ahead: Array, rng: np.random.Generator) -> Props:
    """The things about an actor at `spot` (3,) facing `ahead` (3,): the action decides the kind of one alone."""
    chair_turn, chair_distance = rng.uniform(-0.2, 0.2), rng.uniform(0.48, 0.54)
    if not act.seated:  # anywhere behind the actor, as seen from the cameras
        ahead, chair_distance = _heading(chair_turn), chair_distance + 0.25
    place = spot + rng.uniform(0.84, 0.90) * _heading(style.side * rng.uniform(1.60, 1.75))
    size, turn = rng.uniform(0.35, 0.40), rng.uniform(-0.6, 0.6)
    colours = {kind: _dyed(palette, rng) for kind, palette in THINGS.items()}
    return Props(
        chair=spot - chair_distance * ahead,
        chair_ahead=ahead,
        kind=movement.thing,
        thing=place,
        size=size,
        turn=turn,
        colours=colours,
    )


def _screen(frames: int, rng: np.random.Generator) -> Screen:
    """A screen behind the actor, each field's brightness a sine of its own over time."""
    fields = SCREEN_FIELDS[0] * SCREEN_FIELDS[1]
    seconds = np.arange(frames)[:, None] / FRAMES_PER_SECOND
    waves = np.sin(2 * np.pi * rng.uniform(0.4, 2.5, fields) * seconds + rng.uniform(0, 2 * np.pi, fields))
    return Screen(
        middle=np.array([rng.uniform(-0.2, 0.2), rng.uniform(1.35, 1.50), -1.15]),
        colours=tuple(_dyed(PRINTS, rng) for _ in range(fields)),
        brightness=0.6 + 0.4 * waves,
    )


def _heading(turn: float) -> Array:
    """The direction (3,) of a turn in radians about y; 0 is +z."""
    return np.array([np.sin(turn), 0.0, np.cos(turn)])


def _dyed(palette: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    """A colour near one of the palette."""
    red, green, blue = np.array(palette[rng.integers(len(palette))]) + rng.uniform(-8, 8, 3)
    return float(red), float(green), float(blue)


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
