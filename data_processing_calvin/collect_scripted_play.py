"""Make CALVIN play data with scripted players.

--starts N        demonstrations: from each of N random scenes and poses up to --per_start different behaviours, straight to labelled HDF5
--stretches N     continuous play, one behaviour after another as people played: into CALVIN's own layout (--output_folder; cut it up with
                  calvin_to_labeled_hdf5.py)
The same seed gives the same play, whatever the number of processes. Start it again to go on where it was interrupted.
"""

import logging
import os
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynaguide import cli
from dynaguide.episodes import EpisodeFile, EpisodeWriter
from dynaguide.errors import UserError
from dynaguide.progress import bar
from dynaguide_calvin import scene as facts
from dynaguide_calvin.play import Demonstration, Wanted, demonstrations, stretches
from dynaguide_calvin.recordings import RecordingWriter


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python data_processing_calvin/collect_scripted_play.py --starts 500 --dataset_path results/calvin/play.hdf5 --seed 0"
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--starts", type=int, help="demonstrations from so many random scenes and poses")
    what.add_argument("--stretches", type=int, help="so many stretches of continuous play")
    made.add_argument("--per_start", type=int, default=4, help="behaviours from each start")
    made.add_argument("--stretch_length", type=int, default=1000, help="frames in a stretch, at least")
    made.add_argument("--dataset_path", type=Path, help="where demonstrations go (HDF5)")
    made.add_argument("--output_folder", type=Path, help="where continuous play goes (CALVIN's layout)")
    _add_play(made)
    made.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    cli.add_seed(made)
    cli.run(run, made, argv)


def _add_play(made: ArgumentParser) -> None:
    group = made.add_argument_group("what is played")
    group.add_argument("--scenes", nargs="+", default=["D"], help="A, B, C, D: taken in turn")
    group.add_argument("--behaviors", nargs="+", default=list(facts.BEHAVIORS), help="only these; `articulated` and `cubes` name groups")
    group.add_argument("--without", nargs="+", default=[], help="not these")
    group.add_argument("--weights", nargs="+", default=[], metavar="NAME=WEIGHT", help="how often, 1 if not named")
    group.add_argument("--cubes", default="shuffle", choices=["shuffle", "table_only"], help="where cubes lie at first")
    group.add_argument("--third_person", type=int, default=200, help="pixels a side")
    group.add_argument("--eye_in_hand", type=int, default=84, help="pixels a side")
    group.add_argument("--renderer", default="auto", help="gl, tiny, or auto")
    group.add_argument("--assets", help="a folder with the public CALVIN files; the primitives otherwise")
    group.add_argument("--keep_disturbed", action="store_true", help="keep demonstrations in which something else was moved too")


def run(args: Namespace) -> None:
    wanted = _wanted(args)
    if min(args.starts or 1, args.stretches or 1, args.per_start, args.stretch_length) < 1:
        raise UserError("--starts, --stretches, --per_start and --stretch_length must be at least 1")
    if args.starts:
        _demonstrations(args, wanted)
    else:
        _stretches(args, wanted)


def _wanted(args: Namespace) -> Wanted:
    groups = {"articulated": facts.ARTICULATED, "cubes": facts.CUBE_BEHAVIORS}
    named = [name for given in args.behaviors for name in groups.get(given, (given,))]
    left_out = {name for given in args.without for name in groups.get(given, (facts.behavior_named(given),))}
    return Wanted(
        seed=args.seed,
        scenes=tuple(args.scenes),
        weights=dict(map(_weight, args.weights)),
        cameras={facts.THIRD_PERSON: args.third_person, facts.EYE_IN_HAND: args.eye_in_hand},
        cubes=args.cubes,
        renderer=args.renderer,
        assets=args.assets,
        careful=not args.keep_disturbed,
        behaviors=tuple(name for name in named if name not in left_out),
    )


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return facts.behavior_named(name), float(number)
    except ValueError as error:
        raise UserError(f"--weights takes NAME=WEIGHT, as drawer_open=0.5, not {text!r}") from error


def _demonstrations(args: Namespace, wanted: Wanted) -> None:
    if args.dataset_path is None:
        raise UserError("--starts needs --dataset_path")
    done, there = _last_start(args.dataset_path)
    meta = wanted.env(wanted.scenes[0]).env_meta()
    began, tries, found = time.perf_counter(), 0, Counter[str]()
    source = demonstrations(wanted, range(done, args.starts), per_start=args.per_start, processes=args.processes)
    with EpisodeWriter(args.dataset_path, meta, append=True) as writer:
        if not writer.same_environment(meta):
            raise UserError(f"{args.dataset_path} holds play of another environment or renderer: choose another file")
        for tried in bar(source, total=args.starts, initial=done, name="playing", unit="start"):
            tries += tried.tries
            for demonstration in tried.kept:
                if demonstration.number == done and demonstration.played.behavior in there:
                    continue
                found[demonstration.played.behavior] += 1
                _write(writer, demonstration)
        total = len(writer)
    seconds = time.perf_counter() - began
    logging.info("%d of %d tries kept in %.0f s (%.0f a minute); %d episodes in %s", sum(found.values()), tries, seconds,
                 60 * sum(found.values()) / max(seconds, 1e-9), total, args.dataset_path)  # fmt: skip
    logging.info(", ".join(f"{name} {found[name]}" for name in facts.BEHAVIORS if found[name]))


def _last_start(path: Path) -> tuple[int, set[str]]:
    """The last start in a file, and what it holds of it: it is played again, because it may have been interrupted halfway."""
    if not path.exists():
        return 0, set()
    with EpisodeFile(path) as file:
        starts = {name: int(file.attrs(name).get("start", 0)) for name in file.names}
        last = max(starts.values())
        return last, {str(file.attrs(name)["behavior"]) for name in file.names if starts[name] == last}


def _write(writer: EpisodeWriter, demonstration: Demonstration) -> None:
    """All frames; the last one's action is the one before again. A rest there would teach that an episode ends by standing still."""
    played = demonstration.played
    obs = {key: np.stack([one[key] for one in played.observations]) for key in played.observations[0]}
    writer.add(np.concatenate([played.actions, played.actions[-1:]]), obs, behavior=played.behavior, start=demonstration.number)


def _stretches(args: Namespace, wanted: Wanted) -> None:
    if args.output_folder is None:
        raise UserError("--stretches needs --output_folder")
    writer = RecordingWriter(args.output_folder, wanted.env(wanted.scenes[0]).env_meta())
    done = writer.stretches
    source = stretches(wanted, range(done, args.stretches), length=args.stretch_length, processes=args.processes)
    for stretch in bar(source, total=args.stretches, initial=done, name="playing", unit="stretch"):
        writer.add(stretch)
    succeeded = [entry["success"] for played in writer.played for entry in played["behaviors"]]
    logging.info("%d behaviours in %d stretches, %d came about: %s", len(succeeded), writer.stretches, sum(succeeded), args.output_folder)


if __name__ == "__main__":
    main()
