"""Collect robot states to start rollouts from, out of play: {"robot_states": [[15 numbers], ...]}, the published format.

Taken from the first frame or the middle of each episode, and kept where the gripper hovers above the table: between --low and --high, and, if wanted,
to the right of --left_end. They get an open, empty hand.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynaguide import cli
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import write_json
from dynaguide_calvin import scene as facts


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python data_processing_calvin/retrieve_initial_robot_states.py --dataset valid.hdf5 --output robot_states_midpoint.json"
    )
    made.add_argument("--dataset", type=Path, required=True, help="episodes with the observation `proprio`")
    made.add_argument("--output", type=Path, required=True)
    made.add_argument("--where", choices=["start", "middle"], default="middle", help="of each episode")
    made.add_argument("--low", type=float, default=float(facts.START_LOW[2]), help="lowest height of the gripper, metres")
    made.add_argument("--high", type=float, default=float(facts.START_HIGH[2]), help="highest")
    made.add_argument("--left_end", type=float, help="smallest x; 0 keeps the right side of the table")
    made.add_argument("--most", type=int, help="states at most, evenly over the file")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    states = []
    with EpisodeFile(args.dataset) as file:
        shape = file.obs_shapes.get("proprio")
        if shape != (facts.PROPRIO,):
            raise UserError(f"{args.dataset} has no `proprio` of {facts.PROPRIO} numbers (found: {', '.join(file.obs_shapes)})")
        for name, length in zip(file.names, file.lengths, strict=True):
            states.append(np.array(file.read(name, "proprio", 0 if args.where == "start" else int(length) // 2), float))
    everything = np.array(states)
    heights, left = everything[:, facts.TCP][:, 2], everything[:, 0]
    keep = (heights >= args.low) & (heights <= args.high)
    if args.left_end is not None:
        keep &= left >= args.left_end
    chosen = everything[keep]
    chosen[:, facts.WIDTH], chosen[:, facts.LAST_GRIPPER] = facts.OPEN_WIDTH, 1.0  # rollouts start with an open, empty hand
    if args.most is not None and len(chosen) > args.most:
        chosen = chosen[np.linspace(0, len(chosen) - 1, args.most).round().astype(int)]
    if not len(chosen):
        raise UserError(f"no state of {args.dataset} lies between {args.low} and {args.high} m: nothing to write")
    write_json(args.output, {"robot_states": chosen.tolist()})
    logging.info("%d of %d states in %s", len(chosen), len(everything), args.output)


if __name__ == "__main__":
    main()
