"""The steering methods as flags: what a script adds to its parser, and the `Steering` that the flags ask for. Any score will do."""

import argparse
import math
from dataclasses import replace
from typing import get_args

from dynaguide.errors import UserError, unknown_name
from dynaguide.guidance import Differentiate, ascend
from dynaguide.selectors import best_of
from dynaguide.steering import Steering
from dynaguide.types import Score


def add_guidance(
    made: argparse.ArgumentParser, *, scale: float | None, ss: int | None, candidates: int | None, on: Differentiate, free_steps: int | None = 0
) -> None:
    """The flags of `guided`. A default of None is for the caller to fill in."""
    group = made.add_argument_group("guidance")
    group.add_argument("--scale", type=float, default=scale, help="s of Eq. 3; 0 is the base policy")
    group.add_argument("--ss", type=int, default=ss, help="M, the paper's stochastic sampling: how often each denoising step is run")
    group.add_argument(
        "--candidates",
        type=int,
        default=candidates,
        help="guided chunks a decision; the one with the highest score is executed (published: 1)",
    )
    group.add_argument("--on", default=on, help="what the score is differentiated at: noisy (as published), clean_estimate")
    group.add_argument("--renoise", action="store_true", help="go back to the step's noise level before each repeat (ITPS)")
    group.add_argument("--published_clamp", action="store_true", help="keep the noise when the clean estimate is clamped, as published")
    group.add_argument("--cap", type=float, help="the guidance is at most so many times as long as the predicted noise (default: any)")
    group.add_argument("--free_steps", type=int, default=free_steps, help="the last so many denoising steps are the policy's alone (published: 0)")
    group.add_argument("--last_steps", type=int, help="guide only the last so many denoising steps (default: all)")


def add_sampling(made: argparse.ArgumentParser) -> None:
    """The flag of `sampled`."""
    made.add_argument("--num_samples", type=int, default=5, help="chunks drawn for each decision; the one with the highest score is executed")


def guided(args: argparse.Namespace, score: Score | None) -> Steering:
    """The base policy under the score's gradient; without a score, or with --scale 0, alone."""
    if args.on not in get_args(Differentiate):
        raise unknown_name("--on", args.on, list(get_args(Differentiate)))
    if not math.isfinite(args.scale):
        raise UserError(f"--scale must be finite, not {args.scale}")
    if args.candidates < 1:
        raise UserError(f"--candidates must be at least 1, not {args.candidates}")
    if args.free_steps < 0:
        raise UserError(f"--free_steps must be at least 0, not {args.free_steps}")
    if score is None or args.scale == 0:
        return Steering(consistent_clamp=not args.published_clamp)
    guidance = ascend(score, args.scale, on=args.on)
    if args.last_steps is not None:
        guidance = guidance.last(args.last_steps)
    if args.free_steps:
        guidance = guidance.before_last(args.free_steps)
    if args.cap is not None:
        guidance = guidance.capped(args.cap)
    settings = Steering(guidance=guidance, repeats=args.ss, renoise=args.renoise, consistent_clamp=not args.published_clamp)
    return settings if args.candidates == 1 else replace(settings, select=best_of(score), candidates=args.candidates)


def sampled(args: argparse.Namespace, score: Score | None) -> Steering:
    """The chunk that the score likes best among --num_samples of the base policy's; without a score the base policy alone."""
    if args.num_samples < 1:
        raise UserError(f"--num_samples must be at least 1, not {args.num_samples}")
    return Steering() if score is None else Steering(select=best_of(score), candidates=args.num_samples)
