"""Steered episodes over a Gymnasium vector environment: one loop for every method, environment and recorder.

One step of the vector environment is one decision: `ChunkStep` executes a decision's actions inside the environment's process and returns the stacked
frames that the next decision needs.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from dynaguide.errors import UserError, unknown_name
from dynaguide.randomness import generator
from dynaguide.results import EpisodeResult
from dynaguide.steering import Steering, sample_actions
from dynaguide.types import Denoiser, GuidedStep, Observation

Array = NDArray[Any]
Frames = dict[str, Array]


class StepRecord(NamedTuple):
    """One simulator step: what was seen, what was done, what came of it."""

    obs: Frames
    action: Array
    reward: float
    done: bool
    frame: Array | None  # a rendered picture, where a recorder asked for one


class Executed(NamedTuple):
    """What a decision came to: `info["executed"]` of a `ChunkStep`."""

    steps: list[StepRecord]  # empty unless recording
    length: int  # simulator steps since the reset
    info: dict[str, Any]  # the environment's own, of its last step


@runtime_checkable
class ImagesOnDemand(Protocol):
    """An environment whose images cost time: while `images` is False its `step` leaves them out; `observe` gives all of them, of now."""

    images: bool

    def observe(self) -> Frames: ...


class ChunkStep(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose action is a whole decision, (steps, action), and whose observation is the last `history` frames.

    horizon       simulator steps after which an episode is truncated
    record        keep every simulator step in info["executed"]
    images        record images too; an environment with images on demand otherwise makes only those that the next decision sees
    frame_every   render every so many simulator steps while recording; 0 never
    A decision of NaNs leaves the environment alone: a vector environment waits so for its other members.
    """

    def __init__(
        self, env: gym.Env[Any, Any], *, history: int, steps: int, horizon: int, record: bool = False, images: bool = True, frame_every: int = 0
    ) -> None:
        super().__init__(env)
        if not isinstance(env.observation_space, gym.spaces.Dict) or not isinstance(env.action_space, gym.spaces.Box):
            raise UserError(f"{env} needs a Dict observation space and a Box action space")
        self._on_demand = env.unwrapped if isinstance(env.unwrapped, ImagesOnDemand) else None
        self._every_image, self._keys = record and images, len(env.observation_space.keys())
        self._frames: deque[Frames] = deque(maxlen=history)
        self._horizon, self._record, self._frame_every = horizon, record, frame_every
        self._count = 0
        self.observation_space = gym.spaces.Dict({key: _stacked(space, history) for key, space in env.observation_space.items()})
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (steps, *env.action_space.shape), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        self._want_images(True)
        obs, info = self.env.reset(seed=seed, options=options)
        self._frames.extend([obs] * (self._frames.maxlen or 1))
        self._count = 0
        return self._stack(), info

    def step(self, action: Array) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
        records: list[StepRecord] = []
        info: dict[str, Any] = {}
        total, terminated, truncated = 0.0, False, False
        actions = self._to_execute(action)
        for left, one in zip(range(len(actions), 0, -1), actions, strict=True):
            if terminated or truncated:
                break
            self._want_images(self._every_image or left <= (self._frames.maxlen or 1))
            frame = self.env.render() if self._wants_frame() else None
            before = self._frames[-1]
            obs, reward, terminated, truncated, info = self.env.step(one)
            self._frames.append(obs)
            self._count += 1
            truncated = truncated or self._count >= self._horizon
            total += float(reward)
            if self._record:
                records.append(StepRecord(before, one, float(reward), terminated, frame))  # type: ignore[arg-type]
        if (terminated or truncated) and self._record and self._frame_every:
            records[-1] = records[-1]._replace(frame=self.env.render())  # type: ignore[arg-type]
        return self._stack(), total, terminated, truncated, {"executed": Executed(records, self._count, info)}

    def _to_execute(self, action: Array) -> Array:
        """The actions before the first with a NaN, as many as the horizon allows."""
        missing = np.isnan(action).any(axis=tuple(range(1, action.ndim)))
        given = int(np.argmax(missing)) if missing.any() else len(action)
        return action[: min(given, max(0, self._horizon - self._count))]

    def _want_images(self, wanted: bool) -> None:
        if self._on_demand is not None:
            self._on_demand.images = wanted

    def _wants_frame(self) -> bool:
        return bool(self._record and self._frame_every and self._count % self._frame_every == 0)

    def _stack(self) -> Frames:
        """The last frames. One that has no images, because the episode ended unforeseen, gets those of the end: nobody decides on them."""
        if self._on_demand is not None and any(len(frame) < self._keys for frame in self._frames):
            now = self._on_demand.observe()
            self._frames.extend([{**now, **frame} for frame in list(self._frames)])
        return {key: np.stack([frame[key] for frame in self._frames]) for key in self._frames[-1]}


