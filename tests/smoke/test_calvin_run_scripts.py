"""Steered rollouts on the play table from the command line, with untrained models: every method, what it leaves behind, and what it refuses."""

import json
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from worlds import tiny

from dynaguide.chunks import Windows
from dynaguide.dynamics import DynamicsConfig
from dynaguide.encoders.patches import PatchEncoder, PatchEncoderConfig
from dynaguide.episodes import EpisodeFile, EpisodeWriter
from dynaguide.errors import UserError
from dynaguide.noising import ChunkNoise
from dynaguide.outcome_training import new_dynamics
from dynaguide.outcomes import save_dynamics
from dynaguide_calvin.experiments import Experiment, make_experiment
from dynaguide_calvin.render import painter
from dynaguide_robomimic.checkpoints import save_policy
from dynaguide_robomimic.config import config_from
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes
from published import dynamics_checkpoint, needs_golden, policy_checkpoint
from scripts import mistake, script

META = {"env_name": "PlayTable", "type": 2, "env_kwargs": {"cameras": {"third_person": 16, "eye_in_hand": 16}, "renderer": "tiny"}}
IMAGES = {"eye_in_hand": (3, 16, 16), "third_person": (3, 16, 16)}
SHORT = ["--n_rollouts", "3", "--horizon", "20", "--n_envs", "2", "--device", "cpu"]


def policy_file(path: Path, *, goal: bool = False, action: int = 7, **changes) -> Path:
    torch.manual_seed(0)
    goals = {"observation.modalities.goal": {"rgb": ["third_person"]}, "train.goal_mode": "last"} if goal else {}
    modalities = {"obs": {"low_dim": ["proprio"], "rgb": ["eye_in_hand", "third_person"]}}
    config = config_from(tiny(**{"observation.modalities": modalities, "algo.ddim.num_inference_timesteps": 3, **goals, **changes}), "test")
    shapes = Shapes(action, {"eye_in_hand": IMAGES["eye_in_hand"], "proprio": (15,), "third_person": IMAGES["third_person"]}, {})
    if goal:
        shapes = Shapes(action, shapes.obs, {"third_person": IMAGES["third_person"]})
    save_policy(path, DiffusionPolicy(config, shapes), META)
    return path


def dynamics_file(path: Path, *, decoder: int | None = 8, **changes) -> Path:
    torch.manual_seed(1)
    encoder = PatchEncoder(PatchEncoderConfig(16, (4, 8)))
    config = DynamicsConfig(
        **{
            "cameras": ("third_person", "eye_in_hand"), "action_dim": 7, "picture_sizes": ((16, 16), (16, 16)),
            "tokens": encoder.count, "features": encoder.width, "proprio_key": "proprio", "proprio_dim": 15,
            "windows": Windows(2, 16, -1, outcome="last"), "noise": ChunkNoise(), "renderer": "tiny",
            "width": 16, "layers": 1, "heads": 2, "feed_forward": 16, **changes,
        }
    )  # fmt: skip
    save_dynamics(path, new_dynamics(config, encoder, decoder_width=decoder, env_meta=META))
    return path


def conditions_file(path: Path, behavior: str, meta=META, count: int = 2) -> Path:
    env = make_experiment(meta, Experiment())
    with EpisodeWriter(path, meta) as writer:
        for seed in range(count):
            obs, _ = env.reset(seed=seed)
            writer.add(np.zeros((1, 7), np.float32), {key: np.asarray(value)[None] for key, value in obs.items()}, behavior=behavior)
    env.close()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    policy_file(folder / "policy.safetensors")
    policy_file(folder / "gc.safetensors", goal=True)
    dynamics_file(folder / "dynamics.safetensors")
    conditions_file(folder / "switch_on.hdf5", "switch_on")
    experiment = {"env_setup": {"switch": 0}, "pos_examples": "switch_on.hdf5", "loc_target": [0.28, 0.02, 0.57], "scale": 0.5, "alpha": 3}
    (folder / "switch_on.json").write_text(json.dumps(experiment))
    return folder


