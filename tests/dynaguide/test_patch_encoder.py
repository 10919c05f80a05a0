"""The small patch encoder: its fingerprint, and the token of the whole picture that it learns from labels."""

import pytest
import torch

from dynaguide.encoders import load_patch_encoder, save_patch_encoder
from dynaguide.encoders.patches import PatchAutoencoder, PatchEncoder, PatchEncoderConfig, change_weights
from dynaguide.errors import UserError

SIZE = 16
LABELLED = PatchEncoderConfig(SIZE, (8, 16), labels=("green", "red"))


def dots(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with a dot anywhere, and its colour: 0 red, 1 green."""
    rng = torch.Generator().manual_seed(seed)
    colors, places = torch.randint(2, (count,), generator=rng), torch.randint(0, SIZE - 5, (count, 2), generator=rng)
    images = torch.full((count, 3, SIZE, SIZE), 0.5)
    for image, color, (x, y) in zip(images, colors, places.tolist(), strict=True):
        image[int(color), y : y + 5, x : x + 5] = 1.0
    return images, colors


def trained(steps: int = 300) -> PatchAutoencoder:
    torch.manual_seed(0)
    images, colors = dots(1000, 0)
    autoencoder = PatchAutoencoder(PatchEncoder(LABELLED), change_weights(images)[None])
    optimizer = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    for step in range(steps):
        chosen = torch.randint(1000, (32,), generator=torch.Generator().manual_seed(step))
        losses = autoencoder(images[chosen], 0, colors[chosen])
        optimizer.zero_grad()
        (losses["picture"] + 0.2 * losses["label"]).backward()
        optimizer.step()
    autoencoder.encoder.standardise_on(images)
    return autoencoder


def test_in_the_token_of_the_whole_picture_the_same_is_near_wherever_it_is():
    encoder = trained().encoder
    images, colors = dots(100, 1)
    with torch.no_grad():
        tokens = encoder(images)
    assert tokens.shape == (100, encoder.count, encoder.width) and encoder.side**2 == encoder.count - 1
    same = (colors[:, None] == colors) & ~torch.eye(100, dtype=torch.bool)
    told_apart = {}
    for name, part in (("patches", tokens[:, :-1]), ("whole", tokens[:, -1:])):
        distances = torch.cdist(part.flatten(1), part.flatten(1))
        told_apart[name] = float(distances[colors[:, None] != colors].mean() / distances[same].mean())
    assert told_apart["whole"] > 4 and told_apart["whole"] > 3 * told_apart["patches"]


def test_pictures_without_a_class_do_not_count():
    autoencoder = PatchAutoencoder(PatchEncoder(LABELLED), torch.ones(1, SIZE, SIZE))
    images, colors = dots(8, 2)
    some = torch.where(torch.arange(8) < 4, colors, -1)
    assert torch.allclose(autoencoder(images, 0, some)["label"], autoencoder(images[:4], 0, colors[:4])["label"])
    assert autoencoder(images, 0, torch.full((8,), -1))["label"] == 0


@pytest.mark.parametrize("labels", [(), ("green", "red")])
def test_a_fingerprint_follows_the_weights_while_they_are_trained(tmp_path, labels):
    """Saved twice, as a training run does: the second file says what the second weights are."""
    encoder = PatchEncoder(PatchEncoderConfig(SIZE, (8, 16), labels=labels))
    prints = set()
    for step in range(2):
        with torch.no_grad():
            encoder.trunk[0].weight.add_(step)
        save_patch_encoder(tmp_path / "encoder.safetensors", encoder)
        loaded = load_patch_encoder(tmp_path / "encoder.safetensors")
        assert loaded.config.labels == labels
        prints.add(loaded.fingerprint)
    assert len(prints) == 2


def test_a_file_whose_weights_were_changed_is_refused(tmp_path):
    from dynaguide import checkpoint

    encoder = PatchEncoder(PatchEncoderConfig(SIZE, (8, 16)))
    weights = {name: value + 1 for name, value in encoder.state_dict().items()}
    checkpoint.save(tmp_path / "encoder.safetensors", "patch encoder", encoder.describe(), weights)
    with pytest.raises(UserError, match="not those it was saved with"):
        load_patch_encoder(tmp_path / "encoder.safetensors")
