"""What the play table consists of: the one place for state slices, ranges, thresholds, measures and the scenes A to D. Needs numpy only.

Lengths are metres in world coordinates, angles radians, Euler angles pybullet's (roll, pitch, yaw).

    states (24)    door, drawer, button, switch, bulb, LED; then position and Euler angles of the red, blue and pink cube
    proprio (15)   gripper position and Euler angles, gripper width, seven arm joints, the last gripper command (-1 closed, 1 open)
    action (7)     relative: position / POSITION_STEP, Euler angles / EULER_STEP, gripper (negative closes)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynaguide.errors import UserError, unknown_name

Array = NDArray[Any]

# --- states -------------------------------------------------------------------------------------------------------------------------
STATES = 24
DOOR, DRAWER, BUTTON, SWITCH, BULB, LED = range(6)
CUBES = ("red", "blue", "pink")
CUBE_SLICES = {"red": slice(6, 12), "blue": slice(12, 18), "pink": slice(18, 24)}
CUBE_POSITIONS = {name: slice(at.start, at.start + 3) for name, at in CUBE_SLICES.items()}
CUBE_EULERS = {name: slice(at.start + 3, at.stop) for name, at in CUBE_SLICES.items()}

# --- proprio ------------------------------------------------------------------------------------------------------------------------
PROPRIO = 15
TCP, EULER, JOINTS = slice(0, 3), slice(3, 6), slice(7, 14)
WIDTH, LAST_GRIPPER = 6, 14

# --- actions and control ------------------------------------------------------------------------------------------------------------
ACTIONS = 7
POSITION_STEP, EULER_STEP = 0.02, 0.05  # what an action of 1 adds to the target pose
CONTROL_HZ, SUBSTEPS = 30, 8
OPEN_WIDTH = 0.08

# --- joints and lights --------------------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """The two ends between which something moves."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


LIMITS = {DOOR: Range(0.0, 0.28), DRAWER: Range(0.0, 0.22), BUTTON: Range(0.0, 0.02), SWITCH: Range(0.0, 0.088)}  # physical
RANGES = {
    DOOR: Range(0.0, 0.27),
    DRAWER: Range(0.0, 0.16),
    SWITCH: Range(0.0, 0.09),
    LED: Range(0.0, 1.0),
}  # DynaGuide's: resets choose an end of them
MIDPOINTS = {DOOR: 0.135, DRAWER: 0.08, SWITCH: 0.045, LED: 0.5}  # DynaGuide's: above it counts as left, open, on
TOLERANCE = 3e-3  # a state may lie so far beyond its limits (recorded ones do, by physics; the switch's range does) and is then clipped
BUTTON_PRESSED = 0.01
SWITCH_ON = 0.044

SETUP = {"sliding_door": DOOR, "drawer": DRAWER, "switch": SWITCH, "green_light": LED}  # DynaGuide's names in `env_setup`
SETUP_WORDS = MappingProxyType(
    {"sliding_door": ("right", "left"), "drawer": ("closed", "open"), "switch": ("off", "on"), "green_light": ("off", "on")}  # low, high
)

BEHAVIORS = (
    "button_on",
    "button_off",
    "switch_on",
    "switch_off",
    "drawer_open",
    "drawer_close",
    "door_left",
    "door_right",
    *(f"{cube}_displace" for cube in CUBES),
    *(f"{cube}_lift" for cube in CUBES),
)
ARTICULATED, CUBE_BEHAVIORS = BEHAVIORS[:8], BEHAVIORS[8:]

# --- cubes --------------------------------------------------------------------------------------------------------------------------
CUBE_SIZES = {"red": (0.056, 0.04, 0.04), "blue": (0.04, 0.04, 0.04), "pink": (0.08, 0.04, 0.04)}
CUBE_COLORS = {"red": (1.0, 0.0, 0.0), "blue": (0.0, 0.0, 1.0), "pink": (1.0, 0.0, 1.0)}
CUBE_MASS, CUBE_FRICTION, CUBE_SPIN_FRICTION = 1.0, 0.7, 0.001
TABLE_TOP = 0.44
CUBE_REST = 0.46  # height of the centre of a cube that lies on the table or in the cabinet
BOUNDS = Range(-2.0, 2.0)  # positions of cubes outside it are refused