def flags(folder: Path, output: str, agent: str = "policy", guidance: bool = True) -> list[str]:
    given = ["--agent", str(folder / f"{agent}.safetensors"), "--exp_setup_config", str(folder / "switch_on.json")]
    given += ["--guidance", str(folder / "dynamics.safetensors")] if guidance else []
    return [*given, "--output_folder", str(folder / output), *SHORT]


def results(folder: Path, output: str) -> dict:
    return json.loads((folder / output / "results.json").read_text())


def behaviours(folder: Path, output: str) -> list:
    return [(one["seed"], one["length"], one["behaviors"]) for one in results(folder, output)["episodes"]]


def test_dynaguide_leaves_results_episodes_a_video_and_collages(folder, capsys):
    output = folder / "steered"
    written = ["--video_path", output / "video.mp4", "--dataset_path", output / "rollouts.hdf5", "--dataset_obs", "--save_frames"]
    script("run_dynaguide.py").main([*flags(folder, "steered"), *map(str, written), "--camera_names", "third_person", "eye_in_hand"])
    found = results(folder, "steered")
    assert found["Num_Episode"] == 3 and found["config"]["arm"] == "dynaguide"
    assert (found["config"]["scale"], found["config"]["alpha"], found["config"]["ss"]) == (0.5, 3, 4)  # the experiment's, the published one
    with EpisodeFile(output / "rollouts.hdf5") as file:
        assert len(file.names) == 3 and file.obs_shapes["third_person"] == (16, 16, 3)
    frames = imageio.mimread(output / "video.mp4", memtest=False)
    assert frames[0].shape == (200, 604, 3) and len(frames) > 10  # two cameras, and the expected outcome
    assert {path.name for path in (output / "frames").glob("*.png")} == {f"episode_{seed}.png" for seed in range(3)}
    assert "ms an episode" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arm", "name", "more"),
    [
        ("base", "run_dynaguide.py", ["--scale", "0"]),
        ("position", "run_dynaguide.py", ["--direct_position_guidance", "--scale", "3"]),
        ("sampling", "run_sampling_baseline.py", ["--num_samples", "2"]),
    ],
)
def test_the_other_methods_go_by_the_same_loop(folder, arm, name, more):
    script(name).main([*flags(folder, arm), *more])
    assert results(folder, arm)["config"]["arm"] == arm and results(folder, arm)["Num_Episode"] == 3


def test_a_goal_conditioned_policy_is_shown_goals(folder):
    script("run_dynaguide.py").main(flags(folder, "gc", agent="gc", guidance=False))
    assert results(folder, "gc")["config"]["arm"] == "goal_conditioned"
    script("data_processing_calvin/generate_goal_images.py").main(
        ["--dataset", str(folder / "switch_on.hdf5"), "--output_folder", str(folder / "goals")]
    )
    script("run_dynaguide.py").main([*flags(folder, "gc_images", agent="gc", guidance=False), "--goal_dir", str(folder / "goals")])
    assert behaviours(folder, "gc_images") == behaviours(folder, "gc")  # the same goals, from pictures


def test_batch_and_single_give_the_same_episodes(folder):
    recorded = {}
    for count in ("1", "3"):
        path = folder / f"rows_{count}.hdf5"
        script("run_dynaguide.py").main([*flags(folder, f"rows_{count}"), "--n_envs", count, "--dataset_path", str(path)])
        with EpisodeFile(path) as file:
            recorded[count] = {int(file.attrs(name)["seed"]): file.actions(name) for name in file.names}
    assert recorded["1"].keys() == recorded["3"].keys()
    for seed, actions in recorded["1"].items():
        np.testing.assert_allclose(actions, recorded["3"][seed], atol=2e-4)


def test_no_guidance_at_all_and_no_scale_are_the_same(folder):
    script("run_dynaguide.py").main(flags(folder, "alone", guidance=False))
    script("run_dynaguide.py").main([*flags(folder, "zero"), "--scale", "0"])
    assert behaviours(folder, "alone") == behaviours(folder, "zero")


