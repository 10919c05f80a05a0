"""The CALVIN play table with Gymnasium's API."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from dynaguide.errors import UserError, unknown_name
from dynaguide_calvin import scene as facts
from dynaguide_calvin.assets import public_files
from dynaguide_calvin.robot import Pose
from dynaguide_calvin.scene import EYE_IN_HAND, THIRD_PERSON, Scene, scene_named
from dynaguide_calvin.world import SavedState, World

Array = NDArray[Any]
Observation = dict[str, Array]
Stop = Callable[[Array, Array, Array], Sequence[str]]  # (first states, last states, last proprio) -> behaviours that have happened
CUBE_OPTIONS = ("shuffle", "table_only", "keep")
SMALLEST_IMAGE = 16


@runtime_checkable
class Painter(Protocol):
    """Makes pictures of a world."""

    name: str

    def picture(self, world: World, camera: str, size: int) -> Array: ...


class EnvState(NamedTuple):
    """Everything that an environment's future depends on, besides the actions."""

    world: SavedState
    first: Array
    states: Array
    proprio: Array
    random: Mapping[str, Any]


class PlayTableEnv(gym.Env[Observation, Array]):
    """A Panda at a table with a drawer, a sliding door, a switch, a button and three cubes. `scene` says what states and actions mean.

    An action, (7,) in [-1, 1], moves the target pose by `POSITION_STEP` and `EULER_STEP` a unit; a negative last number closes the gripper. Values
    beyond are clipped. A step is a thirtieth of a second. The reward is 0, or 1 when `stop` sees a behaviour, which ends the episode:
    info["behaviors"] then names what it saw and info["success"] is True.

    scene      A, B, C or D
    cameras    name -> pixels a side of `third_person` and `eye_in_hand`; {} for none
    renderer   gl, tiny, or auto: gl where it works, tiny elsewhere
    assets     a folder with the public CALVIN files (`assets` says which), to use those instead of the primitives
    render_mode    rgb_array, human (pybullet's window), or None
    stop       asked after every step; or `end_on="behavior"` for the detector that also labels data
    Options of `reset`:
        scene    (24,) states. Without it: `setup`, else everything at its low end
        setup    DynaGuide's env_setup: `sliding_door`, `drawer`, `switch`, `green_light`; what it leaves out is random
        cubes    shuffle (anywhere), table_only, or keep (where `scene` has them); default shuffle
        robot    (15,) proprio whose joints, width and last gripper command are taken, or "random"; default the home pose
    `images` says whether `step` puts images into its observation; `observe()` always does.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": facts.CONTROL_HZ}  # noqa: RUF012 (Gymnasium's own attribute)

    def __init__(
        self,
        *,
        scene: str = "D",
        cameras: Mapping[str, int] | Sequence[str] | None = None,
        renderer: str = "auto",
        assets: str | Path | None = None,
        stop: Stop | None = None,
        end_on: str | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.scene: Scene = scene_named(scene)
        self.cameras = _checked_cameras(cameras)
        self.images = True
        self.render_mode = _known("render mode", render_mode, [None, "rgb_array", "human"])
        self._stop = _stop(stop, end_on)
        self._settings = {"scene": scene, "cameras": dict(self.cameras), "assets": str(assets) if assets else None, "end_on": end_on}
        self._renderer = renderer
        self._painter: Painter | None = None
        self._world = World(self.scene, files=public_files(Path(assets), scene) if assets else None, gui=render_mode == "human")
        self._first: Array | None = None
        self._goals: list[Array] = []
        self.action_space = gym.spaces.Box(-1, 1, (facts.ACTIONS,), np.float32)
        self.observation_space = _observation_space(self.cameras)  # type: ignore[assignment]

    # --- Gymnasium --------------------------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        asked = _checked_options(options or {})
        keep = asked.get("cubes") == "keep"
        states = self._asked_states(asked)
        proprio = self._asked_proprio(asked)
        world = self._world
        world.clear()
        if isinstance(proprio, str):
            world.place(states, None)
            proprio = _start(world.random_start(self.np_random))
        world.place(states, proprio)
        if not keep:
            world.shuffle_cubes(self.np_random, ["table"] if asked.get("cubes") == "table_only" else list(self.scene.surfaces))
        world.settle()
        self._look()
        self._first = self._states
        return self._observation(images=self.images), {}

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        target, gripper = self._target_after(action)
        return self._move(target, gripper)

    def step_absolute(self, position: Any, euler: Any, gripper: float) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Like `step`, with the target pose itself: metres, radians; a negative `gripper` closes."""
        self._require_reset()
        numbers = [np.asarray(value, np.float64) for value in (position, euler)]
        if any(value.shape != (3,) or not np.isfinite(value).all() for value in numbers) or not np.isfinite(gripper):
            raise UserError("an absolute action is a position and Euler angles, three finite numbers each, and a gripper command")
        return self._move(Pose(*numbers), 1.0 if gripper >= 0 else -1.0)

    def render(self) -> Array | None:
        """What `third_person` sees, at its public size."""
        if self.render_mode != "rgb_array":
            return None
        self._require_reset()
        return self.painter.picture(self._world, THIRD_PERSON, facts.CAMERAS[THIRD_PERSON].size)

    def close(self) -> None:
        self._world.close()

    # --- beyond Gymnasium -------------------------------------------------------------------------------------------------------------

    @property
    def states(self) -> Array:
        """(24,) float64, of now."""
        self._require_reset()
        return self._states.copy()

    @property
    def proprio(self) -> Array:
        """(15,) float64, of now."""
        self._require_reset()
        return self._proprio.copy()

    @property
    def target(self) -> Pose:
        """Where the gripper is told to be."""
        return self._world.control.target

    @property
    def last_gripper(self) -> float:
        return self._world.control.gripper

    @property
    def world(self) -> World:
        return self._world

    @property
    def painter(self) -> Painter:
        """Made when the first picture is asked for."""
        if self._painter is None:
            from dynaguide_calvin.render import painter

            self._painter = painter(self._renderer)
        return self._painter

    def observe(self, *, images: bool = True) -> Observation:
        """The observation of now, whatever `images` says of steps."""
        self._require_reset()
        return self._observation(images=images)

    def save_state(self) -> EnvState:
        """For `restore_state` of the same environment: physics, target pose, lights, what has been pressed, random numbers."""
        self._require_reset()
        return EnvState(self._world.save(), self._first, self._states, self._proprio, self.np_random.bit_generator.state)  # type: ignore[arg-type]

    def restore_state(self, saved: EnvState) -> Observation:
        self._world.restore(saved.world)
        self._first, self._states, self._proprio = saved.first, saved.states, saved.proprio
        self.np_random.bit_generator.state = saved.random
        return self._observation(images=self.images)

    def set_goal(self, paths: Sequence[str | Path]) -> None:
        """Image files, of which `get_goal` gives one at random."""
        if not paths:
            raise UserError("set_goal needs at least one image file")
        self._goals = [_goal_image(Path(path)) for path in paths]

    def get_goal(self) -> dict[str, Array]:
        """{"third_person": (1, 3, height, width)} in [0, 1]."""
        if not self._goals:
            raise UserError("there is no goal: call set_goal(paths) first")
        return {THIRD_PERSON: self._goals[int(self.np_random.integers(len(self._goals)))][None]}

    def env_meta(self) -> dict[str, Any]:
        """What data files and checkpoints carry; `make_env` rebuilds the environment from it."""
        kwargs = {key: value for key, value in self._settings.items() if value is not None}
        return {"env_name": "PlayTable", "type": 2, "env_kwargs": {**kwargs, "renderer": self.painter.name if self.cameras else self._renderer}}

    # --- inside -----------------------------------------------------------------------------------------------------------------------

    def _move(self, target: Pose, gripper: float) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._world.move(target, gripper)
        self._look()
        seen = tuple(self._stop(self._first, self._states, self._proprio)) if self._stop and self._first is not None else ()
        info: dict[str, Any] = {"success": True, "behaviors": seen} if seen else {}
        return self._observation(images=self.images), float(bool(seen)), bool(seen), False, info

    def _target_after(self, action: Array) -> tuple[Pose, float]:
        self._require_reset()
        numbers = np.asarray(action, np.float64)
        if numbers.shape != (facts.ACTIONS,) or not np.isfinite(numbers).all():
            raise UserError(f"an action is {facts.ACTIONS} finite numbers in [-1, 1], not {np.array2string(numbers, max_line_width=10**6)}")
        numbers = np.clip(numbers, -1, 1)
        old = self._world.control.target
        target = Pose(old.position + numbers[:3] * facts.POSITION_STEP, old.euler + numbers[3:6] * facts.EULER_STEP)
        return target, 1.0 if numbers[6] >= 0 else -1.0

    def _look(self) -> None:
        self._states, self._proprio = self._world.states(), self._world.proprio()

    def _observation(self, *, images: bool) -> Observation:
        pictures = {name: self.painter.picture(self._world, name, size) for name, size in self.cameras.items()} if images else {}
        return {**pictures, "proprio": self._proprio.astype(np.float32), "states": self._states.astype(np.float32)}

    def _require_reset(self) -> None:
        if self._first is None:
            raise gym.error.ResetNeeded("call reset() first")

    def _asked_states(self, asked: dict[str, Any]) -> Array:
        if asked.get("scene") is not None:
            return facts.checked_states(asked["scene"])
        if asked.get("setup") is not None:
            return facts.checked_states(facts.setup_states(asked["setup"], self.np_random))
        return np.zeros(facts.STATES)

    def _asked_proprio(self, asked: dict[str, Any]) -> Array | str | None:
        robot = asked.get("robot")
        if isinstance(robot, str):
            return _known("robot start", robot, ["random"])
        return None if robot is None else facts.checked_proprio(robot)