# --- robot --------------------------------------------------------------------------------------------------------------------------
ROBOT_BASE = (-0.34, -0.46, 0.24)
HOME_JOINTS = (-1.21779206, 1.03987646, 2.11978261, -2.34205014, -0.87015947, 1.64119353, 0.55344866)
JOINT_LOW = np.array((-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973))
JOINT_HIGH = np.array((2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973))
START_LOW, START_HIGH = np.array((-0.23, -0.18, 0.53)), np.array((0.27, 0.0, 0.63))  # where play's random starts put the gripper
START_EULER, START_EULER_STD = np.array((np.pi, -0.10, 1.59)), np.array((0.06, 0.09, 0.2))

# --- cameras ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Camera:
    """A square pinhole camera. With `eye` it stands still; without, it sits in the hand."""

    size: int
    fov_degrees: float
    near: float
    far: float
    eye: tuple[float, float, float] | None = None
    target: tuple[float, float, float] | None = None
    up: tuple[float, float, float] | None = None


THIRD_PERSON, EYE_IN_HAND = "third_person", "eye_in_hand"
CAMERAS = {
    THIRD_PERSON: Camera(200, 10.0, 0.01, 10.0, (2.871459, -2.166602, 2.555160), (-0.026242, -0.030233, 0.392000), (0.404140, 0.226298, 0.886262)),
    EYE_IN_HAND: Camera(84, 75.0, 0.01, 2.0),
}

# --- furniture ----------------------------------------------------------------------------------------------------------------------
Color = tuple[float, float, float]
SLOPE = np.pi / 3  # of the cabinet's face
ALONG_SLOPE = np.array((0.0, np.cos(SLOPE), np.sin(SLOPE)))  # the switch's way up
OUT_OF_SLOPE = np.array((0.0, -np.sin(SLOPE), np.cos(SLOPE)))  # from the cabinet towards the robot
BULB_COLOR, LED_COLOR, LIGHT_OFF = (1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)
DOOR_PANEL = (0.28, 0.22, 0.02)


class Surface(NamedTuple):
    """A box in which reset puts centres of cubes."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Where the furniture of a scene stands, and its colours. Scene D's measures are the public environment's.

    cabinet_x    centre of the cabinet, whose cavity is .52 wide; the door covers its right half when it is at 0
    """

    name: str
    cabinet_x: float = -0.1
    switch_x: float = 0.3
    button: tuple[float, float] = (-0.12, -0.12)
    drawer_x: float = 0.18
    led_x: float = -0.12
    bulb_x: float = 0.3
    wood: Color = (0.55, 0.36, 0.20)
    dark: Color = (0.40, 0.25, 0.13)
    face: Color = (0.63, 0.43, 0.26)
    metal: Color = (0.30, 0.30, 0.32)
    surfaces: Mapping[str, Surface] = field(init=False)

    def __post_init__(self) -> None:
        shift = self.cabinet_x + 0.1
        surfaces = {
            "table": Surface((0.0, -0.15, CUBE_REST), (0.35, -0.03, CUBE_REST)),
            "slider_left": Surface((-0.32 + shift, 0.05, CUBE_REST), (-0.16 + shift, 0.12, CUBE_REST)),
            "slider_right": Surface((-0.05 + shift, 0.05, CUBE_REST), (0.13 + shift, 0.12, CUBE_REST)),
        }
        object.__setattr__(self, "surfaces", MappingProxyType(surfaces))

    def door_handle(self, door: float) -> Array:
        """Centre of the door's handle bar, .04 x .16 x .02 along the slope, 4 cm in front of the panel."""
        return np.array((self.cabinet_x + 0.14 - door, 0.014, 0.570))

    def drawer_handle(self, drawer: float) -> Array:
        """Centre of the drawer's handle bar, x +-.12, y +-.01, z +-.02."""
        return np.array((self.drawer_x, -0.25 - drawer, 0.36))

    def switch_handle(self, switch: float) -> Array:
        """Centre of the switch's bar, x +-.06."""
        return np.array((self.switch_x, 0.018, 0.529)) + switch * ALONG_SLOPE

    def button_top(self, button: float = 0.0) -> Array:
        """Centre of the button's upper face, radius .032."""
        return np.array((*self.button, 0.484 - button))


SCENES = {
    "A": Scene("A", button=(-0.28, -0.12), drawer_x=0.1, led_x=-0.28, wood=(0.78, 0.62, 0.42), dark=(0.62, 0.47, 0.30), face=(0.85, 0.70, 0.50)),
    "B": Scene(
        "B", button=(-0.2, -0.1), drawer_x=0.14, led_x=0.0, bulb_x=-0.3, wood=(0.36, 0.22, 0.14), dark=(0.25, 0.15, 0.10), face=(0.43, 0.27, 0.18)
    ),
    "C": Scene("C", cabinet_x=0.1, switch_x=-0.3, led_x=0.12, bulb_x=-0.3, wood=(0.52, 0.50, 0.47), dark=(0.37, 0.36, 0.35), face=(0.62, 0.60, 0.57)),
    "D": Scene("D"),
}