def vector_env(make: Callable[[], gym.Env[Any, Any]], count: int, *, processes: bool = False) -> VectorEnv[Any, Any, Any]:
    """`count` environments side by side: in this process, or each in one of its own (worth it when a step takes longer than a message)."""
    if processes and count > 1:
        return AsyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.DISABLED)
    return SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.DISABLED)


@dataclass(frozen=True)
class SteeredPolicy:
    """A frozen policy, how it is steered, and which part of its chunk is executed.

    first          index of the chunk's action that belongs to the current frame
    replan_every   actions executed before the next decision
    obs_keys       what the policy and its steering look at
    spent          seconds of each decision, and its rows: the loop notes them
    """

    policy: Denoiser
    obs_keys: Sequence[str]
    first: int
    replan_every: int
    device: torch.device
    steering: Steering = field(default_factory=Steering)
    spent: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        longest = self.policy.action_shape[0] - self.first
        if not 1 <= self.replan_every <= longest:
            raise UserError(f"--replan_every must lie between 1 and {longest} for this policy, not {self.replan_every}")

    def decide(self, frames: Frames, rngs: list[torch.Generator]) -> tuple[Array, list[GuidedStep]]:
        """The actions to execute, (batch, replan_every, action), and every denoising step behind them."""
        trace: list[GuidedStep] = []
        began = time.perf_counter()
        chunk = sample_actions(self.policy, observation(frames, self.obs_keys, self.device), self.steering, rngs, trace.append)
        actions = chunk[:, self.first : self.first + self.replan_every].float().cpu().numpy()
        self.spent.append((time.perf_counter() - began, len(rngs)))  # the actions are on the CPU: nothing is still under way
        return actions, trace

    @property
    def seconds_per_decision(self) -> float:
        """Of one episode: a batch's seconds shared among its rows."""
        return sum(seconds for seconds, _ in self.spent) / max(1, sum(rows for _, rows in self.spent))


def observation(frames: Mapping[str, Array], keys: Sequence[str], device: torch.device) -> Observation:
    """What the environment returned as a policy sees it: images channel first."""
    for key in keys:
        if key not in frames:
            raise UserError(f"the policy needs an observation that the environment does not give: {unknown_name('observation', key, list(frames))}")
    tensors = {key: torch.as_tensor(frames[key], device=device) for key in keys}
    return {key: value.movedim(-1, -3) if value.ndim == 5 else value.float() for key, value in tensors.items()}


class Decision(NamedTuple):
    """One decision of the running episodes, in the order of `seeds`."""

    seeds: list[int]
    frames: Frames
    actions: Array
    trace: list[GuidedStep]


class FinishedEpisode(NamedTuple):
    """An episode's result and, where a recorder asked for them, all of its steps."""

    result: EpisodeResult
    steps: list[StepRecord]


@runtime_checkable
class Recorder(Protocol):
    """Watches a run: disk, video, traces and progress are recorders."""

    def decided(self, decision: Decision) -> None: ...
    def finished(self, episode: FinishedEpisode) -> None: ...
    def close(self) -> None: ...