def _observation_space(cameras: Mapping[str, int]) -> gym.spaces.Dict:
    numbers = {"proprio": facts.PROPRIO, "states": facts.STATES}
    spaces: dict[str, gym.Space[Any]] = {name: gym.spaces.Box(0, 255, (size, size, 3), np.uint8) for name, size in cameras.items()}
    return gym.spaces.Dict(spaces | {name: gym.spaces.Box(-np.inf, np.inf, (count,), np.float32) for name, count in numbers.items()})


def _start(joints: Array) -> Array:
    made = np.zeros(facts.PROPRIO)
    made[facts.JOINTS], made[facts.WIDTH], made[facts.LAST_GRIPPER] = joints, facts.OPEN_WIDTH, 1.0
    return made


def _checked_options(options: dict[str, Any]) -> dict[str, Any]:
    known = ["scene", "setup", "cubes", "robot"]
    for name in options:
        if name not in (*known, "reset_mask"):  # the last is Gymnasium's, for vector environments
            raise unknown_name("option of reset", str(name), known)
    if options.get("cubes") is not None:
        _known("option for cubes", options["cubes"], list(CUBE_OPTIONS))
    if options.get("cubes") == "keep" and options.get("scene") is None:
        raise UserError('reset: cubes="keep" needs a scene that says where they are')
    if options.get("scene") is not None and options.get("setup"):
        raise UserError("reset: give a scene or a setup, not both")
    return options