def test_the_plain_rollout_script_runs_the_same_policy(folder):
    out = folder / "plain.json"
    script("run_trained_agent.py").main(["--agent", str(folder / "policy.safetensors"), "--json_path", str(out), *SHORT])
    assert json.loads(out.read_text())["Num_Episode"] == 3


def test_runs_are_analysed(folder, capsys):
    script("run_dynaguide.py").main([*flags(folder, "a1"), "--dataset_path", str(folder / "a1" / "rollouts.hdf5")])
    script("run_sampling_baseline.py").main(flags(folder, "a2"))
    capsys.readouterr()
    runs = [folder / "a1" / "results.json", folder / "a2" / "results.json", folder / "a1" / "rollouts.hdf5"]
    script("analyze_calvin_touch.py").main([*map(str, runs), "--markdown", str(folder / "table.md"), "--json_path", str(folder / "table.json")])
    said = capsys.readouterr().out
    assert "dynaguide" in said and "sampling" in said and "recorded" in said
    assert (folder / "table.md").read_text().startswith("| aim reached | dynaguide | sampling |")
    entries = json.loads((folder / "table.json").read_text())
    assert [entry["method"] for entry in entries] == ["dynaguide", "sampling", "recorded"]
    assert entries[0]["behaviors"] == entries[2]["behaviors"]


def run_mistake(capsys, folder, *more, base=None, name="run_dynaguide.py") -> str:
    return mistake(capsys, name, *(flags(folder, "wrong") if base is None else base), *more)


def test_models_that_do_not_fit_are_refused(folder, capsys, tmp_path):
    small = policy_file(
        tmp_path / "short.safetensors", **{"train.seq_length": 7, "algo.horizon.prediction_horizon": 8, "algo.horizon.action_horizon": 4}
    )
    assert "reads chunks of 16 actions" in run_mistake(capsys, folder, "--agent", small)
    six = dynamics_file(tmp_path / "six.safetensors", action_dim=6)
    assert "takes 6 numbers an action" in run_mistake(capsys, folder, "--guidance", six)
    large = dynamics_file(tmp_path / "large.safetensors", picture_sizes=((32, 32), (16, 16)))
    assert "pictures of 'third_person' of 32x32" in run_mistake(capsys, folder, "--guidance", large)
    other = dynamics_file(tmp_path / "other.safetensors", cameras=("fisheye", "third_person"))
    assert "camera 'fisheye'" in run_mistake(capsys, folder, "--guidance", other)
    gl = dynamics_file(tmp_path / "gl.safetensors", renderer="gl")
    assert "renderer 'tiny'" in run_mistake(capsys, folder, "--guidance", gl)
    blind = dynamics_file(tmp_path / "blind.safetensors", decoder=0)
    assert "without a picture decoder" in run_mistake(capsys, folder, "--guidance", blind, "--save_frames")


def test_conditions_of_another_renderer_are_refused(folder, capsys, tmp_path):
    drawn = {**META, "env_kwargs": {**META["env_kwargs"], "renderer": "gl"}}
    with EpisodeFile(folder / "switch_on.hdf5") as file, EpisodeWriter(tmp_path / "gl.hdf5", drawn) as writer:
        for name in file.names:
            writer.copy(file, name)
    (tmp_path / "gl.json").write_text(json.dumps({"pos_examples": "gl.hdf5"}))
    assert "renderer 'gl'" in run_mistake(capsys, folder, "--exp_setup_config", tmp_path / "gl.json")


def test_flags_that_make_no_sense_are_refused(folder, capsys, tmp_path):
    (tmp_path / "plain.json").write_text("{}")
    assert "loc_target" in run_mistake(capsys, folder, "--exp_setup_config", tmp_path / "plain.json", "--direct_position_guidance")
    assert "pos_examples" in run_mistake(capsys, folder, "--exp_setup_config", tmp_path / "plain.json")
    assert "takes no goals" in run_mistake(capsys, folder, "--goal_dir", tmp_path)
    assert "camera" in run_mistake(capsys, folder, "--camera_names", "front")
    assert "sigma" in run_mistake(capsys, folder, "--alpha", "0")
    assert "--free_steps must be at least 0" in run_mistake(capsys, folder, "--free_steps", "-1")
    assert "between 1 and 15" in run_mistake(capsys, folder, "--replan_every", "16")
    assert "--num_samples must be at least 1" in run_mistake(capsys, folder, "--num_samples", "0", name="run_sampling_baseline.py")
    (tmp_path / "file").write_text("")
    assert "file" in run_mistake(capsys, folder, "--video_path", tmp_path / "file" / "video.mp4")
    assert not (folder / "wrong" / "results.json").exists()


