"""The public CALVIN files instead of the primitives: the same state layout and control."""

import shutil

import hand
import numpy as np
import pytest

from dynaguide import UserError
from dynaguide_calvin import scene as facts
from dynaguide_calvin.env import PlayTableEnv
from published import SHARED

ASSETS = SHARED / "calvin_assets"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="the public CALVIN files are not on this machine")
CLOSED = {"sliding_door": "right", "drawer": "closed", "switch": "off", "green_light": "off"}


@pytest.fixture(scope="module", params=["A", "D"])
def env(request):
    made = PlayTableEnv(scene=request.param, assets=ASSETS, cameras=())
    yield made
    made.close()


@needs_assets
def test_the_gripper_starts_at_the_same_place(env):
    env.reset(seed=0)
    np.testing.assert_allclose(env.proprio[facts.TCP], (0.0259, -0.2313, 0.5713), atol=1e-3)
    np.testing.assert_allclose(env.proprio[facts.EULER], (3.090, -0.029, 1.500), atol=1e-3)


@needs_assets
def test_states_come_back_as_they_were_set(env):
    env.reset(seed=0, options={"setup": {"sliding_door": "left", "drawer": "open", "switch": "on", "green_light": "on"}, "cubes": "table_only"})
    states = env.states
    np.testing.assert_allclose(states[:6], (0.27, 0.16, 0, 0.088, 1, 1), atol=2e-3)
    env.reset(seed=1, options={"scene": states, "cubes": "keep"})
    np.testing.assert_allclose(env.states, states, atol=6e-3)


@needs_assets
def test_furniture_moves_as_the_primitives_do(env):
    for act, index, least in ((hand.press_button, facts.BUTTON, 0.015), (hand.open_drawer, facts.DRAWER, 0.2)):
        env.reset(seed=0, options={"setup": CLOSED, "cubes": "table_only"})
        assert act(env).seen(index).max() > least, act.__name__
    env.reset(seed=0, options={"setup": CLOSED, "cubes": "table_only"})
    assert hand.slide_door(env, -1).seen(facts.DOOR).max() > 0.25
    env.reset(seed=0, options={"setup": CLOSED, "cubes": "table_only"})
    assert hand.push_switch(env, 1).seen(facts.SWITCH).max() > 0.07


@needs_assets
def test_motion_without_contact_is_the_primitives_motion(env):
    own = PlayTableEnv(scene=env.scene.name, cameras=())
    ways = []
    for one in (env, own):
        one.reset(seed=0)
        ways.append([one.step(np.array([0.5, 0.3, 0.2, 0.2, -0.1, 0.3, 1]))[0]["proprio"][:3] for _ in range(20)])
    np.testing.assert_allclose(*ways, atol=1e-3)
    own.close()


@needs_assets
def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="calvin_table_B"):
        PlayTableEnv(scene="B", assets=ASSETS)
    shutil.copytree(ASSETS, tmp_path / "assets")
    (tmp_path / "assets" / "calvin_table_D" / "meshes" / "drawer_link.obj").unlink()
    with pytest.raises(UserError, match=r"drawer_link\.obj"):
        PlayTableEnv(assets=tmp_path / "assets")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"panda_longer_finger\.urdf"):
        PlayTableEnv(assets=tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        PlayTableEnv(assets=tmp_path / "nowhere")
