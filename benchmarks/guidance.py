"""DynaGuide at the paper's size: the published loop against this project's, on the same work, with the same result.

The published loop encodes the image again at every step, never detaches the trajectory and takes one episode at a time. Weights are random: their
values do not matter for the time. --profile says where ours goes.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

import torch
from steering import peak, timed
from torch import Tensor

from dynaguide import Observation, Steering, ascend, cli, gaussian, sample_actions
from dynaguide.dynamics import DynamicsConfig, DynamicsModel
from dynaguide.encoders.dinov2 import DinoConfig, DinoV2
from dynaguide.outcomes import Dynamics
from dynaguide.randomness import generator
from dynaguide.scores import Conditions, goal_score
from dynaguide_robomimic.config import load_config
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes

CAMERAS = {"eye_in_hand": (3, 84, 84), "third_person": (3, 200, 200)}
SCALE, SIGMA, REPEATS, CONDITIONS = 1.5, 30.0, 4, 20
GEMM = 2048  # side of the matrices whose product stands for the machine's peak


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python benchmarks/guidance.py --batches 1 8 --profile")
    made.add_argument("--config", default="configs/diffusion_policy_image_calvin_ddim.json", help="the policy's size")
    made.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="episodes side by side, for ours")
    made.add_argument("--rounds", type=int, default=3, help="the best of so many is reported")
    made.add_argument("--bfloat16", action="store_true", help="also in bfloat16, where the machine has it")
    made.add_argument("--profile", action="store_true", help="where a chunk's time goes, and how far that is from the machine's peak")
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    device = cli.device(args.device)
    torch.manual_seed(0)
    policy = DiffusionPolicy(load_config(args.config), Shapes(7, {**CAMERAS, "proprio": (15,)}, {})).requires_grad_(False).eval().to(device)
    dynamics = Dynamics(DynamicsModel(DynamicsConfig(("third_person",), 7)), DinoV2(DinoConfig())).frozen().to(device)
    conditions = Conditions(torch.randn(CONDITIONS, 256, 384, device=device))
    print(f"{device}, {torch.get_num_threads()} threads, {policy.inference_steps} DDIM steps x {REPEATS}, {CONDITIONS} conditions")
    compare(Work(policy, dynamics, conditions, device), args)


class Work:
    """What both loops work on."""

    def __init__(self, policy: DiffusionPolicy, dynamics: Dynamics, conditions: Conditions, device: torch.device) -> None:
        self.policy, self.dynamics, self.conditions, self.device = policy, dynamics, conditions, device

    def ours(self, obs: Observation, *, autocast: bool = False) -> Tensor:
        steering = Steering(guidance=ascend(goal_score(self.dynamics, self.conditions, SIGMA), SCALE), repeats=REPEATS, consistent_clamp=False)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            return sample_actions(self.policy, obs, steering, [generator(row) for row in range(len(obs["proprio"]))])

    def published(self, obs: Observation) -> Tensor:
        """One episode; the image is encoded for every gradient, and the graph runs through all steps."""
        policy, scheduler = self.policy, self.policy.scheduler
        scheduler.set_timesteps(policy.inference_steps)
        condition = policy.encode(obs)
        actions = gaussian(obs, (1, *policy.action_shape), [generator(0)]).requires_grad_()
        for timestep in scheduler.timesteps:
            for _ in range(REPEATS):
                noise = policy.predict_noise(actions, timestep, condition)
                score = self._score(obs, actions)
                gradient = torch.autograd.grad(score, actions, retain_graph=True)[0]
                noise = noise - (1 - scheduler.alphas_cumprod[timestep]).sqrt() * SCALE * gradient
                actions = scheduler.step(noise, timestep, actions).prev_sample
        return actions.detach()

    def _score(self, obs: Observation, actions: Tensor) -> Tensor:
        predicted = self.dynamics.model(self.dynamics.embed(obs), obs["proprio"][:, -1], actions)
        assert self.conditions.positive is not None
        return torch.logsumexp(-torch.norm(predicted - self.conditions.positive, dim=(1, 2)) / SIGMA, 0)


def compare(work: Work, args: Namespace) -> None:
    one = observe(1, work.device)
    reference = work.published(one)
    print(f"largest difference from the published loop: {(work.ours(one) - reference).abs().max():.1e}")
    if args.bfloat16:
        rounded = work.ours(one, autocast=True)
        print(f"in bfloat16: {(rounded.float() - reference).abs().max():.1e}, on average {(rounded.float() - reference).abs().mean():.1e}")
    ways: dict[str, tuple[Callable[[], Tensor], int]] = {"published, one episode": (lambda: work.published(one), 1)}
    for batch in args.batches:
        obs = observe(batch, work.device)
        ways[f"ours, {batch} side by side"] = (lambda obs=obs: work.ours(obs), batch)
        if args.bfloat16:
            ways[f"ours, {batch}, bfloat16"] = (lambda obs=obs: work.ours(obs, autocast=True), batch)
    seconds = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, (way, _batch) in ways.items():
            seconds[name].append(timed(way, work.device))
    plain = min(seconds["published, one episode"])
    print(f"{'':28} {'s an episode':>12} {'ratio':>6} {'MiB':>7}")
    for name, (way, batch) in ways.items():
        each = min(seconds[name]) / batch
        print(f"{name:<28} {each:>12.2f} {plain / each:>6.2f} {peak(way, work.device):>7.0f}", flush=True)
    if args.profile:
        profile(work, one)


def profile(work: Work, obs: Observation) -> None:
    """Seconds of one chunk by part, each measured alone, and the share of the machine's peak."""
    chunk = torch.randn(1, *work.policy.action_shape, device=work.device)
    runs = work.policy.inference_steps * REPEATS
    bound, score = work.policy.given(obs), goal_score(work.dynamics, work.conditions, SIGMA).given(obs)

    def gradient() -> Tensor:
        leaf = chunk.clone().requires_grad_()
        return torch.autograd.grad(score(leaf).sum(), leaf)[0]

    with torch.no_grad():
        parts = {
            "policy's encoder, once": best(lambda: work.policy.encode(obs), work.device),
            "DINOv2, once": best(lambda: work.dynamics.embed(obs), work.device),
            "U-Net": runs * best(lambda: bound.predict_noise(chunk, 50), work.device),
            "transformer forward": runs * best(lambda: score(chunk), work.device),
        }
    parts["transformer backward"] = runs * best(gradient, work.device) - parts["transformer forward"]
    whole = best(lambda: work.ours(obs), work.device, rounds=2)
    parts["everything else"] = whole - sum(parts.values())
    print(f"\nours, one episode: {whole:.2f} s")
    for name, seconds in parts.items():
        print(f"  {name:<26} {seconds:>6.2f} s {100 * seconds / whole:>5.0f} %")
    flops = runs * transformer_flops(work.dynamics.model.config)
    spent = parts["transformer forward"] + parts["transformer backward"]
    square = torch.randn(GEMM, GEMM, device=work.device)
    peak_rate = 2 * GEMM**3 / best(lambda: square @ square, work.device)
    print(f"  transformer: {flops / 1e9:.0f} GFLOP at {flops / spent / 1e9:.0f} GFLOP/s; a {GEMM} x {GEMM} product runs at {peak_rate / 1e9:.0f}")


def transformer_flops(config: DynamicsConfig) -> float:
    """Forward, and backward to the input: multiplications and additions of the linear layers and the attention."""
    tokens = config.image_tokens + 2
    linear = 2 * tokens * (4 * config.width**2 + 2 * config.width * config.feed_forward)
    attention = 4 * tokens**2 * config.width
    return config.layers * (2 * linear + 3 * attention)


def best(work: Callable[[], Tensor], device: torch.device, rounds: int = 5) -> float:
    work()
    return min(timed(work, device) for _ in range(rounds))


def observe(batch: int, device: torch.device) -> Observation:
    torch.manual_seed(1)
    images = {key: torch.rand(batch, 2, *shape, device=device) for key, shape in CAMERAS.items()}
    return {**images, "proprio": torch.rand(batch, 2, 15, device=device)}


if __name__ == "__main__":
    main()