def test_an_interrupted_run_keeps_what_it_finished(folder, monkeypatch):
    from dynaguide import recorders

    seen = []

    def interrupt(self, episode):
        seen.append(episode.result.seed)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(recorders.Progress, "finished", interrupt)
    path = folder / "cut" / "rollouts.hdf5"
    with pytest.raises(SystemExit) as stopped:
        script("run_dynaguide.py").main([*flags(folder, "cut"), "--dataset_path", str(path)])
    assert stopped.value.code == 130
    assert [one["seed"] for one in results(folder, "cut")["episodes"]] == sorted(seen)
    with EpisodeFile(path) as file:
        assert len(file.names) == 2


@needs_golden
@pytest.mark.xdist_group("golden")
def test_published_checkpoints_run_from_the_same_command(tmp_path):
    """Full size, with the golden values' weights; reduced to one decision of two denoising steps."""
    agent, dynamics = policy_checkpoint(tmp_path / "policy.pth"), dynamics_checkpoint(tmp_path / "dynamics.pth")
    conditions_file(tmp_path / "door_left.hdf5", "door_left", meta={"env_name": "PlayTable", "type": 1, "env_kwargs": {"renderer": "tiny"}}, count=1)
    (tmp_path / "door_left.json").write_text(json.dumps({"env_setup": {"sliding_door": 0}, "pos_examples": "door_left.hdf5"}))
    given = ["--agent", agent, "--guidance", dynamics, "--exp_setup_config", tmp_path / "door_left.json", "--output_folder", tmp_path / "out"]
    short = ["--n_rollouts", 1, "--horizon", 14, "--inference_steps", 2, "--ss", 1, "--embed", "dynamics", "--published_clamp", "--device", "cpu"]
    script("run_dynaguide.py").main([str(flag) for flag in (*given, *short, "--save_frames", "--video_path", tmp_path / "out" / "video.mp4")])
    found = results(tmp_path, "out")
    assert (found["config"]["scale"], found["config"]["ss"], found["config"]["alpha"]) == (1.5, 1, 30.0) and found["Num_Episode"] == 1
    assert (tmp_path / "out" / "frames" / "episode_0.png").exists()


def has_gl() -> bool:
    try:
        painter("gl")
    except UserError:
        return False
    return True


@pytest.mark.skipif(not has_gl(), reason="no EGL on this machine, which the models' pictures were drawn with")
def test_the_demonstration_runs_on_the_models_that_ship(tmp_path, capsys):
    script("paper_experiments/calvin_demo.py").main(["--episodes", "2", "--output", str(tmp_path / "demo"), "--device", "cpu"])
    assert "switch_on" in capsys.readouterr().out
    assert len(np.unique(imageio.imread(tmp_path / "demo" / "steering.png").reshape(-1, 4), axis=0)) > 100
    for name in ("unsteered", "steered"):
        assert json.loads((tmp_path / "demo" / name / "results.json").read_text())["Num_Episode"] == 2
        assert len(imageio.mimread(tmp_path / "demo" / name / "video.mp4", memtest=False)) > 10


def test_the_demonstration_says_what_is_missing(tmp_path, capsys):
    said = mistake(capsys, "paper_experiments/calvin_demo.py", "--target", "make_tea", "--agent", policy_file(tmp_path / "policy.safetensors"))
    assert "no such experiment" in said or "is not there" in said
    assert "make calvin-train" not in mistake(capsys, "paper_experiments/calvin_demo.py", "--target", "make_tea")
    assert "calvin-train" in mistake(capsys, "paper_experiments/calvin_demo.py", "--agent", tmp_path / "absent.safetensors")
