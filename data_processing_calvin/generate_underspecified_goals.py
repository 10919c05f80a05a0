"""Goals that leave most of the picture open (the paper's experiment 3): one part is set as wanted, everything else and the robot are random.

Writes episodes of one frame, labelled with the behaviour, that serve as guidance conditions like any others.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynaguide import cli
from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError, unknown_name
from dynaguide.progress import bar
from dynaguide.randomness import mixed
from dynaguide_calvin import scene as facts
from dynaguide_calvin.env import PlayTableEnv
from dynaguide_calvin.experiments import read_poses

PARTS = {"button": "green_light", "switch": "switch", "drawer": "drawer", "door": "sliding_door"}
HIGH = ("on", "open", "left")


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__,
        example="python data_processing_calvin/generate_underspecified_goals.py --behavior drawer_open --output conditions/drawer_open.hdf5",
    )
    made.add_argument("--behavior", required=True, help=", ".join(facts.ARTICULATED))
    made.add_argument("--output", type=Path, required=True)
    made.add_argument("--count", type=int, default=20)
    made.add_argument("--reset_poses", type=Path, help="robot states to draw from (retrieve_initial_robot_states.py); random poses otherwise")
    made.add_argument("--scene", default="D", help="A, B, C or D")
    made.add_argument("--third_person", type=int, default=200, help="pixels a side, as the dynamics model's")
    made.add_argument("--eye_in_hand", type=int, default=84, help="pixels a side")
    made.add_argument("--renderer", default="auto", help="gl, tiny, or auto")
    made.add_argument("--assets", help="a folder with the public CALVIN files; the primitives otherwise")
    cli.add_seed(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    if args.behavior not in facts.ARTICULATED:
        raise unknown_name("articulated behaviour", args.behavior, list(facts.ARTICULATED))
    if args.count < 1:
        raise UserError(f"--count must be at least 1, not {args.count}")
    poses = read_poses(args.reset_poses) if args.reset_poses else None
    part, _, way = args.behavior.partition("_")
    setup = {PARTS[part]: way in HIGH}
    cameras = {facts.THIRD_PERSON: args.third_person, facts.EYE_IN_HAND: args.eye_in_hand}
    env = PlayTableEnv(scene=args.scene, cameras=cameras, renderer=args.renderer, assets=args.assets)
    with EpisodeWriter(args.output, env.env_meta()) as writer:
        for number in bar(range(args.count), total=args.count, name=args.behavior, unit="goal"):
            seed = mixed(args.seed, number)
            robot = "random" if poses is None else poses[np.random.default_rng(seed).integers(len(poses))]
            env.images = False
            env.reset(seed=seed, options={"setup": setup, "robot": robot})
            obs = {key: np.asarray(value)[None] for key, value in env.observe().items()}
            writer.add(np.append(np.zeros((1, facts.ACTIONS - 1), np.float32), [[1.0]], axis=1), obs, behavior=args.behavior, underspecified=True)
    env.close()
    logging.info("%d goals in %s", args.count, args.output)


if __name__ == "__main__":
    main()
