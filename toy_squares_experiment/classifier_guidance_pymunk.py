"""Roll out a BlockTouch policy that a classifier's gradient steers to one colour, or away from it; print how often each colour was touched.

Without --guidance, or with --scale 0, the base policy runs alone. The same seed shows the same scenes and draws the same noise, whatever steers it.
The published setting is --scale 0.5 --ss 4 --on noisy --published_clamp --candidates 1 --replan_every 14.
"""

from argparse import Namespace
from collections.abc import Sequence

from dynaguide.cli import run
from dynaguide_robomimic import block_touch_runs


def main(argv: Sequence[str] | None = None) -> None:
    made = block_touch_runs.parser(
        __doc__,
        example="python toy_squares_experiment/classifier_guidance_pymunk.py --agent checkpoints/block_touch/policy.safetensors \\\n"
        "      --guidance checkpoints/block_touch/classifier.safetensors --target red --n_rollouts 20 --output_folder results/red --render_visuals",
    )
    block_touch_runs.add_guidance(made)
    run(steer, made, argv)


def steer(args: Namespace) -> None:
    print(block_touch_runs.guided(args))


if __name__ == "__main__":
    main()