def _checked_cameras(cameras: Mapping[str, int] | Sequence[str] | None) -> dict[str, int]:
    asked = list(facts.CAMERAS) if cameras is None else cameras
    sizes = dict(asked) if isinstance(asked, Mapping) else {name: facts.CAMERAS[name].size if name in facts.CAMERAS else 0 for name in asked}
    for name, size in sizes.items():
        _known("camera", name, [THIRD_PERSON, EYE_IN_HAND])
        if size < SMALLEST_IMAGE:
            raise UserError(f"images of {name} must be at least {SMALLEST_IMAGE} pixels a side, not {size}")
    return sizes


def _known(kind: str, value: Any, known: list[Any]) -> Any:
    if value not in known:
        raise unknown_name(kind, str(value), [str(name) for name in known])
    return value


def _stop(stop: Stop | None, end_on: str | None) -> Stop | None:
    if end_on is None:
        return stop
    _known("end of episodes", end_on, ["behavior"])
    if stop is not None:
        raise UserError('give stop or end_on="behavior", not both')
    from dynaguide_calvin.detector import ended_by

    return ended_by


def _goal_image(path: Path) -> Array:
    try:
        image = np.asarray(iio.imread(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read this goal image ({error})") from error
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise UserError(f"{path}: a goal image has three colour channels, not the shape {image.shape}")
    return np.moveaxis(image[..., :3], -1, 0).astype(np.float32) / 255
