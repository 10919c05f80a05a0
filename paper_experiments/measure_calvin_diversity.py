"""How undecided a base policy is: from one fixed scene and start pose, how many different behaviours it shows over some episodes.

Prints the number for every scene, their average, and how often each behaviour came in all episodes together.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dynaguide import cli
from dynaguide.files import write_json
from dynaguide_calvin import runs
from dynaguide_robomimic.checkpoints import load_policy

EXPERIMENT = Path(__file__).parents[1] / "calvin_exp_configs_examples" / "control.json"


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python paper_experiments/measure_calvin_diversity.py --agent checkpoints/calvin/policy.safetensors")
    made.add_argument("--agent", required=True, help="the base policy's checkpoint")
    made.add_argument("--scenes", type=int, default=10)
    made.add_argument("--episodes", type=int, default=20, help="in each scene")
    made.add_argument("--json_path", help="all counts")
    cli.add_seed(made, 20000)
    cli.add_device(made)
    cli.run(measure, made, argv)


def measure(args: Namespace) -> None:
    policy, env_meta = load_policy(args.agent, cli.device(args.device))
    counts = []
    for scene in range(args.seed, args.seed + args.scenes):
        made = runs.parser(None, example="")
        runs.add_guidance(made)
        flags = ["--agent", args.agent, "--exp_setup_config", str(EXPERIMENT), "--scene_seed", str(scene), "--seed", str(args.seed)]
        flags += ["--n_rollouts", str(args.episodes), "--n_envs", str(args.episodes), "--device", args.device]
        episodes = runs.guided(made.parse_args(flags), policy, env_meta).episodes
        counts.append(Counter(name for one in episodes for name in one.behaviors[:1]))
        print(f"scene {scene}: {len(counts[-1])} behaviours in {args.episodes} episodes: {_listed(counts[-1])}")
    total = sum(counts, Counter())
    average = sum(map(len, counts)) / len(counts)
    print(f"average: {average:.2f} behaviours; something was done in {total.total()} of {args.scenes * args.episodes} episodes")
    print(f"in all: {_listed(total)}")
    if args.json_path:
        write_json(args.json_path, {str(args.seed + index): dict(count) for index, count in enumerate(counts)})


def _listed(counts: "Counter[str]") -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


if __name__ == "__main__":
    main()
