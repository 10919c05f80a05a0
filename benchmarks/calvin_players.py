"""How often the scripted players succeed, and how often the first thing that happens is what they meant: a table for docs/calvin.md.

Each try has a random scene (with the part that is to move at its other end) and a random pose of the robot; cubes lie on the table for cube
behaviours.
"""

import time
from argparse import Namespace
from collections.abc import Sequence

import numpy as np

from dynaguide import cli
from dynaguide.randomness import mixed
from dynaguide.results import rate
from dynaguide_calvin import scene as facts
from dynaguide_calvin.detector import DONE, first_behavior
from dynaguide_calvin.env import PlayTableEnv
from dynaguide_calvin.players import Manner, feasible, play_behavior

SETUP = {"button": "green_light", "switch": "switch", "drawer": "drawer", "door": "sliding_door"}
AT_HIGH_END = ("off", "close", "right")  # ways to go from the high end


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python benchmarks/calvin_players.py --tries 100")
    made.add_argument("--tries", type=int, default=100)
    made.add_argument("--behaviors", nargs="+", default=list(facts.BEHAVIORS))
    made.add_argument("--scene", default="D", help="A, B, C or D")
    cli.add_seed(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    env = PlayTableEnv(scene=args.scene, cameras={})
    env.images = False
    began, steps = time.perf_counter(), 0
    print(f"{'behaviour':<15} {'success':<24} {'label as meant':<24} steps")
    for behavior in args.behaviors:
        played = [tried(env, facts.behavior_named(behavior), mixed(args.seed, number)) for number in range(args.tries)]
        kept = [one for one in played if one.success]
        meant = sum(first_behavior(one.states, one.proprio, DONE) == (label_of(behavior),) for one in kept)
        lengths = [len(one.actions) for one in played]
        steps += sum(lengths)
        shown = (str(rate(len(kept), len(played))), str(rate(meant, max(1, len(kept)))))
        print(f"{behavior:<15} {shown[0]:<24} {shown[1]:<24} {np.mean(lengths):.0f} +- {np.std(lengths):.0f}", flush=True)
    print(f"{steps / (time.perf_counter() - began):.0f} steps a second, without pictures")


def tried(env: PlayTableEnv, behavior: str, seed: int):  # type: ignore[no-untyped-def]
    """One try; a scene in which a cube cannot be reached is drawn again."""
    part, _, way = behavior.partition("_")
    setup = {SETUP[part]: way in AT_HIGH_END} if part in SETUP else {}
    for again in range(100):
        env.reset(seed=mixed(seed, again), options={"setup": setup, "robot": "random", "cubes": "shuffle" if part in SETUP else "table_only"})
        if behavior in feasible(env.states, env.scene):
            break
    return play_behavior(env, behavior, np.random.default_rng(seed), Manner(images=False))


def label_of(behavior: str) -> str:
    """To the detector that ends rollouts a lift is a touch like any other."""
    return behavior.replace("_lift", "_displace")


if __name__ == "__main__":
    main()
