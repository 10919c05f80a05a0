"""Cut a CALVIN recording (public, or made by collect_scripted_play.py --stretches) into labelled episodes, one behaviour each: HDF5.

Frames that are missing or broken are skipped, counted and reported. Segments in which nothing was carried through (`other`) are left out unless
--keep_other is given.
"""

import logging
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dynaguide import cli
from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError
from dynaguide.progress import bar
from dynaguide_calvin.detector import OTHER, counted
from dynaguide_calvin.recordings import Recording


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python data_processing_calvin/calvin_to_labeled_hdf5.py --calvin_path task_D_D/training --output_path results/play.hdf5"
    )
    made.add_argument("--calvin_path", type=Path, required=True, help="a folder with episode_*.npz and ep_start_end_ids.npy")
    made.add_argument("--output_path", type=Path, required=True, help="the labelled episodes")
    made.add_argument("--shortest", type=int, default=0, help="leave out segments of fewer frames")
    made.add_argument("--longest", type=int, default=1000, help="leave out segments of more frames")
    made.add_argument("--keep_other", action="store_true", help="keep segments without a behaviour too, labelled `other`")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    recording = Recording(args.calvin_path)
    names = []
    with EpisodeWriter(args.output_path, recording.env_meta) as writer:
        for segment in bar(recording.segments(), total=None, name="cutting", unit="segment"):
            names.append(segment.behavior)
            fits = args.shortest <= len(segment.actions) <= args.longest
            if fits and (segment.behavior != OTHER or args.keep_other):
                writer.add(segment.actions, segment.observations, behavior=segment.behavior, first_frame=segment.first)
        kept = len(writer)
        if not kept:
            raise UserError(
                f"{args.calvin_path}: no behaviour in {len(recording.stretches)} stretches of play ({len(recording.lost)} frames are lost)"
            )
    if recording.lost:
        logging.warning("%d frames are missing or broken and were skipped, as %d", len(recording.lost), recording.lost[0])
    logging.info("%d of %d segments in %s: %s", kept, len(names), args.output_path, _told(names))


def _told(names: list[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(counted(names)).items() if count)


if __name__ == "__main__":
    main()
