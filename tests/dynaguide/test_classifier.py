"""The end-state classifier and its score: what it says, which way it pushes, and what it refuses."""

import pytest
import torch
from diffusers import DDIMScheduler

from dynaguide import UserError, ascend
from dynaguide.chunks import Batch
from dynaguide.classifier import (
    ChunkNoise,
    ClassifierConfig,
    ClassifierObjective,
    Embedding,
    EndStateClassifier,
    load_classifier,
    save_classifier,
)
from dynaguide.scores import class_score
from dynaguide.steering import moment

CLASSES = ("blue", "red", "green")
SIZE = 16


def make(seed: int = 0, **changes) -> EndStateClassifier:
    torch.manual_seed(seed)
    return EndStateClassifier(ClassifierConfig(CLASSES, image_size=SIZE, **changes)).requires_grad_(False).eval()


def observe(batch: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"image": torch.randint(0, 256, (batch, 2, 3, SIZE, SIZE), dtype=torch.uint8), "agent_pos": torch.rand(batch, 2, 2)}


def chunks(batch: int = 3) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.rand(batch, 16, 2) * 2 - 1


def log_p(classifier, obs, actions):
    return classifier.log_probabilities(classifier.embed(obs["image"][:, -1]), actions)


def flag_at(classifier, cell: int, wanted: int) -> Embedding:
    """A picture whose only landmark is one cell that speaks for one class."""
    classes = torch.zeros(1, len(classifier.cells), len(CLASSES))
    classes[0, cell, wanted] = 6.0
    return Embedding(torch.zeros(1, len(classifier.cells)), classes)


def test_probabilities_sum_to_one():
    torch.testing.assert_close(log_p(make(), observe(), chunks()).exp().sum(-1), torch.ones(3))


def test_bytes_and_floats_are_the_same_image():
    classifier, obs = make(), observe()
    as_floats = {**obs, "image": obs["image"].float() / 255}
    torch.testing.assert_close(log_p(classifier, as_floats, chunks()), log_p(classifier, obs, chunks()))


