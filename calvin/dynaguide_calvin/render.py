"""Pictures of a world: our own renderer (moderngl over EGL, on a GPU or through Mesa on the CPU), or pybullet's TinyRenderer.

The two shade differently. What was recorded with one should not be evaluated with the other: `check_renderer` refuses it.
"""

import functools
import itertools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynaguide.errors import UserError, unknown_name
from dynaguide_calvin import meshes
from dynaguide_calvin.meshes import Mesh
from dynaguide_calvin.scene import CAMERAS
from dynaguide_calvin.world import LIGHT_COLORS, Part, World

log = logging.getLogger(__name__)
Array = NDArray[Any]
BACKGROUND = (0.80, 0.80, 0.82)  # the floor, as the shader would light it: drawing it would cost as much as everything else
MOST_PARTS = 64  # as in the shader
RENDERERS = ("gl", "tiny", "auto")

VERTEX_SHADER = """#version 330
in vec3 corner; in vec3 normal; in vec2 place; in vec3 color; in float part;
uniform mat4 view; uniform mat4 poses[64]; uniform vec4 glow;
out vec3 paint; out vec2 at;
void main() {
    mat4 pose = poses[int(part)];
    gl_Position = view * pose * vec4(corner, 1.0);
    vec3 n = normalize(mat3(pose) * normal);
    float sun = max(dot(n, normalize(vec3(0.45, -0.65, 1.0))), 0.0);
    float sky = 0.5 + 0.5 * n.z;
    paint = mix(color * (0.38 + 0.17 * sky + 0.50 * sun), glow.rgb, glow.a);
    at = place;
}"""
PLAIN_SHADER = """#version 330
in vec3 paint; out vec4 seen;
void main() { seen = vec4(paint, 1.0); }"""
TEXTURED_SHADER = """#version 330
in vec3 paint; in vec2 at; uniform sampler2D picture; out vec4 seen;
void main() { seen = vec4(paint * texture(picture, at).rgb, 1.0); }"""


def painter(name: str) -> "Gl | Tiny":
    """The renderer of a name; `auto` is gl where it works."""
    if name not in RENDERERS:
        raise unknown_name("renderer", name, list(RENDERERS))
    if name == "tiny":
        return Tiny()
    try:
        return Gl(_device(os.getpid()))
    except UserError as error:
        if name == "gl":
            raise
        log.warning("%s; using pybullet's TinyRenderer, which is slower and looks different", error)
        return Tiny()


def check_renderer(meta_of_data: Mapping[str, Any], meta_of_model: Mapping[str, Any]) -> None:
    """Refuses pictures of one renderer for a model that learned from another's; metadata that names none passes."""
    names = [meta.get("env_kwargs", {}).get("renderer") for meta in (meta_of_data, meta_of_model)]
    if all(names) and names[0] != names[1]:
        raise UserError(f"images by the renderer {names[0]!r} do not go with a model trained on {names[1]!r}: make both with the same --renderer")


class View(NamedTuple):
    """Matrices as pybullet and OpenGL have them: 16 numbers, column by column."""

    view: Any
    projection: Any


def camera_view(world: World, name: str) -> View:
    camera, bullet = CAMERAS[name], world.bullet
    projection = bullet.computeProjectionMatrixFOV(camera.fov_degrees, 1.0, camera.near, camera.far)
    if camera.eye is not None:
        return View(bullet.computeViewMatrix(camera.eye, camera.target, camera.up), projection)
    state = bullet.getLinkState(world.robot.body, world.robot.camera, computeForwardKinematics=1)
    turn, eye = np.reshape(bullet.getMatrixFromQuaternion(state[5]), (3, 3)), np.array(state[4])
    return View(bullet.computeViewMatrix(eye, eye + turn[:, 1], -turn[:, 2]), projection)


class Tiny:
    """pybullet's own renderer on the CPU: no EGL needed."""

    name = "tiny"

    def picture(self, world: World, camera: str, size: int) -> Array:
        bullet = world.bullet
        world.paint_lights()
        view, projection = camera_view(world, camera)
        flags = {"flags": bullet.ER_NO_SEGMENTATION_MASK, "renderer": bullet.ER_TINY_RENDERER, "shadow": 0}  # shadow is remembered: always say it
        pixels = bullet.getCameraImage(size, size, viewMatrix=view, projectionMatrix=projection, **flags)[2]
        return np.reshape(np.asarray(pixels, np.uint8), (size, size, 4))[..., :3].copy()


class Gl:
    """Our own renderer. Every world of a process shares one GL context; worlds of the same make share their meshes."""

    name = "gl"

    def __init__(self, device: "_Device") -> None:
        self._device = device
        self._model: _Model | None = None

    def picture(self, world: World, camera: str, size: int) -> Array:
        view, projection = camera_view(world, camera)
        matrix = np.reshape(view, (4, 4)) @ np.reshape(projection, (4, 4))  # both transposed: so is their product
        with self._device.context:  # the process may have other GL contexts
            if self._model is None:
                self._model = _Model(self._device, world)
            return self._model.draw(world, matrix, size)


