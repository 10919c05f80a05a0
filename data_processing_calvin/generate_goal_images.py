"""The last frame of every episode as a PNG: goals for the goal-conditioned baseline (run_dynaguide.py --goal_dir)."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio

from dynaguide import cli
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, written_whole


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python data_processing_calvin/generate_goal_images.py --dataset conditions/button_on.hdf5 --output_folder goals/button_on"
    )
    made.add_argument("--dataset", type=Path, required=True)
    made.add_argument("--output_folder", type=Path, required=True)
    made.add_argument("--camera", default="third_person")
    made.add_argument("--count", type=int, help="of the first episodes; of all if not given")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    writable_folder(args.output_folder)
    with EpisodeFile(args.dataset) as file:
        if args.camera not in file.obs_shapes or not file.is_image(args.camera):
            raise UserError(f"{args.dataset} has no images under {args.camera!r} (found: {', '.join(file.obs_shapes)})")
        chosen = list(zip(file.names, file.lengths, strict=True))[: args.count]
        for name, length in chosen:
            with written_whole(args.output_folder / f"{name}.png") as temporary:
                imageio.imwrite(temporary, file.read(name, args.camera, int(length) - 1), format="png")
    logging.info("%d goals in %s", len(chosen), args.output_folder)


if __name__ == "__main__":
    main()
