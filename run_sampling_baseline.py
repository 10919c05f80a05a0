"""Roll out a diffusion policy on the CALVIN play table; of several chunks the one is executed whose predicted outcome is wanted most (GPC).

The score is the one that DynaGuide climbs. Without --guidance, or with --num_samples 1, the policy runs alone.
"""

from argparse import Namespace
from collections.abc import Sequence

from dynaguide import cli, methods
from dynaguide_calvin import runs
from dynaguide_robomimic.checkpoints import load_policy


def main(argv: Sequence[str] | None = None) -> None:
    made = runs.parser(
        __doc__,
        example="python run_sampling_baseline.py --agent checkpoints/calvin/policy.safetensors \\\n"
        "      --guidance checkpoints/calvin/dynamics.safetensors --exp_setup_config calvin_exp_configs_examples/switch_on.json \\\n"
        "      --num_samples 5 --n_rollouts 10 --output_folder results/switch_on_sampling",
    )
    methods.add_sampling(made)
    cli.run(sample, made, argv)


def sample(args: Namespace) -> None:
    print(runs.sampled(args, *load_policy(args.agent, cli.device(args.device))))


if __name__ == "__main__":
    main()