@dataclass
class _Slot:
    """A running episode in one member of the vector environment."""

    seed: int
    rng: torch.Generator
    began: float
    total: float = 0.0
    steps: list[StepRecord] = field(default_factory=list)


def rollout(
    envs: VectorEnv[Any, Any, Any],
    agent: SteeredPolicy,
    seeds: Sequence[int],
    recorders: Sequence[Recorder] = (),
    *,
    options: dict[str, Any] | None = None,
) -> list[EpisodeResult]:
    """One episode for each seed. The seed fixes its scene and its noise, whoever runs beside it; results come in the order of the seeds."""
    run = _Rollout(envs, agent, deque(seeds), recorders, options)
    while run.slots_in_use():
        run.decide()
    return [run.results[seed] for seed in seeds]


class _Rollout:
    def __init__(
        self, envs: VectorEnv[Any, Any, Any], agent: SteeredPolicy, waiting: deque[int], recorders: Sequence[Recorder], options: dict[str, Any] | None
    ) -> None:
        self.envs, self.agent, self.waiting, self.recorders, self.options = envs, agent, waiting, recorders, options
        self.slots: list[_Slot | None] = [self._next_slot() for _ in range(envs.num_envs)]
        self.frames, _ = self._reset(options)
        self.results: dict[int, EpisodeResult] = {}

    def slots_in_use(self) -> list[int]:
        return [index for index, slot in enumerate(self.slots) if slot is not None]

    def decide(self) -> None:
        """One decision for every running episode, and its execution."""
        running = self.slots_in_use()
        slots = [slot for slot in self.slots if slot is not None]
        frames = {key: value[running] for key, value in self.frames.items()}
        actions, trace = self.agent.decide(frames, [slot.rng for slot in slots])
        for recorder in self.recorders:
            recorder.decided(Decision([slot.seed for slot in slots], frames, actions, trace))
        everyone = np.full((self.envs.num_envs, *actions.shape[1:]), np.nan, np.float32)
        everyone[running] = actions
        self.frames, rewards, terminated, truncated, infos = self.envs.step(everyone)
        for index, slot in zip(running, slots, strict=True):
            slot.total += float(rewards[index])
            executed: Executed = infos["executed"][index]
            slot.steps += executed.steps
            if terminated[index] or truncated[index]:
                self._finish(index, slot, executed)
        self._refill(terminated | truncated)

    def _finish(self, index: int, slot: _Slot, executed: Executed) -> None:
        info = executed.info
        result = EpisodeResult(
            seed=slot.seed,
            length=executed.length,
            seconds=round(time.perf_counter() - slot.began, 4),
            episode_return=slot.total,
            success=bool(info.get("success", slot.total > 0)),
            behaviors=tuple(info.get("behaviors", ())),
            details=dict(info.get("details", {})),
        )
        self.results[slot.seed] = result
        for recorder in self.recorders:
            recorder.finished(FinishedEpisode(result, slot.steps))
        self.slots[index] = self._next_slot()

    def _refill(self, over: Array) -> None:
        """Finished members start their next episode; those without one are reset all the same, as Gymnasium asks, and then left alone."""
        if over.any() and self.slots_in_use():
            self.frames, _ = self._reset({**(self.options or {}), "reset_mask": over})

    def _reset(self, options: dict[str, Any] | None) -> tuple[Frames, dict[str, Any]]:
        seeds = [slot.seed if slot else 0 for slot in self.slots]
        return self.envs.reset(seed=seeds, options=options)  # type: ignore[arg-type]  # a list is fine for a vector environment

    def _next_slot(self) -> _Slot | None:
        if not self.waiting:
            return None
        seed = self.waiting.popleft()
        return _Slot(seed, generator(seed), time.perf_counter())


def _stacked(space: gym.Space[Any], history: int) -> gym.Space[Any]:
    if not isinstance(space, gym.spaces.Box):
        raise UserError(f"observations must be boxes, not {space}")
    return gym.spaces.Box(np.stack([space.low] * history), np.stack([space.high] * history), dtype=space.dtype.type)