def scene_named(name: str) -> Scene:
    if name not in SCENES:
        raise unknown_name("scene", str(name), list(SCENES))
    return SCENES[name]


def behavior_named(name: str) -> str:
    if name not in BEHAVIORS:
        raise unknown_name("behaviour", str(name), list(BEHAVIORS))
    return name


def setup_states(setup: Mapping[str, Any], rng: np.random.Generator) -> Array:
    """DynaGuide's `generate_reset_state`: (24,); what `setup` names is as it says, every other joint and the LED at a random end.

    A value is a word of SETUP_WORDS, a truth value (high or low), or a number as in the states.
    """
    for name in setup:
        if name not in SETUP:
            raise unknown_name("part in env_setup", name, list(SETUP))
    states = np.zeros(STATES)
    for name, index in SETUP.items():
        random_end = RANGES[index][int(rng.random() < 0.5)]  # drawn also when it is named: a setup leaves the other draws alone
        states[index] = _setup_value(name, setup[name]) if name in setup else random_end
    states[BULB] = float(states[SWITCH] > SWITCH_ON)
    return states


def binary(states: Array) -> dict[str, bool]:
    """Which parts are on their high side (left, open, on)."""
    return {name: bool(states[index] > MIDPOINTS[index]) for name, index in SETUP.items()}


def checked_states(states: Any) -> Array:
    """(24,) float64 within LIMITS, or a UserError that names what is wrong."""
    made = np.asarray(states, np.float64)
    if made.shape != (STATES,) or not np.isfinite(made).all():
        raise UserError(f"a scene state is {STATES} finite numbers, not {_described(made)}")
    names = {DOOR: "door", DRAWER: "drawer", BUTTON: "button", SWITCH: "switch"}
    for index, name in names.items():
        low, high = LIMITS[index]
        if not low - TOLERANCE <= made[index] <= high + TOLERANCE:
            raise UserError(f"states[{index}] ({name}) must lie between {low:g} and {high:g}, not {made[index]:.4g}")
        made[index] = np.clip(made[index], low, high)
    for index in (BULB, LED):
        if made[index] not in (0, 1):
            raise UserError(f"states[{index}] (a light) must be 0 or 1, not {made[index]:.4g}")
    for cube, at in CUBE_POSITIONS.items():
        if not ((made[at] >= BOUNDS.low) & (made[at] <= BOUNDS.high)).all():
            raise UserError(f"the {cube} cube's position must lie between {BOUNDS.low} and {BOUNDS.high} m, not {made[at].tolist()}")
    return made


def checked_proprio(proprio: Any) -> Array:
    """(15,) float64, or a UserError; only width, joints and last gripper command matter to a reset."""
    made = np.asarray(proprio, np.float64)
    if made.shape != (PROPRIO,) or not np.isfinite(made).all():
        raise UserError(f"a robot state is {PROPRIO} finite numbers, not {_described(made)}")
    beyond = (made[JOINTS] < JOINT_LOW - 0.1) | (made[JOINTS] > JOINT_HIGH + 0.1)
    if beyond.any():
        joint = int(np.flatnonzero(beyond)[0])
        raise UserError(
            f"joint {joint + 1} of the robot state must lie between {JOINT_LOW[joint]} and {JOINT_HIGH[joint]} rad, not {made[7 + joint]:.4g}"
        )
    if not -1e-2 <= made[WIDTH] <= OPEN_WIDTH + 1e-2:
        raise UserError(f"the gripper's width must lie between 0 and {OPEN_WIDTH} m, not {made[WIDTH]:.4g}")
    return made


def _setup_value(name: str, value: Any) -> float:
    ends, words = RANGES[SETUP[name]], SETUP_WORDS[name]
    if isinstance(value, str):
        if value not in words:
            raise unknown_name(f"value of {name}", value, list(words))
        return ends[words.index(value)]
    if isinstance(value, (bool, np.bool_)):
        return ends[int(value)]
    highest = max(ends.high, LIMITS[SETUP[name]].high) if SETUP[name] in LIMITS else ends.high
    if not ends.low <= float(value) <= highest:
        raise UserError(f"{name} must lie between {ends.low} and {highest}, not {value}")
    return float(value)


def _described(array: Array) -> str:
    return f"an array of shape {array.shape}" if np.isfinite(array).all() else str(array.tolist())
