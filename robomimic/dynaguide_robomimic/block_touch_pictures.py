"""Figures of BlockTouch runs in the spirit of the paper's Figure 7, made from results JSON and denoising traces alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from numpy.typing import NDArray

from dynaguide.errors import UserError
from dynaguide.files import existing_file, read_json, written_whole
from dynaguide.results import EpisodeResult, Rate, behavior_rates, rate
from dynaguide_robomimic.envs.block_touch.world import AGENT_RADIUS, COLOR_NAMES, SIZE, SQUARE_SIDE, Layout, to_world

NONE = "none"
OUTCOMES = (*COLOR_NAMES, NONE)
INKS = {"blue": "#2f5fe0", "red": "#e03131", "green": "#2fa84f", "yellow": "#f2c200", NONE: "#9a9a9a"}
BASE_INK, POLICY_INK, GUIDANCE_INK = "#333333", "#111111", "#d6219c"
DPI = 110
DENOISING_PANELS = 5
LAYOUT_PANELS = 5
_PANELS = {"left": 0.01, "right": 0.99, "bottom": 0.1, "top": 0.84, "wspace": 0.05}
_OUTLINE = [patheffects.withStroke(linewidth=3.4, foreground="#00000088")]

# What was recorded


class RecordedRun(NamedTuple):
    """A results JSON."""

    path: Path
    config: dict[str, Any]
    episodes: list[EpisodeResult]

    @property
    def weights(self) -> list[float]:
        return [float(weight) for weight in self.config.get("weights") or [0] * len(COLOR_NAMES)]

    @property
    def arm(self) -> str:
        """base, guided or sampling."""
        return str(self.config.get("arm", "base"))

    @property
    def target(self) -> str | None:
        """The one colour that the run was to seek, if its config names one."""
        sought = [name for name, weight in zip(COLOR_NAMES, self.weights, strict=True) if weight > 0]
        return sought[0] if len(sought) == 1 else None

    @property
    def avoided(self) -> str | None:
        """The one colour that the run was to keep away from, when it had nothing to seek."""
        shunned = [name for name, weight in zip(COLOR_NAMES, self.weights, strict=True) if weight < 0]
        return shunned[0] if len(shunned) == 1 and max(self.weights) <= 0 else None

    @property
    def name(self) -> str:
        """What the run did, in words."""
        if self.arm == "base":
            return "base policy"
        aim = f"to {self.target}" if self.target else f"away from {self.avoided}" if self.avoided else f"weights {self.config.get('target_list')}"
        return f"{self.arm} {aim}"

    def rates(self) -> dict[str, Rate]:
        """How often each colour, or nothing, was touched."""
        counted = behavior_rates(self.episodes)
        return {outcome: counted.get(outcome, rate(0, len(self.episodes))) for outcome in OUTCOMES}

    def by_seed(self) -> dict[int, EpisodeResult]:
        return {episode.seed: episode for episode in self.episodes}


def read_run(path: Path | str) -> RecordedRun:
    """A results JSON of a BlockTouch run."""
    stored = read_json(path, "results")
    if not isinstance(stored, dict) or not isinstance(stored.get("episodes"), list) or not isinstance(stored.get("config"), dict):
        raise UserError(f"{path} is not a results JSON: it lacks 'episodes' or 'config'")
    try:
        episodes = [EpisodeResult(**{**one, "behaviors": tuple(one["behaviors"])}) for one in stored["episodes"]]
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} is not a results JSON of this project: an episode has other entries ({error})") from error
    for episode in episodes:
        if other := set(episode.behaviors) - set(COLOR_NAMES):
            raise UserError(f"{path} is not of BlockTouch: an episode showed {min(other)!r}")
    return RecordedRun(Path(path), stored["config"], episodes)


def layout_of(episode: EpisodeResult) -> Layout:
    """Where an episode began."""
    details = episode.details
    if "squares" not in details:
        raise UserError(f"the results hold no path of episode {episode.seed}: make them with --paths")
    return Layout(path_of(episode)[0], np.array(details["squares"]), np.array(details["rotations"]))


def path_of(episode: EpisodeResult) -> Float[np.ndarray, "place 2"]:
    """Where its agent went."""
    if "path" not in episode.details:
        raise UserError(f"the results hold no path of episode {episode.seed}: make them with --paths")
    return np.array(episode.details["path"])


def read_trace(folder: Path | str, seed: int) -> dict[str, NDArray[Any]]:
    """The denoising of an episode's first decision, as `recorders.Traces` wrote it."""
    path = existing_file(Path(folder) / f"episode_{seed}_decision_0.npz", "trace")
    with np.load(path) as stored:
        return dict(stored)


