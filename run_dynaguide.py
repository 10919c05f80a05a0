"""Roll out a diffusion policy on the CALVIN play table, steered by a dynamics model to the outcomes that an experiment names (DynaGuide).

Without --guidance, or with --scale 0, the policy runs alone; with --direct_position_guidance it is led to a place; a goal-conditioned policy is shown
the experiment's outcomes as goals. The same seed has the same scene, start pose and noise, whatever steers. Prints how often which behaviour came.
--scale, --ss, --alpha and --candidates are the experiment's own where no flag gives them.
"""

from argparse import Namespace
from collections.abc import Sequence

from dynaguide import cli
from dynaguide_calvin import runs
from dynaguide_robomimic.checkpoints import load_policy


def main(argv: Sequence[str] | None = None) -> None:
    made = runs.parser(
        __doc__,
        example="python run_dynaguide.py --agent checkpoints/calvin/policy.safetensors --guidance checkpoints/calvin/dynamics.safetensors \\\n"
        "      --exp_setup_config calvin_exp_configs_examples/switch_on.json --n_rollouts 10 --output_folder results/switch_on \\\n"
        "      --video_path results/switch_on/video.mp4 --save_frames",
    )
    runs.add_guidance(made)
    cli.run(steer, made, argv)


def steer(args: Namespace) -> None:
    print(runs.guided(args, *load_policy(args.agent, cli.device(args.device))))


if __name__ == "__main__":
    main()
