"""Where the gripper is, on average, when a behaviour has come about: `loc_target` of an experiment, for position guidance.

Prints the position, and with --config puts it into that experiment's JSON file.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynaguide import cli
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import read_json, write_json
from dynaguide_calvin import scene as facts


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python data_processing_calvin/generate_goal_positions.py --dataset conditions/button_on.hdf5 --config my_button_on.json"
    )
    made.add_argument("--dataset", type=Path, required=True, help="episodes that end in the behaviour")
    made.add_argument("--config", type=Path, help="an experiment's JSON file to put it into")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    with EpisodeFile(args.dataset) as file:
        if file.obs_shapes.get("proprio") != (facts.PROPRIO,):
            raise UserError(f"{args.dataset} has no `proprio` of {facts.PROPRIO} numbers (found: {', '.join(file.obs_shapes)})")
        ends = file.last_frames("proprio")[:, facts.TCP]
    target = [round(float(number), 6) for number in ends.mean(0)]
    print(target)
    logging.info("over %d episodes; standard deviation %s m", len(ends), np.round(ends.std(0), 3).tolist())
    if args.config:
        content = read_json(args.config, "experiment")
        write_json(args.config, {**content, "loc_target": target})


if __name__ == "__main__":
    main()
