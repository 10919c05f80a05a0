"""Look into a file of episodes: what is in it, how many episodes show which behaviour, how long they are, and a sheet of first and last frames."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from dynaguide import cli
from dynaguide.episodes import Array, EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import written_whole


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python data_processing_calvin/inspect_hdf5.py --dataset play.hdf5 --sheet play.png")
    made.add_argument("--dataset", type=Path, required=True)
    made.add_argument("--sheet", type=Path, help="a picture: a row for each behaviour, with the first and last frames of some episodes")
    made.add_argument("--camera", default="third_person")
    made.add_argument("--examples", type=int, default=4, help="episodes a behaviour on the sheet")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    with EpisodeFile(args.dataset) as file:
        labels = {name: str(file.attrs(name).get("behavior", "(no label)")) for name in file.names}
        lengths = dict(zip(file.names, file.lengths.tolist(), strict=True))
        print(f"{args.dataset}: {len(file)} episodes, {sum(lengths.values())} frames, {args.dataset.stat().st_size / 1e6:.1f} MB")
        print(f"environment: {file.env_meta or 'not recorded'}")
        print("observations: " + ", ".join(f"{key} {shape}" for key, shape in file.obs_shapes.items()) + f"; actions ({file.action_size},)")
        print("splits: " + (", ".join(file.splits) or "none"))
        print(f"{'behaviour':<16} {'episodes':>8}   frames: shortest, median, longest")
        for label, count in sorted(Counter(labels.values()).items()):
            own = [lengths[name] for name in labels if labels[name] == label]
            print(f"{label:<16} {count:>8}   {min(own)}, {int(np.median(own))}, {max(own)}")
        if args.sheet:
            _sheet(file, labels, args)
            print(args.sheet)


def _sheet(file: EpisodeFile, labels: dict[str, str], args: Namespace) -> None:
    if args.camera not in file.obs_shapes or not file.is_image(args.camera):
        raise UserError(f"{args.dataset} has no images under {args.camera!r} (found: {', '.join(file.obs_shapes)})")
    rows = []
    for label in sorted(set(labels.values())):
        names = [name for name in labels if labels[name] == label]
        chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(args.examples, len(names))).round().astype(int)]
        cells = [_ends(file, name, args.camera) for name in chosen]
        blank = np.full_like(cells[0], 255)
        rows.append(np.concatenate(cells + [blank] * (args.examples - len(cells)), axis=1))
    with written_whole(args.sheet) as temporary:
        imageio.imwrite(temporary, np.concatenate(rows), format="png")


def _ends(file: EpisodeFile, name: str, camera: str) -> Array:
    """First and last frame, with a margin."""
    length = int(file.lengths[file.names.index(name)])
    pair = np.concatenate([file.read(name, camera, 0), file.read(name, camera, length - 1)], axis=1)
    return np.pad(pair, ((2, 2), (2, 6), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
