"""How undecided is a BlockTouch policy? Over several episodes in one layout, how often is the most frequent colour touched; on average over layouts.

A policy that chooses evenly among four colours has .37 in 20 episodes; one that always does the same has 1.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dynaguide import cli
from dynaguide.errors import UserError
from dynaguide_robomimic import block_touch_runs


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python toy_squares_experiment/measure_diversity.py --agent checkpoints/block_touch/policy.safetensors")
    made.add_argument("--agent", required=True, help="the policy's checkpoint")
    made.add_argument("--layouts", type=int, default=25)
    made.add_argument("--episodes", type=int, default=20, help="in each layout")
    cli.add_seed(made, 9000)
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    if min(args.layouts, args.episodes) < 1:
        raise UserError("--layouts and --episodes must be at least 1")
    shares, touched = [], Counter[str]()
    for layout in range(args.seed, args.seed + args.layouts):
        names = [name for episode in _rolled_out(args, layout) for name in episode.behaviors]
        touched.update(names)
        shares.append(max(Counter(names).values(), default=0) / args.episodes)
    print(f"share of the most frequent colour over {args.episodes} episodes, mean of {args.layouts} layouts: {np.mean(shares):.3f}")
    print("touched: " + ", ".join(f"{name} {count / (args.layouts * args.episodes):.2f}" for name, count in sorted(touched.items())))


def _rolled_out(args: Namespace, layout: int):  # type: ignore[no-untyped-def]
    """The base policy's episodes in one layout."""
    made = block_touch_runs.parser(None, example="")
    block_touch_runs.add_guidance(made)
    flags = ["--agent", args.agent, "--n_rollouts", str(args.episodes), "--layout_seed", str(layout), "--seed", str(100 * layout)]
    return block_touch_runs.guided(made.parse_args([*flags, "--device", args.device])).episodes


if __name__ == "__main__":
    main()
