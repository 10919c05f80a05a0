"""What came of runs on the play table: how often each reached its aim, by experiment and method, and which behaviours it showed.

Takes results JSONs of run_dynaguide.py, run_sampling_baseline.py and run_trained_agent.py, folders of them, or rollouts' HDF5 files, whose behaviours
are then read off the recorded states. Shares come with 95 % Wilson intervals.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dynaguide import cli
from dynaguide.files import write_json, written_whole
from dynaguide_calvin.analysis import RecordedRun, behavior_table, method_table, read_runs


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python analyze_calvin_touch.py results/switch_on.json results/switch_on_base.json --markdown results/table.md"
    )
    made.add_argument("runs", nargs="+", type=Path, help="results JSONs, folders of them, rollouts' HDF5 files")
    made.add_argument("--noticeable", action="store_true", help="HDF5: count what moved noticeably (published), not only what was done")
    made.add_argument("--markdown", type=Path, help="the tables, in markdown")
    made.add_argument("--json_path", type=Path, help="all counts in one JSON")
    cli.run(analyze, made, argv)


def analyze(args: Namespace) -> None:
    runs = read_runs(args.runs, noticeable=args.noticeable)
    tables = [table for table in (method_table(runs), behavior_table(runs)) if table]
    print("\n\n".join(_aligned(table) for table in tables))
    if args.markdown:
        with written_whole(args.markdown) as temporary:
            temporary.write_text("\n".join(_markdown(table) for table in tables))
    if args.json_path:
        write_json(args.json_path, [_entry(one) for one in runs])


def _entry(one: RecordedRun) -> dict[str, object]:
    behaviors = {name: asdict(value) for name, value in one.behaviors.items()}
    reached = None if one.reached is None else asdict(one.reached)
    return {"run": str(one.path), "experiment": one.experiment, "method": one.method, "reached": reached, "behaviors": behaviors}


def _aligned(table: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)


def _markdown(table: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [table[0], ["---"] * len(table[0]), *table[1:]])


if __name__ == "__main__":
    main()