def test_several_chunks_share_one_image():
    classifier, obs, actions = make(), observe(2), chunks(6)
    together = log_p(classifier, obs, actions)
    alone = [log_p(classifier, {"image": obs["image"][row : row + 1]}, actions[3 * row : 3 * row + 3]) for row in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not torch.allclose(alone[0], alone[1])


def test_the_gradient_agrees_with_finite_differences():
    classifier, obs = make().double(), observe()
    obs["image"] = obs["image"].double() / 255
    actions = chunks().double().requires_grad_()
    values = log_p(classifier, obs, actions)[:, 1]
    (gradient,) = torch.autograd.grad(values.sum(), actions)
    step, direction = 1e-6, torch.randn_like(actions)
    rise = log_p(classifier, obs, actions + step * direction)[:, 1] - log_p(classifier, obs, actions - step * direction)[:, 1]
    torch.testing.assert_close(rise / (2 * step), (gradient * direction).sum((1, 2)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("cell", [0, 3, 9, 14])
def test_an_untrained_classifier_already_pushes_the_chunks_end_towards_the_cell_of_a_class(cell):
    classifier = make()
    for parameter in classifier.read_chunk[-1].parameters():
        parameter.zero_()
    actions = torch.zeros(1, 16, 2, requires_grad=True)
    known = flag_at(classifier, cell, wanted=2)
    (gradient,) = torch.autograd.grad(classifier.log_probabilities(known, actions)[:, 2].sum(), actions)
    push = gradient[0, -4:].mean(0)
    assert torch.nn.functional.cosine_similarity(push, classifier.cells[cell], dim=0) > 0.95
    assert (gradient[0, :-4] == 0).all()


def test_a_stored_classifier_says_the_same(tmp_path):
    classifier = make(frequencies=(1.0, 2.0), noise=ChunkNoise(0.5, scale=2.0))
    save_classifier(tmp_path / "one.safetensors", classifier, {"env_name": "here"})
    loaded = load_classifier(tmp_path / "one.safetensors")
    torch.testing.assert_close(log_p(loaded.classifier, observe(), chunks()), log_p(classifier, observe(), chunks()), rtol=0, atol=0)
    assert loaded.classifier.config == classifier.config
    assert loaded.env_meta == {"env_name": "here"}
    assert not loaded.classifier.training
    assert not any(parameter.requires_grad for parameter in loaded.classifier.parameters())


def test_an_image_of_another_size_is_refused():
    with pytest.raises(UserError, match=r"trained on images of shape \(3, 16, 16\), not \(3, 32, 32\)"):
        make().embed(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("changes", [{"image_size": 30}, {"classes": ("one",)}])
def test_a_classifier_that_cannot_be_is_refused(changes):
    with pytest.raises(UserError):
        ClassifierConfig(**{"classes": CLASSES, **changes})


def test_it_learns_where_chunks_end():
    """Two coloured halves, and chunks that end in one of them: a toy that a few hundred steps solve."""
    torch.manual_seed(0)
    classifier = EndStateClassifier(ClassifierConfig(("left", "right"), image_size=SIZE, width=32, noise=ChunkNoise(0.5)))
    objective, optimizer = ClassifierObjective(classifier, draws=2), torch.optim.Adam(classifier.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        labels, flipped = torch.randint(0, 2, (32,)), torch.randint(0, 2, (32,))
        image = torch.zeros(32, 2, 3, SIZE, SIZE)
        for row in range(32):  # red marks where label 0 lies, on either side
            image[row, :, 0, :, :8] = float(not flipped[row])
            image[row, :, 0, :, 8:] = float(flipped[row])
        side = torch.where(labels == flipped, -0.6, 0.6)
        actions = torch.linspace(0, 1, 16)[None, :, None] * torch.stack([side, torch.rand(32) - 0.5], -1)[:, None]
        obs = {"image": image, "agent_pos": torch.zeros(32, 2, 2), "label": labels.float()[:, None, None].expand(-1, 2, 1)}
        result = objective(Batch(obs, actions, {}, torch.arange(32)))
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        losses.append(float(result["loss"].detach()))
    assert sum(losses[:5]) / 5 > 0.4
    assert sum(losses[-10:]) / 10 < 0.2
    assert result["accuracy"] > 0.9


def test_noise_is_added_as_the_policy_adds_it():
    noise, obs, actions = ChunkNoise(1.0, scale=2.0), observe(4), chunks(4)
    schedule = torch.tensor([10] * 4)
    torch.manual_seed(5)
    noisy = noise.at_steps(actions, obs, schedule)
    torch.manual_seed(5)
    drawn = torch.randn_like(actions)
    alpha_bar = (
        torch.cos(torch.tensor((10 + 1) / 100 + 0.008) / 1.008 * torch.pi / 2) ** 2 / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2)) ** 2
    )
    origin = obs["agent_pos"][:, -1:]
    expected = (alpha_bar.sqrt() * (actions - origin) * 2 + (1 - alpha_bar).sqrt() * drawn) / 2 + origin
    torch.testing.assert_close(noisy, expected, atol=2e-3, rtol=0)


def test_the_share_of_noised_chunks_is_the_one_asked_for():
    obs, actions = observe(400), chunks(400)
    changed = {share: (ChunkNoise(share).at_random(actions, obs) != actions).any(2).any(1).float().mean() for share in (0.0, 0.5, 1.0)}
    assert changed[0.0] == 0
    assert 0.4 < changed[0.5] < 0.6
    assert changed[1.0] == 1


def test_the_score_is_the_weighted_sum_of_log_probabilities():
    classifier, obs, actions = make(), observe(), chunks()
    expected = log_p(classifier, obs, actions) @ torch.tensor([0.5, -1.0, 2.0])
    torch.testing.assert_close(class_score(classifier, [0.5, -1.0, 2.0]).given(obs)(actions), expected)


def test_away_from_a_class_can_be_the_log_probability_of_the_others():
    classifier, obs, actions = make(), observe(), chunks()
    expected = torch.log(1 - log_p(classifier, obs, actions).exp()[:, 1])
    torch.testing.assert_close(class_score(classifier, [0.0, -1.0, 0.0], away="log_not_p").given(obs)(actions), expected)


def test_away_as_published_pushes_on_forever_and_log_not_p_stops():
    classifier = make()
    at = moment(DDIMScheduler(clip_sample=False), 0, torch.full((1, 16, 2), 0.0), torch.zeros(1, 16, 2))
    pushes = {}
    for away in ("log_p", "log_not_p"):
        score = class_score(classifier, [0.0, 0.0, -1.0], away=away)
        classifier.embed = lambda image: flag_at(classifier, 0, wanted=2)._replace(
            classes=torch.tensor([[[0.0, 0.0, -9.0]] * 15 + [[0.0, 0.0, -3.0]]])
        )
        pushes[away] = ascend(score, 1.0).given(observe(1))(at).norm()
    assert pushes["log_not_p"] < 0.05 * pushes["log_p"]


def test_the_image_is_embedded_once_for_all_chunks(monkeypatch):
    classifier, count = make(), []
    embed = classifier.embed
    monkeypatch.setattr(classifier, "embed", lambda image: count.append(1) or embed(image))
    bound = class_score(classifier, [1.0, 0.0, 0.0]).given(observe())
    for _ in range(5):
        bound(chunks(6))
    assert len(count) == 1


@pytest.mark.parametrize(("weights", "words"), [([1.0, 0.0], "3, not 2"), ([0.0, 0.0, 0.0], "not all zero"), ([1.0, float("nan"), 0.0], "finite")])
def test_weights_that_say_nothing_are_refused(weights, words):
    with pytest.raises(UserError, match=words):
        class_score(make(), weights)


def test_an_unknown_meaning_of_away_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="log_not_p"):
        class_score(make(), [1.0, 0.0, 0.0], away="log_notp")


def test_a_missing_image_is_named():
    with pytest.raises(UserError, match="'image'"):
        class_score(make(), [1.0, 0.0, 0.0]).given({"agent_pos": torch.zeros(1, 2, 2)})
