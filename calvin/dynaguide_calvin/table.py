"""The play table and its cubes out of primitives, with the measures of the public environment."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dynaguide_calvin import scene as facts
from dynaguide_calvin.scene import Color, Scene
from dynaguide_calvin.urdf import Link, Shape, box, centred_box, cylinder, mesh, sphere, write_prism, write_urdf

BLACK: Color = (0.06, 0.06, 0.06)
SLOT: Color = (0.13, 0.09, 0.06)
SLOPED = (facts.SLOPE, 0.0, 0.0)
HALF_WIDTH, HALF_DEPTH, HALF_CAVITY = 0.44, 0.18, 0.26
SECTION = np.array(((0.02, 0.44), (0.18, 0.44), (0.18, 0.648), (0.14, 0.648)))  # of the cabinet: (y, z), the face between the last and the first

JOINT_NAMES = {facts.DOOR: "base__slide", facts.DRAWER: "base__drawer", facts.BUTTON: "base__button", facts.SWITCH: "base__switch"}
LIGHT_LINKS = {facts.BULB: "light_link", facts.LED: "led_link"}  # of the public tables


def write_table(folder: Path, scene: Scene) -> Path:
    """What moves: door, drawer, button and switch, with the joint names of the public files."""
    return write_urdf(folder / "table.urdf", "table", [Link("base_link"), _button(scene), _switch(scene), _door(scene), _drawer(scene)])


def write_furniture(folder: Path, scene: Scene) -> Path:
    """What stands still. A body of its own: contacts with it cost less than contacts with a body that has joints."""
    return write_urdf(folder / "furniture.urdf", "furniture", [Link("base_link", list(_furniture(folder, scene)))])


def write_light(folder: Path, scene: Scene, light: int) -> Path:
    """The bulb or the LED; the world gives it its colour."""
    if light == facts.LED:
        shape = centred_box((0.16, 0.04, 0.016), (scene.led_x, 0.16, 0.656), facts.LIGHT_OFF)
    else:
        shape = sphere(0.028, (scene.bulb_x, 0.16, 0.675), facts.LIGHT_OFF)
    return write_urdf(folder / f"light_{light}.urdf", "light", [Link("base_link", [shape])])


def write_cube(folder: Path, name: str) -> Path:
    friction = f'<lateral_friction value="{facts.CUBE_FRICTION}"/><spinning_friction value="{facts.CUBE_SPIN_FRICTION}"/>'
    shape = centred_box(facts.CUBE_SIZES[name], (0, 0, 0), facts.CUBE_COLORS[name])
    return write_urdf(folder / f"{name}.urdf", name, [Link("base_link", [shape], facts.CUBE_MASS, contact=friction)])


def _furniture(folder: Path, scene: Scene) -> Iterator[Shape]:
    yield from _top_and_legs(scene)
    yield from _drawer_casing(scene)
    yield from _cabinet(folder, scene)
    yield cylinder(0.04, 0.019, (*scene.button, 0.4495), scene.dark)
    for side in (-0.05, 0.05):
        centre = (scene.switch_x + side, *(0.0835, 0.55) + 0.0005 * facts.OUT_OF_SLOPE[1:])
        yield centred_box((0.02, 0.13, 0.002), centre, SLOT, euler=SLOPED, solid=False)


def _top_and_legs(scene: Scene) -> Iterator[Shape]:
    yield box((-HALF_WIDTH, -HALF_DEPTH, 0.40), (HALF_WIDTH, HALF_DEPTH, 0.44), scene.wood)
    for x in (-0.42, 0.42):
        for y in (-0.164, 0.164):
            yield box((x - 0.02, y - 0.016, 0), (x + 0.02, y + 0.016, 0.40), scene.dark)


def _drawer_casing(scene: Scene) -> Iterator[Shape]:
    left, right = scene.drawer_x - 0.20, scene.drawer_x + 0.20
    yield box((-0.40, -0.16, 0.30), (0.40, 0.16, 0.32), scene.dark)
    yield box((-0.40, -0.16, 0.32), (left, 0.16, 0.40), scene.dark)
    yield box((right, -0.16, 0.32), (0.40, 0.16, 0.40), scene.dark)
    yield box((left, 0.06, 0.32), (right, 0.16, 0.40), scene.dark)


def _cabinet(folder: Path, scene: Scene) -> Iterator[Shape]:
    left, right = scene.cabinet_x - HALF_CAVITY, scene.cabinet_x + HALF_CAVITY
    yield mesh(write_prism(folder / "left.obj", SECTION, -HALF_WIDTH, left), scene.face)
    yield mesh(write_prism(folder / "right.obj", SECTION, right, HALF_WIDTH), scene.face)
    yield box((left, 0.14, 0.628), (right, 0.18, 0.648), scene.face)
    yield box((left, 0.16, 0.44), (right, 0.18, 0.628), scene.dark)


def _button(scene: Scene) -> Link:
    shape = cylinder(0.032, 0.024, (0, 0, 0.012), BLACK)
    return Link(
        "button_link",
        [shape],
        0.154,
        parent="base_link",
        joint_name=JOINT_NAMES[facts.BUTTON],
        joint="prismatic",
        position=(*scene.button, 0.46),
        axis=(0, 0, -1),
        limits=facts.LIMITS[facts.BUTTON],
    )


def _switch(scene: Scene) -> Link:
    """Its frame is turned with the slope: y up the slope, z out of it."""
    posts = [centred_box((0.018, 0.028, 0.046), (x, 0.008, 0.023), scene.metal) for x in (-0.05, 0.05)]
    return Link(
        "switch_link",
        [centred_box((0.12, 0.028, 0.018), (0, 0.008, 0.055), scene.metal), *posts],
        0.239,
        parent="base_link",
        joint_name=JOINT_NAMES[facts.SWITCH],
        joint="prismatic",
        position=(scene.switch_x, 0.0609, 0.4949),
        euler=SLOPED,
        axis=(0, 1, 0),
        limits=facts.LIMITS[facts.SWITCH],
    )


def _door(scene: Scene) -> Link:
    posts = [centred_box((0.038, 0.019, 0.045), (0.14, y, 0.04), scene.metal) for y in (-0.07, 0.07)]
    panel = centred_box(facts.DOOR_PANEL, (0.14, 0, 0.01), scene.dark)
    return Link(
        "slide_link",
        [panel, centred_box((0.038, 0.16, 0.019), (0.14, 0, 0.0695), scene.metal), *posts],
        1.543,
        parent="base_link",
        joint_name=JOINT_NAMES[facts.DOOR],
        joint="prismatic",
        position=(scene.cabinet_x, 0.075, 0.5353),
        euler=SLOPED,
        axis=(-1, 0, 0),
        limits=facts.LIMITS[facts.DOOR],
    )


def _drawer(scene: Scene) -> Link:
    inside, metal = scene.dark, scene.metal
    shapes = [
        box((-0.22, -0.18, -0.02), (0.22, -0.16, 0.08), scene.face),
        box((-0.20, -0.16, 0.0), (0.20, 0.06, 0.02), inside),
        box((-0.20, -0.16, 0.02), (-0.18, 0.06, 0.08), inside),
        box((0.18, -0.16, 0.02), (0.20, 0.06, 0.08), inside),
        box((-0.18, 0.04, 0.02), (0.18, 0.06, 0.08), inside),
        box((-0.12, -0.26, 0.021), (0.12, -0.24, 0.059), metal),
        box((-0.12, -0.24, 0.021), (-0.10, -0.18, 0.059), metal),
        box((0.10, -0.24, 0.021), (0.12, -0.18, 0.059), metal),
    ]
    return Link(
        "drawer_link",
        shapes,
        4.23,
        parent="base_link",
        joint_name=JOINT_NAMES[facts.DRAWER],
        joint="prismatic",
        position=(scene.drawer_x, 0, 0.32),
        axis=(0, -1, 0),
        limits=facts.LIMITS[facts.DRAWER],
    )