def _glow(world: World, light: int | None) -> tuple[float, float, float, float]:
    """What a light that is on mixes into its own colour, and how much."""
    return (*LIGHT_COLORS[light], 0.85) if light is not None and world.is_on(light) else (0.0, 0.0, 0.0, 0.0)


class _Device:
    """A GL context, its programs and its frame buffers."""

    def __init__(self) -> None:
        os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa on the CPU: without threads of its own it survives a fork; processes are the parallelism
        try:
            import moderngl

            self.context = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]
            self.plain = self.context.program(VERTEX_SHADER, PLAIN_SHADER)
            self.textured = self.context.program(VERTEX_SHADER, TEXTURED_SHADER)
        except Exception as error:  # every driver fails in its own way
            raise UserError(f'no EGL for the renderer "gl" ({error}): install libegl1 and libgl1-mesa-dri, or use the renderer "tiny"') from error
        self.context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._buffers: dict[int, Any] = {}

    def buffer(self, size: int) -> Any:
        if size not in self._buffers:
            self._buffers[size] = self.context.simple_framebuffer((size, size), components=3)
        return self._buffers[size]


@functools.lru_cache(maxsize=1)
def _device(process: int) -> _Device:
    """One for each process: a context does not survive a fork."""
    return _Device()


class _Batch(NamedTuple):
    """What is drawn with one program and texture; `spans` are the corners of each part: part, first, count."""

    array: Any
    texture: Any | None
    light: int | None
    spans: list[tuple[int, int, int]]


class _Model:
    """A world's meshes on the device, and which part of the world moves which."""

    def __init__(self, device: _Device, world: World) -> None:
        self._device = device
        shapes = list(visible_shapes(world))
        parts = sorted(dict.fromkeys(shape.part for shape in shapes))
        self._links = {body: [part.link for part in parts if part.body == body] for body in dict.fromkeys(part.body for part in parts)}
        lit = {part: light for light, part in world.lights.items()}
        groups: dict[tuple[Path | None, int | None], list[Array]] = {}
        for shape in shapes:
            groups.setdefault((shape.mesh.image, lit.get(shape.part)), []).append(_vertices(shape, parts.index(shape.part)))
        self._balls = np.array([_ball(np.concatenate([one.mesh.corners for one in shapes if one.part == part])) for part in parts])
        self._moment: object = None  # that `_poses` are of
        self._batches = [self._upload(np.concatenate(some), image, light) for (image, light), some in groups.items()]

    def draw(self, world: World, matrix: Array, size: int) -> Array:
        frame = self._device.buffer(size)
        frame.use()
        self._device.context.clear(*BACKGROUND)
        if self._moment is not world.moment:  # both cameras of a step share them
            self._moment, self._poses = world.moment, _poses(world, self._links)
        visible = _visible_balls(self._balls, self._poses, matrix)
        for program in {id(batch.array.program): batch.array.program for batch in self._batches}.values():
            program["view"].write(matrix.astype("f4").tobytes())
            program["poses"].write(self._poses.tobytes())
        for batch in self._batches:
            batch.array.program["glow"].value = _glow(world, batch.light)
            if batch.texture is not None:
                batch.texture.use()
            for first, count in _joined(batch.spans, visible):
                batch.array.render(first=first, vertices=count)
        return np.frombuffer(frame.read(components=3, alignment=1), np.uint8).reshape(size, size, 3)[::-1].copy()

    def _upload(self, vertices: Array, image: Path | None, light: int | None) -> _Batch:
        context = self._device.context
        unique, order = np.unique(vertices.astype("f4"), axis=0, return_inverse=True)
        layout, names = (
            ("3f 3f 2f 3f 1f", ["corner", "normal", "place", "color", "part"])
            if image
            else ("3f 3f 2x4 3f 1f", ["corner", "normal", "color", "part"])
        )
        program = self._device.textured if image else self._device.plain
        indices = context.buffer(order.ravel().astype("i4").tobytes())
        array = context.vertex_array(program, [(context.buffer(unique.tobytes()), layout, *names)], indices)
        return _Batch(array, _texture(context, image) if image else None, light, _spans(vertices[:, -1].astype(int)))


def _ball(corners: Array) -> Array:
    """(5,): centre, 1 and radius of a ball around a part, in the part's frame."""
    centre = (corners.min(0) + corners.max(0)) / 2
    return np.array([*centre, 1, np.linalg.norm(corners - centre, axis=1).max()])