def traced_seeds(folder: Path | str) -> list[int]:
    """The episodes whose first decision is in the folder."""
    return sorted(int(path.name.split("_")[1]) for path in Path(folder).glob("episode_*_decision_0.npz"))


# Panels


def show_scene(axis: Axes, layout: Layout) -> None:
    """The squares, and the agent where it began; y points down, as in the environment's picture."""
    axis.set(xlim=(0, SIZE), ylim=(SIZE, 0), xticks=[], yticks=[], aspect="equal")
    half = SQUARE_SIDE / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    for name, centre, turn in zip(COLOR_NAMES, layout.squares, layout.rotations, strict=True):
        along, across = (np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))
        axis.add_patch(Polygon(centre + corners @ np.array([along, across]), facecolor=INKS[name], edgecolor="#00000055", zorder=1))
    axis.add_patch(Circle(tuple(layout.agent), AGENT_RADIUS, facecolor="#222222", zorder=2))


def show_path(axis: Axes, path: Float[np.ndarray, "place 2"], ink: str, *, dashed: bool = False, label: str | None = None) -> None:
    """Where an agent went, and a dot where it ended."""
    style: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.6} if dashed else {"linewidth": 2, "path_effects": _OUTLINE}
    axis.plot(*path.T, color=ink, zorder=4 if dashed else 3, label=label, **style)
    axis.plot(*path[-1], "o", color=ink, markersize=7, markeredgecolor="black", markeredgewidth=0.8, zorder=5)


def show_moment(axis: Axes, trace: dict[str, NDArray[Any]], step: int, *, longest: float = 110.0) -> None:
    """The chunk at one denoising step, a point an action, and from each point the directions in which the policy and the guidance push it.

    Within a panel both kinds of arrows have the same measure, so that their sum is where the chunk is going; the longest has `longest` world units.
    """
    points = to_world(trace["noisy_actions"][step])
    pushes = {POLICY_INK: trace["policy_push"][step] * SIZE / 2, GUIDANCE_INK: trace["guidance_push"][step] * SIZE / 2}
    measure = min(1.0, longest / max(1e-9, *(np.linalg.norm(push, axis=-1).max() for push in pushes.values())))
    for ink, push in pushes.items():
        axis.quiver(*points.T, *(measure * push).T, angles="xy", scale_units="xy", scale=1, color=ink, width=0.009, headwidth=4, zorder=6, alpha=0.85)
    show_chunk(axis, points)


def show_chunk(axis: Axes, points: Float[np.ndarray, "action 2"]) -> None:
    """A point an action, dark to light in time."""
    axis.plot(*points.T, color="#00000030", linewidth=0.8, zorder=3)
    axis.scatter(points[:, 0], points[:, 1], c=np.arange(len(points)), cmap="plasma", s=22, zorder=7, edgecolors="white", linewidths=0.5)


def shown_steps(trace: dict[str, NDArray[Any]], count: int) -> list[int]:
    """Steps to show, from the first to the last; of a step's repeats the last."""
    timesteps = trace["timestep"]
    last = np.flatnonzero(np.append(timesteps[1:] != timesteps[:-1], True))
    return [int(last[index]) for index in dict.fromkeys(np.linspace(0, len(last) - 1, count).round().astype(int))]


def draw_denoising(axes: Sequence[Axes], trace: dict[str, NDArray[Any]], layout: Layout) -> None:
    """An action chunk as it is made out of noise, one moment a panel, and finished in the last one."""
    *before, end = axes
    steps = shown_steps(trace, len(before))
    for axis, step in zip(before, steps, strict=False):
        show_scene(axis, layout)
        show_moment(axis, trace, step)
        axis.set_title(f"noise level k = {trace['timestep'][step]}", fontsize=9)
    for axis in before[len(steps) :]:
        axis.set_axis_off()
    show_scene(end, layout)
    show_chunk(end, to_world(trace["denoised_actions"][-1]))
    end.set_title("finished", fontsize=9)


def denoising_keys(figure: Any) -> None:
    """What the marks of `draw_denoising` mean."""
    marks = [
        figure.axes[0].plot([], [], color=POLICY_INK, linewidth=3)[0],
        figure.axes[0].plot([], [], color=GUIDANCE_INK, linewidth=3)[0],
        figure.axes[0].plot([], [], "o", color="#cc4778", markeredgecolor="white")[0],
    ]
    words = ["the policy's push", "the guidance's push", "the chunk's actions, dark to light in time"]
    figure.legend(marks, words, loc="lower center", ncols=3, frameon=False, fontsize=9)


