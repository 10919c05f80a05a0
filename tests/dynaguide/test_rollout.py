"""Steered episodes: seeds decide, neighbours do not matter, recorders see everything."""

import json

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from toy import ToyPolicy, closeness

from dynaguide import Steering, UserError, ascend, recorders
from dynaguide.episodes import EpisodeFile
from dynaguide.rollout import ChunkStep, SteeredPolicy, rollout, vector_env

CPU = torch.device("cpu")


class Drift(gym.Env):
    """A pose that actions push; an episode ends when it leaves the unit square, or never."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Dict(
            {"proprio": gym.spaces.Box(-9, 9, (3,), np.float32), "image": gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)}
        )
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pose = self.np_random.uniform(-0.5, 0.5, 3).astype(np.float32)
        return self.observe(), {}

    def step(self, action):
        self.pose = self.pose + 0.1 * np.array([*action, 0], np.float32)
        over = bool(np.abs(self.pose[:2]).max() > 1)
        info = {"success": True, "behaviors": ("out",), "details": {"x": float(self.pose[0])}} if over else {}
        return self.observe(), float(over), over, False, info

    def observe(self):
        return {"proprio": self.pose.copy(), "image": np.full((8, 8, 3), int(100 * abs(self.pose[0])) % 255, np.uint8)}

    def render(self):
        return np.zeros((32, 32, 3), np.uint8)


def agent(**slots) -> SteeredPolicy:
    return SteeredPolicy(ToyPolicy(), ["proprio"], first=1, replan_every=3, device=CPU, steering=Steering(**slots))


def run(count: int, seeds, processes: bool = False, watching=(), record: bool = False, horizon: int = 40, **slots):
    def make() -> gym.Env:
        return ChunkStep(Drift(), history=2, steps=3, horizon=horizon, record=record, frame_every=2 if record else 0)

    envs = vector_env(make, count, processes=processes)
    try:
        return rollout(envs, agent(**slots), seeds, watching)
    finally:
        envs.close()


def plain(results):
    return [(one.seed, one.length, one.success, one.behaviors, round(one.details.get("x", 0), 5)) for one in results]


def test_an_episode_does_not_depend_on_its_neighbours():
    steered = {"guidance": ascend(closeness, 0.3)}
    alone = [run(1, [seed], **steered)[0] for seed in range(7)]
    assert plain(run(3, range(7), **steered)) == plain(alone)
    assert plain(run(5, range(7), **steered)) == plain(alone)


def test_processes_give_the_same_episodes():
    assert plain(run(2, range(5), processes=True)) == plain(run(2, range(5)))


def test_results_come_in_the_order_of_the_seeds():
    assert [one.seed for one in run(3, [8, 2, 5, 1])] == [8, 2, 5, 1]


def test_the_horizon_truncates():
    results = run(4, range(8), horizon=13)
    assert max(one.length for one in results) == 13
    assert all(one.success == (one.behaviors == ("out",)) for one in results)
    assert {one.success for one in results} == {True, False}, "this world should show both, or the test shows nothing"


def test_the_policy_sees_the_last_frames_and_executes_the_middle_of_its_chunk():
    seen = []

    class Watched(ToyPolicy):
        def given(self, obs):
            seen.append(obs["proprio"].clone())
            return super().given(obs)

    watched = SteeredPolicy(Watched(), ["proprio"], 1, 2, CPU)
    decisions = []

    class Recorder:
        def decided(self, decision):
            decisions.append(decision)

        def finished(self, episode):
            actions = np.stack([step.action for step in episode.steps])
            np.testing.assert_allclose(actions[:2], decisions[0].trace[-1].denoised[0, 1:3], rtol=1e-6)

        def close(self): ...

    envs = vector_env(lambda: ChunkStep(Drift(), history=2, steps=2, horizon=6, record=True), 1)
    rollout(envs, watched, [0], [Recorder()])
    assert torch.equal(seen[0][0, 0], seen[0][0, 1])  # the first frame stands in for the one before it
    step = seen[1][0, 1, :2] - seen[1][0, 0, :2]
    np.testing.assert_allclose(step, 0.1 * decisions[0].actions[0, 1], atol=1e-6)


def test_recorders_leave_results_episodes_video_and_traces(tmp_path):
    watching = [
        recorders.Results(tmp_path / "r.json", config={"scale": 0.3}, seed=0),
        recorders.Episodes(tmp_path / "e.hdf5", {"env_name": "Drift"}, with_obs=True),
        recorders.Video(tmp_path / "v.mp4", fps=10),
        recorders.Traces(tmp_path / "traces"),
        recorders.Progress(4, "test"),
    ]
    results = run(2, range(4), watching=watching, record=True, guidance=ascend(closeness, 0.3), candidates=2)
    for recorder in watching:
        recorder.close()
    stored = json.loads((tmp_path / "r.json").read_text())
    assert [episode["length"] for episode in stored["episodes"]] == [one.length for one in results]
    with EpisodeFile(tmp_path / "e.hdf5") as file:
        by_seed = {file.attrs(name)["seed"]: name for name in file.names}
        for one in results:
            episode = file.episode(by_seed[one.seed])
            assert len(episode.actions) == one.length
            assert episode.obs["image"].shape == (one.length, 8, 8, 3)
            moved = episode.obs["proprio"][1:, :2] - episode.obs["proprio"][:-1, :2]
            np.testing.assert_allclose(moved, 0.1 * episode.actions[:-1], atol=1e-5)
    assert iio.imread(tmp_path / "v.mp4").shape[1:] == (32, 32, 3)
    trace = np.load(tmp_path / "traces" / "episode_0_decision_0.npz")
    assert trace["guidance"].shape == trace["noisy"].shape == (10, 4, 2)
    assert trace["obs/proprio"].shape == (2, 3)


def test_results_are_kept_when_a_run_is_interrupted(tmp_path):
    class Stop:
        count = 0

        def decided(self, decision): ...

        def finished(self, episode):
            self.count += 1
            if self.count == 3:
                raise KeyboardInterrupt

        def close(self): ...

    watching = [recorders.Results(tmp_path / "r.json", config={}, seed=0), recorders.Episodes(tmp_path / "e.hdf5", {}, with_obs=False), Stop()]
    with pytest.raises(KeyboardInterrupt):
        run(2, range(8), watching=watching, record=True)
    assert json.loads((tmp_path / "r.json").read_text())["Num_Episode"] == 3
    watching[1].close()
    with EpisodeFile(tmp_path / "e.hdf5") as file:
        assert len(file) == 3


def test_error_when_the_environment_lacks_an_observation():
    envs = vector_env(lambda: ChunkStep(Drift(), history=2, steps=3, horizon=9), 1)
    blind = SteeredPolicy(ToyPolicy(), ["propio"], 1, 3, CPU)
    with pytest.raises(UserError, match="did you mean 'proprio'"):
        rollout(envs, blind, [0])


def test_error_when_more_is_to_be_executed_than_the_chunk_holds():
    with pytest.raises(UserError, match="between 1 and 3"):
        SteeredPolicy(ToyPolicy(), ["proprio"], 1, 4, CPU)


def test_error_when_the_video_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        recorders.Video(tmp_path / "file" / "v.mp4")


class DriftOnDemand(Drift):
    """Its images cost; it counts them."""

    def __init__(self, log: list) -> None:
        super().__init__()
        self.images, self.log = True, log

    def step(self, action):
        obs, *rest = super().step(action)
        return (obs if self.images else {"proprio": obs["proprio"]}, *rest)

    def observe(self):
        obs = super().observe()
        if self.images:
            self.log.append(1)
        return obs


def test_only_images_that_a_decision_sees_are_made():
    def episode(record: bool, images: bool, env: gym.Env) -> tuple[list, list]:
        seen = []

        class Watching:
            def decided(self, decision):
                seen.append(decision.frames["image"].copy())

            def finished(self, episode):
                seen.append([sorted(step.obs) for step in episode.steps])

            def close(self): ...

        policy = SteeredPolicy(ToyPolicy(), ["proprio"], first=0, replan_every=4, device=CPU)
        envs = vector_env(lambda: ChunkStep(env, history=2, steps=4, horizon=10, record=record, images=images), 1)
        results = rollout(envs, policy, [3], [Watching()])
        return seen, plain(results)

    always = episode(False, True, Drift())
    rendered: list = []
    sparse = episode(False, True, DriftOnDemand(rendered))
    assert sparse[1] == always[1]
    assert all(np.array_equal(one, other) for one, other in zip(sparse[0][:-1], always[0][:-1], strict=True))
    length = sparse[1][0][1]
    assert len(rendered) < length, (len(rendered), length)
    assert all(keys == ["image", "proprio"] for keys in episode(True, True, DriftOnDemand([]))[0][-1])
    assert ["proprio"] in episode(True, False, DriftOnDemand([]))[0][-1]