def _visible_balls(balls: Array, poses: Array, matrix: Array) -> Array:
    """Which parts a camera may see: (part,) of bool. `balls` have a 1 before their radius; `poses` and `matrix` are transposed."""
    centres = (balls[:, None, :4] @ poses[: len(balls)])[:, 0]
    planes = np.concatenate([matrix[:, 3:] + matrix[:, :3], matrix[:, 3:] - matrix[:, :3]], axis=1)  # (4, 6), positive inside
    return np.asarray((centres @ planes > -balls[:, 4:] * np.sqrt((planes[:3] ** 2).sum(0))).all(1))


def _spans(parts: Array) -> list[tuple[int, int, int]]:
    """Runs of equal numbers: number, first, length."""
    edges = [0, *(np.flatnonzero(np.diff(parts)) + 1), len(parts)]
    return [(int(parts[first]), int(first), int(last - first)) for first, last in itertools.pairwise(edges)]


def _joined(spans: list[tuple[int, int, int]], visible: Array) -> list[tuple[int, int]]:
    """The visible spans as (first, length), neighbours made one."""
    made: list[tuple[int, int]] = []
    for part, first, count in spans:
        if visible[part]:
            if made and sum(made[-1]) == first:
                made[-1] = (made[-1][0], made[-1][1] + count)
            else:
                made.append((first, count))
    return made


class VisibleShape(NamedTuple):
    """A mesh in the frame of its link."""

    part: Part
    mesh: Mesh
    color: tuple[float, float, float]


def visible_shapes(world: World) -> list[VisibleShape]:
    """Everything that can be seen, of every body but the floor."""
    bodies = [world.bullet.getBodyUniqueId(index) for index in range(world.bullet.getNumBodies())]
    bodies.remove(world.floor)
    return [shape for body in bodies for data in world.bullet.getVisualShapeData(body) if (shape := _visible(world, data)) is not None]


def _visible(world: World, data: Any) -> VisibleShape | None:
    body, link, kind, size, name, position, quaternion, color = data[:8]
    bullet = world.bullet
    if kind == bullet.GEOM_BOX:
        mesh = meshes.box(size)
    elif kind == bullet.GEOM_CYLINDER:
        mesh = meshes.cylinder(size[1], size[0])
    elif kind == bullet.GEOM_SPHERE:
        mesh = meshes.sphere(size[0])
    elif kind == bullet.GEOM_MESH:
        mesh = meshes.read_mesh(Path(name.decode()))
        mesh = mesh._replace(corners=mesh.corners * np.asarray(size))
    else:
        return None
    turn = np.reshape(bullet.getMatrixFromQuaternion(quaternion), (3, 3))
    if link < 0:  # a base is placed by its centre of mass
        position = np.subtract(position, bullet.getDynamicsInfo(body, link)[3])
    moved = mesh._replace(corners=mesh.corners @ turn.T + position, normals=mesh.normals @ turn.T)
    return VisibleShape(Part(body, link), moved, color[:3])


def _vertices(shape: VisibleShape, part: int) -> Array:
    """(corners, 12): place, normal, texture place, colour, index of the part."""
    count = len(shape.mesh.corners)
    return np.concatenate(
        [shape.mesh.corners, shape.mesh.normals, shape.mesh.texture, np.tile(shape.color, (count, 1)), np.full((count, 1), part)], axis=1
    )


def _poses(world: World, groups: Mapping[int, list[int]]) -> Array:
    """(MOST_PARTS, 4, 4) of the parts in their order, transposed as GL wants them."""
    places = np.array(_places(world, groups))
    made = np.zeros((MOST_PARTS, 4, 4), np.float32)
    made[:, 3, 3] = 1
    made[: len(places), :3, :3] = _turns(places[:, 3:]).transpose(0, 2, 1)
    made[: len(places), 3, :3] = places[:, :3]
    return made


def _places(world: World, groups: Mapping[int, list[int]]) -> list[tuple[float, ...]]:
    """Position and quaternion of each link's frame, or of a base's centre of mass, body by body."""
    bullet, made = world.bullet, []
    for body, links in groups.items():
        bases = links.count(-1)
        if bases:
            position, quaternion = bullet.getBasePositionAndOrientation(body)
            made.append(position + quaternion)
        if len(links) > bases:
            made += [state[4] + state[5] for state in bullet.getLinkStates(body, links[bases:], computeForwardKinematics=1)]
    return made


def _turns(quaternions: Array) -> Array:
    """(n, 4) as x, y, z, w -> (n, 3, 3)."""
    x, y, z, w = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _texture(context: Any, path: Path) -> Any:
    import imageio.v3 as iio

    image = np.ascontiguousarray(np.asarray(iio.imread(path))[::-1, :, :3])
    texture = context.texture((image.shape[1], image.shape[0]), 3, image.tobytes(), alignment=1)
    texture.build_mipmaps()
    return texture
