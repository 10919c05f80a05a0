"""Roll out a trained policy, unsteered, in the environment that its data came from; print how often it does what."""

from argparse import Namespace
from collections.abc import Sequence

from dynaguide import cli
from dynaguide.environments import make_env
from dynaguide.evaluation import add_rollout_arguments, default_replan, evaluate
from dynaguide.rollout import SteeredPolicy
from dynaguide_robomimic.checkpoints import load_policy


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python run_trained_agent.py --agent results/base/model.safetensors --n_rollouts 50 --json_path results/base.json"
    )
    made.add_argument("--agent", required=True, help="a policy checkpoint: ours (.safetensors) or robomimic's (.pth)")
    made.add_argument("--env", help="another environment than the checkpoint names")
    add_rollout_arguments(made)
    cli.add_seed(made)
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    device = cli.device(args.device)
    policy, env_meta = load_policy(args.agent, device)
    meta = {"env_name": args.env} if args.env else env_meta
    replan = args.replan_every or default_replan(policy.action_shape[0], policy.first_action)
    agent = SteeredPolicy(policy, policy.obs_keys, policy.first_action, replan, device)
    print(evaluate(args, agent, lambda: make_env(meta, render_mode="rgb_array"), meta, policy.history))


if __name__ == "__main__":
    main()
