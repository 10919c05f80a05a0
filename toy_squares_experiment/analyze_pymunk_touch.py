"""Count which colours BlockTouch runs touched, from their results JSON: shares of the episodes with 95 % Wilson intervals.

Runs that name one colour to seek also get that colour's share, and those of one layout and method are averaged over their colours.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from dynaguide.cli import parser, run
from dynaguide.files import write_json, written_whole
from dynaguide_robomimic.block_touch_pictures import OUTCOMES, RecordedRun, read_run, target_rate

HEADER = ["run", "layout", *OUTCOMES, "target"]


def main(argv: Sequence[str] | None = None) -> None:
    made = parser(__doc__, example="python toy_squares_experiment/analyze_pymunk_touch.py results/demo/*.json --markdown results/demo/table.md")
    made.add_argument("results", nargs="+", help="results JSONs of run_trained_agent.py or of the scripts here")
    made.add_argument("--json_path", help="all counts in one JSON")
    made.add_argument("--markdown", help="the table, in markdown")
    run(analyze, made, argv)


def analyze(args: Namespace) -> None:
    runs = [read_run(path) for path in args.results]
    rows = [_row(one) for one in runs] + _averages(runs)
    print(_aligned([HEADER, *rows]))
    if args.json_path:
        write_json(args.json_path, [_entry(one) for one in runs])
    if args.markdown:
        with written_whole(args.markdown) as temporary:
            temporary.write_text(_markdown(rows))


def _row(one: RecordedRun) -> list[str]:
    shares = [str(value) for value in one.rates().values()]
    return [one.name, _layout(one), *shares, str(one.rates()[one.target]) if one.target else ""]


def _averages(runs: list[RecordedRun]) -> list[list[str]]:
    """Over the colours: one row for each layout and method that had several targets."""
    groups: dict[tuple[str, str], list[RecordedRun]] = {}
    for one in runs:
        if one.target:
            groups.setdefault((one.arm, _layout(one)), []).append(one)
    several = {key: group for key, group in groups.items() if len(group) > 1}
    return [[f"{arm}, {len(group)} runs", layout, *[""] * len(OUTCOMES), str(target_rate(group))] for (arm, layout), group in several.items()]


def _layout(one: RecordedRun) -> str:
    return str(one.config.get("setup", "random"))


def _entry(one: RecordedRun) -> dict[str, object]:
    touched = {outcome: asdict(value) for outcome, value in one.rates().items()}
    about = {"results": str(one.path), "run": one.name, "layout": _layout(one), "agent": one.config.get("agent"), "episodes": len(one.episodes)}
    return {**about, "target": one.target, "touched": touched, "target_rate": asdict(one.rates()[one.target]) if one.target else None}


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _markdown(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [HEADER, ["---"] * len(HEADER), *rows])


if __name__ == "__main__":
    main()
