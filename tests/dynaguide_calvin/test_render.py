"""Pictures: lights, furniture and cubes are seen, both renderers agree on what is where, and what is refused."""

import numpy as np
import pytest

from dynaguide import UserError
from dynaguide.rollout import ChunkStep, vector_env
from dynaguide_calvin import meshes, render
from dynaguide_calvin import scene as facts
from dynaguide_calvin.env import PlayTableEnv

LOW = {"sliding_door": "right", "drawer": "closed", "switch": "off", "green_light": "off"}
THIRD = facts.THIRD_PERSON


def gl_works() -> bool:
    try:
        render.painter("gl")
    except UserError:
        return False
    return True


needs_gl = pytest.mark.skipif(not gl_works(), reason="no EGL on this machine")
renderers = pytest.mark.parametrize("renderer", [pytest.param("gl", marks=needs_gl), "tiny"])


def seen(env, **setup) -> np.ndarray:
    return env.reset(seed=0, options={"setup": {**LOW, **setup}})[0][THIRD].astype(int)


def coloured(picture: np.ndarray, color) -> int:
    """Pixels nearer to a pure colour than 80 in every channel."""
    return int((np.abs(picture - 255 * np.array(color)).max(-1) < 80).sum())


@renderers
def test_everything_that_moves_is_seen(renderer):
    env = PlayTableEnv(renderer=renderer, cameras={THIRD: 200})
    before = seen(env)
    assert before.std() > 20
    for part, value in (("sliding_door", "left"), ("drawer", "open"), ("switch", "on"), ("green_light", "on")):
        changed = np.abs(seen(env, **{part: value}) - before).max(-1) > 25
        assert changed.sum() > 40, part
    env.close()


@renderers
def test_lights_have_their_colours_when_they_are_on(renderer):
    env = PlayTableEnv(renderer=renderer, cameras={THIRD: 200})
    off, on = seen(env), seen(env, switch="on", green_light="on")
    for color in (facts.BULB_COLOR, facts.LED_COLOR):
        assert coloured(off, color) == 0 and coloured(on, color) > 20
    env.close()


@renderers
def test_the_hand_sees_its_fingers_and_what_is_below(renderer):
    env = PlayTableEnv(renderer=renderer, cameras=(facts.EYE_IN_HAND,))
    first = env.reset(seed=0, options={"robot": "random"})[0][facts.EYE_IN_HAND].astype(int)
    for _ in range(10):
        moved = env.step(np.array([0, 0, -1, 0, 0, 1, 1.0]))[0][facts.EYE_IN_HAND].astype(int)
    assert (np.abs(moved - first).max(-1) > 25).mean() > 0.1
    env.close()


@needs_gl
def test_both_renderers_put_things_in_the_same_place():
    pictures = {}
    for renderer in ("gl", "tiny"):
        env = PlayTableEnv(renderer=renderer)
        obs = env.reset(seed=4, options={"setup": {**LOW, "green_light": "on"}, "cubes": "table_only"})[0]
        pictures[renderer] = obs
        env.close()
    for camera in facts.CAMERAS:
        one, other = (pictures[name][camera].astype(int) for name in ("gl", "tiny"))
        assert (np.abs(one - other).max(-1) < 90).mean() > 0.9
    for color in (facts.CUBE_COLORS["red"], facts.CUBE_COLORS["pink"], facts.LED_COLOR):
        bright = [np.where(np.array(color) > 0.5, obs[THIRD] > 120, obs[THIRD] < 60).all(-1) for obs in pictures.values()]
        assert all(mask.sum() > 10 for mask in bright)
        np.testing.assert_allclose(*(np.argwhere(mask).mean(0) for mask in bright), atol=3)


@needs_gl
def test_environments_of_one_process_do_not_mix_their_pictures():
    envs = [PlayTableEnv(renderer="gl", scene=scene, cameras={THIRD: 64}) for scene in "AD"]
    alone = [env.reset(seed=0)[0][THIRD] for env in envs]
    together = [env.observe()[THIRD] for env in envs for _ in range(2)]
    assert np.array_equal(alone[0], together[1]) and np.array_equal(alone[1], together[3])
    assert not np.array_equal(*alone)
    for env in envs:
        env.close()


@needs_gl
def test_processes_after_a_picture_in_the_parent_give_the_same_pictures():
    def make():
        return ChunkStep(PlayTableEnv(renderer="gl", cameras={THIRD: 48}), history=1, steps=2, horizon=9)

    env = make()
    alone = [env.reset(seed=seed)[0][THIRD] for seed in (0, 1)]  # the parent has a GL context before its children are made
    envs = vector_env(make, 2, processes=True)
    try:
        together = envs.reset(seed=[0, 1])[0][THIRD]
    finally:
        envs.close()
    assert np.array_equal(np.stack(alone), together)
    env.close()


@needs_gl
def test_images_are_made_only_when_asked_for():
    env = PlayTableEnv(renderer="gl", cameras={THIRD: 32})
    env.images = False
    assert sorted(env.reset(seed=0)[0]) == ["proprio", "states"]
    assert env._painter is None
    assert sorted(env.observe()) == ["proprio", "states", THIRD]
    env.close()


def test_renderers_are_not_mixed():
    def meta(name):
        return {"env_name": "PlayTable", "env_kwargs": {"renderer": name} if name else {}}

    render.check_renderer(meta("gl"), meta("gl"))
    render.check_renderer(meta(None), meta("gl"))
    with pytest.raises(UserError, match=r"'tiny' do not go with a model trained on 'gl'"):
        render.check_renderer(meta("tiny"), meta("gl"))


def test_without_egl_gl_is_refused_and_auto_falls_back(monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise OSError("libEGL.so not found")

    render._device.cache_clear()
    monkeypatch.setattr("moderngl.create_context", broken)
    with pytest.raises(UserError, match=r"no EGL .*libEGL\.so not found.*tiny"):
        render.painter("gl")
    assert render.painter("auto").name == "tiny" and "slower" in caplog.text
    render._device.cache_clear()


def test_meshes_are_closed_and_face_outwards(tmp_path):
    def volume(mesh):
        a, b, c = np.moveaxis(mesh.corners.reshape(-1, 3, 3), 1, 0)
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)

    assert volume(meshes.box((0.2, 0.3, 0.4))) == pytest.approx(0.024)
    assert volume(meshes.cylinder(0.1, 0.5)) == pytest.approx(0.005 * np.pi, rel=0.02)
    assert volume(meshes.sphere(0.1)) == pytest.approx(4 / 3 * np.pi * 1e-3, rel=0.1)
    (tmp_path / "broken.obj").write_text("v 0 0 0\nf 1 2 9\n")
    with pytest.raises(UserError, match=r"broken\.obj"):
        meshes.read_mesh(tmp_path / "broken.obj")
