"""An experiment on the play table: its JSON file, and the environment that starts every episode as the file says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np

from dynaguide.config import parse
from dynaguide.environments import GOAL, make_env, names_of
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import existing_file, read_json
from dynaguide.randomness import mixed
from dynaguide_calvin import PLAY_TABLE
from dynaguide_calvin import scene as facts
from dynaguide_calvin.scene import Array

_POSE, _GOAL = 1, 2  # what a seed is mixed with to draw an episode's start pose and goal
CUBES_TABLE_ONLY = "cubes_table_only"


@dataclass(frozen=True)
class Experiment:
    """What an experiment's JSON says. Paths are relative to the file; `read_experiment` makes them absolute.

    env_setup        parts that are set before every episode (`scene.SETUP`), and cubes_table_only; everything else is random
    pos_examples     episodes that end as wanted
    neg_examples     episodes that end as unwanted; they count if use_neg is true
    loc_target       where position guidance leads the gripper
    reset_poses      robot states to start from; random poses otherwise
    behaviors        what counts as success, where the labels of pos_examples should not say it
    scale, ss, alpha, distance, compare, candidates, free_steps, replan_every    the settings that suit it; flags override them
    """

    env_setup: dict[str, Any] = field(default_factory=dict)
    use_neg: bool = False
    pos_examples: str | None = None
    neg_examples: str | None = None
    loc_target: tuple[float, ...] | None = None
    reset_poses: str | None = None
    behaviors: tuple[str, ...] | None = None
    scale: float | None = None
    ss: int | None = None
    alpha: float | None = None
    distance: str | None = None
    compare: tuple[str, ...] | None = None
    candidates: int | None = None
    free_steps: int | None = None
    replan_every: int | None = None

    @property
    def negative(self) -> str | None:
        return self.neg_examples if self.use_neg else None

    @property
    def setup(self) -> dict[str, Any]:
        """`env_setup` without what is said about cubes."""
        return {name: value for name, value in self.env_setup.items() if name != CUBES_TABLE_ONLY}

    @property
    def cubes(self) -> str:
        return "table_only" if self.env_setup.get(CUBES_TABLE_ONLY) else "shuffle"


def read_experiment(path: Path | str) -> Experiment:
    """Strictly: an unknown key, part or behaviour, a missing file or a wrong type is refused by name."""
    where = f"experiment {path}"
    found, _ = parse(Experiment, read_json(path, "experiment"), where)
    try:
        facts.setup_states(found.setup, np.random.default_rng(0))
        for name in found.behaviors or ():
            facts.behavior_named(name)
    except (UserError, TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error
    if not isinstance(found.env_setup.get(CUBES_TABLE_ONLY, False), bool):
        raise UserError(f"{where}: env_setup.{CUBES_TABLE_ONLY} must be true or false")
    if found.loc_target is not None and (len(found.loc_target) != 3 or not np.isfinite(found.loc_target).all()):
        raise UserError(f"{where}: loc_target must be three finite numbers, metres, not {list(found.loc_target)}")
    if found.use_neg and found.neg_examples is None:
        raise UserError(f"{where}: use_neg is true, but neg_examples names no file")
    files = {name: getattr(found, name) for name in ("pos_examples", "neg_examples", "reset_poses") if getattr(found, name) is not None}
    absolute = {name: str((Path(path).parent / file).resolve()) for name, file in files.items()}
    for name, file in absolute.items():
        existing_file(file, f"{where}: {name}")
    return replace(found, **absolute)  # type: ignore[arg-type]  # all three are paths


def read_poses(path: Path | str) -> list[Array]:
    """Robot states to start from, in the published format (`retrieve_initial_robot_states.py`)."""
    content = read_json(path, "robot states")
    states = content.get("robot_states") if isinstance(content, dict) else None
    if not isinstance(states, list) or not states:
        raise UserError(f"{path} has no list `robot_states`")
    return [facts.checked_proprio(state) for state in states]


def labels_of(path: Path | str) -> tuple[str, ...]:
    """The behaviours that a file of conditions shows, each once; a lifted cube is a displaced one to the detector that ends rollouts."""
    with EpisodeFile(path) as file:
        names = [str(file.attrs(name).get("behavior", "")) for name in file.names]
    ended_by = [f"{name.partition('_')[0]}_displace" if name.endswith("_lift") else name for name in names]
    return tuple(dict.fromkeys(name for name in ended_by if name in facts.BEHAVIORS))


@dataclass(frozen=True)
class Aim:
    """What counts as success: something wanted happened first, or, with nothing wanted, anything that is not unwanted."""

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    @staticmethod
    def of(experiment: Experiment) -> "Aim":
        wanted = experiment.behaviors or (labels_of(experiment.pos_examples) if experiment.pos_examples else ())
        return Aim(wanted, labels_of(experiment.negative) if experiment.negative else ())

    def reached(self, behaviors: Sequence[str]) -> bool:
        if self.wanted:
            return any(name in self.wanted for name in behaviors)
        return bool(behaviors) and not any(name in self.unwanted for name in behaviors)


class ExperimentEnv(gym.Wrapper[Any, Any, Any, Any]):
    """The play table, started as an experiment says; the seed of a reset fixes scene, cubes, start pose and goal.

    goals        camera -> images, of which each episode shows one as goal/CAMERA (a goal-conditioned policy looks at it)
    scene_seed   all episodes in the scene and pose of this seed; their own seeds then only draw the policy's noise
    shown        cameras that `render` puts side by side
    info["success"] says whether the aim was reached; info["details"]["scene"] how the parts stood at the start.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        experiment: Experiment,
        aim: Aim,
        *,
        goals: Mapping[str, Array] = MappingProxyType({}),
        scene_seed: int | None = None,
        shown: Sequence[str] = (facts.THIRD_PERSON,),
    ) -> None:
        super().__init__(env)
        self._experiment, self._aim, self._goals, self._scene_seed, self._shown = experiment, aim, dict(goals), scene_seed, shown
        self._poses = read_poses(experiment.reset_poses) if experiment.reset_poses else None
        self._goal: dict[str, Array] = {}
        self._details: dict[str, Any] = {}
        spaces = dict(env.observation_space.spaces)  # type: ignore[attr-defined]
        spaces |= {GOAL + camera: gym.spaces.Box(0, 255, images.shape[1:], np.uint8) for camera, images in self._goals.items()}
        self.observation_space = gym.spaces.Dict(spaces)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        number = self._number(seed)
        asked = {"setup": self._experiment.setup, "cubes": self._experiment.cubes, "robot": self._pose(number)}
        obs, info = self.env.reset(seed=number, options={**(options or {}), **asked})
        rng = np.random.default_rng(mixed(number, _GOAL))
        self._goal = {GOAL + camera: images[rng.integers(len(images))] for camera, images in self._goals.items()}
        self._details = {"scene": facts.binary(self.unwrapped.states)}  # type: ignore[attr-defined]
        return {**obs, **self._goal}, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = super().step(action)
        success = self._aim.reached(info.get("behaviors", ()))
        return {**obs, **self._goal}, float(success), terminated, truncated, {**info, "success": success, "details": self._details}

    def render(self) -> Any:
        play_table: Any = self.unwrapped
        size = facts.CAMERAS[facts.THIRD_PERSON].size
        return np.concatenate([play_table.painter.picture(play_table.world, camera, size) for camera in self._shown], axis=1)

    def _number(self, seed: int | None) -> int:
        if self._scene_seed is not None:
            return self._scene_seed
        return int(self.np_random.integers(2**31)) if seed is None else seed

    def _pose(self, number: int) -> Any:
        if self._poses is None:
            return "random"
        return self._poses[np.random.default_rng(mixed(number, _POSE)).integers(len(self._poses))]


