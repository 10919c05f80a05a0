"""Collect scripted BlockTouch episodes: an agent reaches for one of four coloured squares.

Writes an HDF5 file in robomimic's schema with one label an episode (attribute `behavior`, observation `label`), a JSON file with counts and speed,
and, with --video_path, an MP4 of the first episodes. The same seed gives the same episodes, whatever the number of processes.
Training and validation data need different seeds, so that no layout is in both.
"""

import argparse
import logging
import os
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynaguide.cli import add_seed, parser, run
from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError, unknown_name
from dynaguide.files import writable_folder, write_json
from dynaguide.progress import bar
from dynaguide.recorders import Video
from dynaguide.results import EpisodeResult
from dynaguide.rollout import FinishedEpisode, StepRecord
from dynaguide_robomimic.envs.block_touch.collect import Collected, Collection, Tally, rollouts, write_episode
from dynaguide_robomimic.envs.block_touch.env import IMAGE_SIZE, RENDER_SIZE
from dynaguide_robomimic.envs.block_touch.env_config import env_meta, read_env_config
from dynaguide_robomimic.envs.block_touch.render import Picture
from dynaguide_robomimic.envs.block_touch.scripted import PATHS
from dynaguide_robomimic.envs.block_touch.world import LAYOUTS

HERE = Path(__file__).parent
CAMERAS = ["image"]
VIDEO_EPISODES = 8


def main(argv: Sequence[str] | None = None) -> None:
    made = parser(
        __doc__,
        example="python toy_squares_experiment/collect_scripted_data_pymunk.py --output_folder results/block_touch/train --n_rollouts 40000 \\\n"
        "      --dataset_obs --keep_only_successful --repeat_environment --image_size 64",
    )
    _add_outputs(made)
    made.add_argument("--n_rollouts", type=int, default=1000, help="scripted episodes to try")
    made.add_argument("--horizon", type=int, default=150, help="steps after which an episode ends")
    made.add_argument("--env_config", type=Path, default=HERE / "touchcubes.json", help="the environment's configuration, in the published format")
    made.add_argument("--layout", default=argparse.SUPPRESS, help=f"{', '.join(LAYOUTS)} (default: as --env_config says, else random)")
    made.add_argument("--image_size", type=int, default=argparse.SUPPRESS, help=f"pixels a side (default: as --env_config says, else {IMAGE_SIZE})")
    made.add_argument("--path", default="detour", help=f"how the agent moves: {', '.join(PATHS)} (winding: the published curves)")
    made.add_argument(
        "--repeat_environment", action="store_true", help="play every layout once for each colour; otherwise once, for a colour at random"
    )
    made.add_argument("--keep_only_successful", action="store_true", help="leave out episodes that did not touch their target first")
    made.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes that play")
    add_seed(made)
    run(collect, made, argv)


def _add_outputs(made: argparse.ArgumentParser) -> None:
    made.add_argument("--output_folder", type=Path, required=True, help="where the files go that are not named themselves")
    made.add_argument("--dataset_path", type=Path, default=argparse.SUPPRESS, help="the episodes (default: data.hdf5 in --output_folder)")
    made.add_argument("--json_path", type=Path, default=argparse.SUPPRESS, help="counts and settings (default: config.json in --output_folder)")
    made.add_argument("--dataset_obs", action="store_true", help="store the images too; otherwise only numbers, as agent_pos and states")
    made.add_argument("--video_path", type=Path, help=f"an MP4 of the first {VIDEO_EPISODES} episodes")
    made.add_argument("--video_skip", type=int, default=5, help="every how many steps the video shows")
    made.add_argument("--camera_names", nargs="+", default=CAMERAS, help="the cameras to store; BlockTouch has one, image")


def collect(args: argparse.Namespace) -> None:
    wanted = _wanted(args)
    dataset = getattr(args, "dataset_path", args.output_folder / "data.hdf5")
    report = getattr(args, "json_path", args.output_folder / "config.json")
    writable_folder(report.parent)
    began, tally = time.perf_counter(), Tally()
    meta = env_meta(image_size=wanted.image_size, layout=wanted.layout)
    film = closing(Video(args.video_path)) if args.video_path else nullcontext()
    with film as video, EpisodeWriter(dataset, meta) as writer:
        for rollout in bar(rollouts(wanted, processes=args.processes), total=wanted.rollouts, name="collecting", unit="episode"):
            kept = rollout.play.successful or not args.keep_only_successful
            tally.add(rollout.play, kept=kept)
            if kept:
                write_episode(writer, rollout)
            if kept and video is not None and len(writer) <= VIDEO_EPISODES:
                video.finished(_shown(rollout, every=args.video_skip))
        if not len(writer):
            raise UserError(f"none of {tally.rollouts} episodes touched its target within --horizon {wanted.horizon} steps: nothing to write")
    seconds = time.perf_counter() - began
    speed = {"seconds": round(seconds, 1), "episodes_per_second": round(tally.rollouts / seconds, 1), "processes": args.processes}
    settings = {**asdict(wanted), "keep_only_successful": args.keep_only_successful}
    write_json(report, {"dataset": str(dataset), **tally.summary(), **speed, "env_meta": meta, "settings": settings})
    logging.info("%d of %d episodes kept in %s (%.0f a second); counts in %s", len(writer), tally.rollouts, dataset, tally.rollouts / seconds, report)


def _wanted(args: argparse.Namespace) -> Collection:
    for camera in args.camera_names:
        if camera not in CAMERAS:
            raise unknown_name("camera", camera, CAMERAS)
    if args.video_skip < 1:
        raise UserError(f"--video_skip must be at least 1, not {args.video_skip}")
    env: dict[str, Any] = {**read_env_config(args.env_config), **{key: getattr(args, key) for key in ("layout", "image_size") if hasattr(args, key)}}
    return Collection(
        rollouts=args.n_rollouts,
        seed=args.seed,
        layout=env.get("layout", "random"),
        image_size=env.get("image_size", IMAGE_SIZE),
        every_target=args.repeat_environment,
        path=args.path,
        horizon=args.horizon,
        with_images=args.dataset_obs,
    )


def _shown(rollout: Collected, *, every: int) -> FinishedEpisode:
    """The episode as a video recorder takes it: every so many steps, and the end."""
    played = rollout.play
    steps = [*range(0, len(played.actions), every), len(played.actions)]
    frames = Picture(played.layout, RENDER_SIZE, samples=4).frames(played.positions[steps])
    result = EpisodeResult(rollout.layout_seed, len(played.actions), 0.0, float(played.touched is not None), played.successful)
    return FinishedEpisode(result, [StepRecord({}, played.actions[0], 0.0, False, frame) for frame in frames])


if __name__ == "__main__":
    main()