def draw_trajectories(axes: Sequence[Axes], runs: Sequence[RecordedRun]) -> None:
    """Steered and unsteered episodes over the same layouts, one layout a panel."""
    episodes = [run.by_seed() for run in runs]
    seeds = sorted(set.intersection(*(set(one) for one in episodes)))
    for axis, seed in zip(axes, seeds, strict=False):
        show_scene(axis, layout_of(episodes[0][seed]))
        axis.set_title(f"layout {seed}", fontsize=9)
        for run, of in zip(runs, episodes, strict=True):
            show_path(axis, path_of(of[seed]), ink_of(run), dashed=run.arm == "base", label=run.name)
    for axis in axes[len(seeds) :]:
        axis.set_axis_off()


def draw_outcomes(axis: Axes, runs: Sequence[RecordedRun]) -> None:
    """How often each run touched each colour, with 95 % Wilson intervals; the colour that was sought is outlined."""
    width = 0.8 / len(OUTCOMES)
    for group, run in enumerate(runs):
        for index, (outcome, value) in enumerate(run.rates().items()):
            place = group + (index - (len(OUTCOMES) - 1) / 2) * width
            sought = run.arm != "base" and outcome == run.target
            label = outcome if group == 0 else None
            axis.bar(place, value.rate, width, color=INKS[outcome], edgecolor="black" if sought else "none", linewidth=1.8, label=label)
            error = [[value.rate - value.low], [value.high - value.rate]]
            axis.errorbar(place, value.rate, error, color="#00000099", linewidth=1, capsize=2)
    axis.set_xticks(range(len(runs)), [run.name.replace(" to ", "\nto ").replace(" away ", "\naway ") for run in runs], fontsize=9)
    axis.set(ylim=(0, 1.05), ylabel="share of episodes", xlim=(-0.6, len(runs) - 0.4))
    axis.legend(title="touched", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def ink_of(run: RecordedRun) -> str:
    """A run's colour: that of its target."""
    return BASE_INK if run.arm == "base" else INKS[run.target or NONE]


# Figures


def saved(figure: Figure, path: Path | str) -> Path:
    """Write the figure as PNG."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.1, facecolor="white")
    return Path(path)


def denoising_figure(path: Path | str, trace: dict[str, NDArray[Any]], episode: EpisodeResult, title: str) -> Path:
    figure = Figure(figsize=(3 * DENOISING_PANELS, 3.8))
    figure.subplots_adjust(**_PANELS)
    draw_denoising(list(figure.subplots(1, DENOISING_PANELS)), trace, layout_of(episode))
    denoising_keys(figure)
    figure.suptitle(title)
    return saved(figure, path)


def trajectories_figure(path: Path | str, runs: Sequence[RecordedRun]) -> Path:
    figure = Figure(figsize=(3 * LAYOUT_PANELS, 3.8))
    figure.subplots_adjust(**_PANELS)
    axes = list(figure.subplots(1, LAYOUT_PANELS))
    draw_trajectories(axes, runs)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=len(runs), frameon=False, fontsize=9)
    return saved(figure, path)


def outcomes_figure(path: Path | str, runs: Sequence[RecordedRun]) -> Path:
    figure = Figure(figsize=(max(6.0, 2.1 * len(runs)), 3.4))
    draw_outcomes(figure.subplots(), runs)
    return saved(figure, path)


def overview_figure(path: Path | str, runs: Sequence[RecordedRun], traced: RecordedRun, traces: Path | str) -> Path:
    """All three kinds of panel: how a chunk is denoised, where the episodes went, and what they touched."""
    figure = Figure(figsize=(15, 11.6))
    parts: Any = figure.subfigures(3, 1, height_ratios=(1.06, 1.06, 1))
    top, middle, bottom = parts
    for part in (top, middle):
        part.subplots_adjust(**_PANELS)
    seed = telling_seed(runs, traced, traced_seeds(traces))
    draw_denoising(list(top.subplots(1, DENOISING_PANELS)), read_trace(traces, seed), layout_of(traced.by_seed()[seed]))
    denoising_keys(top)
    top.suptitle(f"A  One decision, {traced.name}: an action chunk made out of noise (layout {seed})")
    axes = list(middle.subplots(1, LAYOUT_PANELS))
    drawn = [run for run in runs if run.arm == "base" or run.target]
    draw_trajectories(axes, drawn)
    middle.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=len(drawn), frameon=False, fontsize=9)
    middle.suptitle("B  The same layouts and the same noise, steered and unsteered")
    bottom.subplots_adjust(top=0.86, bottom=0.2, left=0.06, right=0.92)
    draw_outcomes(bottom.subplots(), runs)
    bottom.suptitle(f"C  What {len(runs[0].episodes)} episodes an arm touched, with 95 % intervals")
    return saved(figure, path)


def telling_seed(runs: Sequence[RecordedRun], traced: RecordedRun, seeds: Sequence[int]) -> int:
    """The first traced episode in which steering changed what was touched, to what was sought if anything was; or the first one."""
    base = next((run.by_seed() for run in runs if run.arm == "base"), {})
    steered = traced.by_seed()
    known = [seed for seed in seeds if seed in steered]
    if not known:
        raise UserError(f"there is no denoising trace of the episodes in {traced.path}")
    for seed in known:
        after = steered[seed].behaviors
        if seed in base and base[seed].behaviors != after and (traced.target is None or after == (traced.target,)):
            return seed
    return known[0]


def draw_denoising_of(results: Path, traces: Path, output: Path) -> list[Path]:
    """A picture of each traced decision of a run."""
    run = read_run(results)
    episodes = run.by_seed()
    return [
        denoising_figure(output / f"episode_{seed}.png", read_trace(traces, seed), episodes[seed], f"{run.name}, episode {seed}, first decision")
        for seed in traced_seeds(traces)
        if seed in episodes
    ]


# The sweep


def target_rate(runs: Sequence[RecordedRun]) -> Rate:
    """How often runs with one target each touched it, all their episodes together."""
    counts = [run.rates()[run.target].count for run in runs if run.target]
    return rate(sum(counts), sum(len(run.episodes) for run in runs if run.target))


def form_of(config: dict[str, Any]) -> str:
    """How the guidance was applied, in words: what a sweep draws as one line."""
    words = ["clean estimate" if config.get("on") == "clean_estimate" else "noisy chunk"]
    if config.get("ss", 1) > 1:
        words.append(f"{config['ss']} repeats, {'re-noised' if config.get('renoise') else 'not re-noised'}")
    if config.get("published_clamp"):
        words.append("published clamp")
    words += [f"{name} {config[key]:g}" for key, name in (("cap", "cap"), ("last_steps", "last")) if config.get(key) is not None]
    if config.get("free_steps"):
        words.append(f"last {config['free_steps']} steps free")
    if config.get("candidates", 1) > 1:
        words.append(f"best of {config['candidates']}")
    return ", ".join(words)


def sweep_figure(path: Path | str, runs: Sequence[RecordedRun]) -> Path:
    """The target's rate against the guidance's strength, all targets together; one line a form, the base policy dashed."""
    figure = Figure(figsize=(8.5, 4.8))
    axis = figure.subplots()
    steered = [run for run in runs if run.arm == "guided" and run.target]
    if not steered:
        raise UserError("a sweep needs results of guided runs with one target each")
    forms = list(dict.fromkeys(form_of(run.config) for run in steered))
    for index, form in enumerate(forms):
        aside = 1.02 ** (index - (len(forms) - 1) / 2)  # so that the bars of one strength do not hide each other
        _draw_form(axis, form, [run for run in steered if form_of(run.config) == form], aside)
    base = [episode for run in runs if run.arm == "base" for episode in run.episodes]
    if base:
        share = rate(sum(bool(episode.behaviors) for episode in base), len(COLOR_NAMES) * len(base))
        axis.axhline(share.rate, color=BASE_INK, linestyle="--", linewidth=1.2, label="base policy, mean over colours")
        axis.axhspan(share.low, share.high, color=BASE_INK, alpha=0.1, linewidth=0)
    axis.set(xscale="log", ylim=(0, 1), xlabel="guidance strength s", ylabel="touched the target")
    scales = sorted({float(run.config["scale"]) for run in steered})
    axis.set_xticks(scales, [f"{scale:g}" for scale in scales])
    axis.set_xticks([], minor=True)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return saved(figure, path)


def _draw_form(axis: Axes, form: str, runs: Sequence[RecordedRun], aside: float) -> None:
    scales = sorted({float(run.config["scale"]) for run in runs})
    rates = [target_rate([run for run in runs if run.config["scale"] == scale]) for scale in scales]
    centres = np.array([value.rate for value in rates])
    error = [centres - [value.low for value in rates], [value.high for value in rates] - centres]
    axis.errorbar(np.array(scales) * aside, centres, error, marker="o", markersize=4, capsize=2, linewidth=1.4, label=form)
