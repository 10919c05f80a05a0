"""What two outcomes are compared by."""

import pytest
import torch
from dot_world import WINDOWS

from dynaguide.dynamics import DynamicsConfig
from dynaguide.encoders.patches import PatchEncoder, PatchEncoderConfig
from dynaguide.errors import UserError
from dynaguide.outcome_training import new_dynamics
from dynaguide.scores import Conditions, goal_score, outcome_metric

SIZES = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "action_numbers": 2}


@pytest.fixture(scope="module")
def two_cameras():
    torch.manual_seed(0)
    encoder = PatchEncoder(PatchEncoderConfig(32, (4, 8))).requires_grad_(False).eval()
    config = DynamicsConfig(action_dim=2, tokens=encoder.count, features=encoder.width, cameras=("front", "hand"), picture_sizes=((32, 32),) * 2,
                            windows=WINDOWS, proprio_key=None, proprio_dim=0, **SIZES)  # fmt: skip
    return new_dynamics(config, encoder, decoder_width=0, env_meta={}).frozen()


def partly_agreed(count: int = 20) -> torch.Tensor:
    """Pictures that agree on their first two tokens, and show anything in the other six."""
    pictures = 3 * torch.randn(count, 8, 4, generator=torch.Generator().manual_seed(1))
    pictures[:, :2] = 1.0
    return pictures


def test_what_the_pictures_agree_on_counts_most():
    pictures = partly_agreed()
    right, wrong = 3 * torch.randn(2, 1, 8, 4, generator=torch.Generator().manual_seed(2))
    right[:, :2] = 1.0  # the part as wanted, everything else as it happens to be
    wrong[:, 2:] = pictures[:1, 2:]  # everything else as in one of the pictures, but not the part
    plain, weighted = (outcome_metric(Conditions(pictures), 3.0, distance=distance) for distance in ("euclidean", "weighted"))
    assert plain(wrong) > plain(right)
    assert weighted(right) > weighted(wrong)


def test_one_picture_agrees_with_itself_on_everything():
    one, outcomes = Conditions(partly_agreed(1)), partly_agreed(5)
    plain, weighted = (outcome_metric(one, 3.0, distance=distance) for distance in ("euclidean", "weighted"))
    torch.testing.assert_close(weighted(outcomes), plain(outcomes))


def test_only_the_chosen_cameras_are_compared(two_cameras):
    tokens, features = two_cameras.config.image_tokens, two_cameras.config.features
    wanted = torch.randn(3, tokens, features)
    other = wanted.clone()
    other[:, tokens // 2 :] += 1  # another view of the hand
    obs = {"front": torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8), "hand": torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8)}
    chunks = torch.rand(2, WINDOWS.horizon, 2)

    def scored(pictures, cameras):
        return goal_score(two_cameras, Conditions(pictures), 3.0, cameras=cameras).given(obs)(chunks)

    torch.testing.assert_close(scored(wanted, ["front"]), scored(other, ["front"]))
    assert (scored(wanted, ["hand"]) != scored(other, ["hand"])).all()
    torch.testing.assert_close(scored(wanted, ["front", "hand"]), scored(wanted, None))
    with pytest.raises(UserError, match="side"):
        goal_score(two_cameras, Conditions(wanted), 3.0, cameras=["side"])
