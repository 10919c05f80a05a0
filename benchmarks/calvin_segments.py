"""Does cutting continuous play give back what was played? Compares the segments of a recording with its played.json."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dynaguide import cli
from dynaguide.files import read_json
from dynaguide.results import rate
from dynaguide_calvin.detector import OTHER
from dynaguide_calvin.recordings import PLAYED, Recording


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python benchmarks/calvin_segments.py --calvin_path results/play")
    made.add_argument("--calvin_path", type=Path, required=True, help="made by collect_scripted_play.py --stretches")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    played = [entry for stretch in read_json(args.calvin_path / PLAYED, "play") for entry in _with_ends(stretch)]
    labelled = [segment for segment in Recording(args.calvin_path).segments() if segment.behavior != OTHER]
    right, found, wrong = 0, set(), Counter[tuple[str, str]]()
    for segment in labelled:
        last = segment.first + len(segment.actions)
        index = max(range(len(played)), key=lambda i: min(last, played[i]["end"]) - max(segment.first, played[i]["frame"]))
        if played[index]["behavior"] == segment.behavior:
            right += 1
            found.add(index)
        else:
            wrong[played[index]["behavior"], segment.behavior] += 1
    came_about = [index for index, entry in enumerate(played) if entry["success"]]
    print(f"segments named as what was played: {rate(right, max(1, len(labelled)))}")
    print(f"behaviours that came about and were found: {rate(len(found & set(came_about)), max(1, len(came_about)))}")
    for (meant, named), count in wrong.most_common():
        print(f"  while {meant} was played: {named} {count}")


def _with_ends(stretch: dict) -> list[dict]:  # type: ignore[type-arg]
    """What was played in a stretch, with the frame at which each ended."""
    entries = stretch["behaviors"]
    ends = [entry["frame"] for entry in entries[1:]] + [stretch["last"] + 1]
    return [{**entry, "end": end} for entry, end in zip(entries, ends, strict=True)]


if __name__ == "__main__":
    main()
