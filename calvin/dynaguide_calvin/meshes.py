"""Triangles with normals: boxes, cylinders, spheres, and what OBJ and STL files hold."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynaguide.errors import UserError

Array = NDArray[Any]
CREASE = np.cos(np.radians(40))  # faces that meet at a smaller angle are shaded as one surface
ROUND = 28  # sides of a cylinder


class Mesh(NamedTuple):
    """Corners of triangles, counter-clockwise seen from outside."""

    corners: Array  # (3 triangles, 3)
    normals: Array  # (3 triangles, 3)
    texture: Array  # (3 triangles, 2), zeros where there is none
    image: Path | None = None


def box(size: Sequence[float | int]) -> Mesh:
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            normal = sign * np.eye(3)[axis]
            if sign < 0:
                u, v = v, u
            square = [normal - u - v, normal + u - v, normal + u + v, normal - u + v]
            faces.append([square[i] for i in (0, 1, 2, 0, 2, 3)])
    return flat(np.array(faces).reshape(-1, 3) * np.asarray(size) / 2)


def cylinder(radius: float, length: float) -> Mesh:
    """Around z."""
    angles = np.linspace(0, 2 * np.pi, ROUND + 1)
    rim = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.zeros(ROUND + 1)], 1)
    up = np.array((0, 0, length / 2))
    top, bottom, centre = rim + up, rim - up, np.zeros((ROUND, 3))
    side = np.stack([bottom[:-1], bottom[1:], top[1:], bottom[:-1], top[1:], top[:-1]], 1)
    caps = [np.stack([centre + up, top[:-1], top[1:]], 1), np.stack([centre - up, bottom[1:], bottom[:-1]], 1)]
    corners = np.concatenate([part.reshape(-1, 3) for part in (side, *caps)])
    return smooth(corners)


def sphere(radius: float, rings: int = 8) -> Mesh:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings + 1), indexing="ij")
    points = radius * np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    quads = np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, :-1], points[1:, 1:], points[:-1, 1:]], 2)
    corners = quads.reshape(-1, 3)
    return Mesh(corners, corners / radius, np.zeros((len(corners), 2)))


def flat(corners: Array) -> Mesh:
    return Mesh(corners, np.repeat(_face_normals(corners), 3, 0), np.zeros((len(corners), 2)))


def smooth(corners: Array, texture: Array | None = None, image: Path | None = None) -> Mesh:
    """A corner's normal is the mean, by area, of the faces around it that meet its own at less than the crease angle."""
    triangles = corners.reshape(-1, 3, 3)
    areas = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    weighted, unit = np.repeat(areas, 3, 0), np.repeat(_face_normals(corners), 3, 0)
    _, groups = np.unique(np.round(corners, 5), axis=0, return_inverse=True)
    order = np.argsort(groups.ravel(), kind="stable")
    normals = np.zeros_like(corners)
    for members in np.split(order, np.flatnonzero(np.diff(groups.ravel()[order])) + 1):
        close = unit[members] @ unit[members].T > CREASE
        normals[members] = close @ weighted[members]
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(lengths > 1e-12, normals / np.maximum(lengths, 1e-12), unit)
    return Mesh(corners, normals, np.zeros((len(corners), 2)) if texture is None else texture, image)


@functools.cache
def read_mesh(path: Path) -> Mesh:
    """An OBJ or STL file."""
    try:
        return _read_stl(path) if path.suffix.lower() == ".stl" else _read_obj(path)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: cannot read this mesh ({error})") from error


def _read_stl(path: Path) -> Mesh:
    content = path.read_bytes()
    count = int(np.frombuffer(content, "<u4", 1, 80)[0])
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    return flat(np.frombuffer(content, record, count, 84)["corners"].reshape(-1, 3).astype(np.float64))


def _read_obj(path: Path) -> Mesh:
    points: list[list[float]] = []
    places: list[list[float]] = []
    corners: list[list[int]] = []
    image = None
    for line in path.read_text(errors="replace").splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            points.append([float(word) for word in words[:3]])
        elif kind == "vt":
            places.append([float(word) for word in words[:2]])
        elif kind == "mtllib":
            image = _image_of(path.parent / " ".join(words))
        elif kind == "f":
            face = [[int(number or 0) for number in word.split("/")[:2]] for word in words]
            corners += [face[i] for j in range(1, len(face) - 1) for i in (0, j, j + 1)]
    vertices = np.array(points)[[_index(corner[0], len(points)) for corner in corners]]
    if not places or any(len(corner) < 2 or not corner[1] for corner in corners):
        return smooth(vertices)
    texture = np.array(places)[[_index(corner[1], len(places)) for corner in corners]]
    return smooth(vertices, texture, image)


def _index(number: int, count: int) -> int:
    return number - 1 if number > 0 else count + number


def _image_of(material: Path) -> Path | None:
    """The texture that a material file names, if both are there."""
    if not material.is_file():
        return None
    for line in material.read_text(errors="replace").splitlines():
        if line.strip().startswith("map_Kd"):
            image = material.parent / line.split(maxsplit=1)[1].strip()
            return image if image.is_file() else None
    return None


def _face_normals(corners: Array) -> Array:
    triangles = corners.reshape(-1, 3, 3)
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))
