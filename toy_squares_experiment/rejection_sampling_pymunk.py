"""Roll out a BlockTouch policy that draws several chunks for each decision and executes the one that a classifier likes best (GPC's sampling).

The classifier's score is the one that `classifier_guidance_pymunk.py` climbs. With --num_samples 1 or without --guidance the base policy runs alone.
"""

from argparse import Namespace
from collections.abc import Sequence

from dynaguide import methods
from dynaguide.cli import run
from dynaguide_robomimic import block_touch_runs


def main(argv: Sequence[str] | None = None) -> None:
    made = block_touch_runs.parser(
        __doc__,
        example="python toy_squares_experiment/rejection_sampling_pymunk.py --agent checkpoints/block_touch/policy.safetensors \\\n"
        "      --guidance checkpoints/block_touch/classifier.safetensors --target red --num_samples 5 --n_rollouts 20 --output_folder results/red",
    )
    methods.add_sampling(made)
    run(sample, made, argv)


def sample(args: Namespace) -> None:
    print(block_touch_runs.sampled(args))


if __name__ == "__main__":
    main()