def make_experiment(
    env_meta: dict[str, Any],
    experiment: Experiment,
    *,
    goals: Mapping[str, Array] = MappingProxyType({}),
    scene_seed: int | None = None,
    shown: Sequence[str] = (facts.THIRD_PERSON,),
    **overrides: Any,
) -> ExperimentEnv:
    """The environment that a policy's data came from, under an experiment; an episode ends when the detector sees a behaviour."""
    if env_meta.get("env_name") not in names_of(PLAY_TABLE):
        raise UserError(f"an experiment on the play table needs a policy for it, not one for {env_meta.get('env_name')}")
    env = make_env(env_meta, end_on="behavior", render_mode="rgb_array", **overrides)
    return ExperimentEnv(env, experiment, Aim.of(experiment), goals=goals, scene_seed=scene_seed, shown=shown)


def goal_images(experiment: Experiment, cameras: Sequence[str], folder: Path | None = None) -> dict[str, Array]:
    """Goals for a goal-conditioned policy, camera -> (image, height, width, 3): the PNGs of a folder, or the last frames of pos_examples."""
    if folder is not None:
        if len(cameras) != 1:
            raise UserError(f"--goal_dir gives pictures of one camera, the policy's goals have {len(cameras)}: {', '.join(cameras)}")
        return {cameras[0]: _pictures(folder)}
    if experiment.pos_examples is None:
        raise UserError("a goal-conditioned policy needs goals: name a folder with --goal_dir, or pos_examples in the experiment")
    with EpisodeFile(experiment.pos_examples) as file:
        missing = [camera for camera in cameras if camera not in file.obs_shapes]
        if missing:
            raise UserError(f"{experiment.pos_examples} has no pictures of {missing[0]!r}, which the policy's goals show")
        return {camera: file.last_frames(camera) for camera in cameras}


def _pictures(folder: Path) -> Array:
    import imageio.v3 as iio

    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise UserError(f"--goal_dir {folder} has no PNG files")
    try:
        images = [np.asarray(iio.imread(path))[..., :3] for path in paths]
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"--goal_dir {folder}: cannot read its pictures ({error})") from error
    if len({image.shape for image in images}) != 1 or images[0].ndim != 3:
        raise UserError(f"--goal_dir {folder}: its pictures have different sizes: {sorted({image.shape for image in images})}")
    return np.stack(images)
