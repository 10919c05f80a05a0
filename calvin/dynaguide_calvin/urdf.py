"""Bodies written down as URDF: coloured shapes, links and joints. pybullet reads them from a temporary folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynaguide_calvin.scene import Color

Numbers = Sequence[float | int] | NDArray[np.float64]
ZERO = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Shape:
    """A geometry in its link's frame; `xml` is what stands inside <geometry>. It can be seen, touched, or both."""

    xml: str
    color: Color
    position: Numbers = ZERO
    euler: Numbers = ZERO
    visible: bool = True
    solid: bool = True

    def elements(self) -> str:
        origin = f'<origin xyz="{_text(self.position)}" rpy="{_text(self.euler)}"/>'
        material = f'<material name="{"_".join(f"{value:.4f}" for value in self.color)}"><color rgba="{_text(self.color)} 1"/></material>'
        seen = f"<visual>{origin}<geometry>{self.xml}</geometry>{material}</visual>" if self.visible else ""
        touched = f"<collision>{origin}<geometry>{self.xml}</geometry></collision>" if self.solid else ""
        return seen + touched


def box(low: Numbers, high: Numbers, color: Color, *, visible: bool = True, solid: bool = True) -> Shape:
    """A box between two corners."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    return Shape(f'<box size="{_text(high - low)}"/>', color, (high + low) / 2, visible=visible, solid=solid)


def centred_box(size: Numbers, centre: Numbers, color: Color, *, euler: Numbers = ZERO, solid: bool = True) -> Shape:
    return Shape(f'<box size="{_text(size)}"/>', color, centre, euler, solid=solid)


def cylinder(radius: float, length: float, centre: Numbers, color: Color, *, solid: bool = True) -> Shape:
    return Shape(f'<cylinder radius="{radius:.6g}" length="{length:.6g}"/>', color, centre, solid=solid)


def sphere(radius: float, centre: Numbers, color: Color) -> Shape:
    return Shape(f'<sphere radius="{radius:.6g}"/>', color, centre)


def mesh(path: Path | str, color: Color, *, visible: bool = True, solid: bool = True) -> Shape:
    """A mesh file; what touches is its convex hull."""
    return Shape(f'<mesh filename="{path}"/>', color, visible=visible, solid=solid)


@dataclass(frozen=True)
class Link:
    """A rigid part with the joint that hangs it on its parent (none for the base).

    joint    fixed, prismatic or revolute; `axis` and `limits` concern the latter two
    """

    name: str
    shapes: Sequence[Shape] = ()
    mass: float = 0.0
    centre_of_mass: Numbers = ZERO
    inertia: float = 0.01
    contact: str = ""
    parent: str = ""
    joint_name: str = ""
    joint: str = "fixed"
    position: Numbers = ZERO
    euler: Numbers = ZERO
    axis: Numbers = (0, 0, 1)
    limits: tuple[float, float] = (0.0, 0.0)

    def elements(self) -> str:
        inertia = "".join(f' {axis}="{self.inertia if axis[1] == axis[2] else 0:.6g}"' for axis in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz"))
        inertial = f'<inertial><origin xyz="{_text(self.centre_of_mass)}"/><mass value="{self.mass:.6g}"/><inertia{inertia}/></inertial>'
        contact = f"<contact>{self.contact}</contact>" if self.contact else ""
        link = f'<link name="{self.name}">{contact}{inertial}{"".join(shape.elements() for shape in self.shapes)}</link>'
        return link + self._joint() if self.parent else link

    def _joint(self) -> str:
        moves = self.joint != "fixed"
        limits = f'<limit lower="{self.limits[0]:.8g}" upper="{self.limits[1]:.8g}" effort="100" velocity="10"/>' if moves else ""
        axis = f'<axis xyz="{_text(self.axis)}"/>' if moves else ""
        ends = f'<parent link="{self.parent}"/><child link="{self.name}"/>'
        origin = f'<origin xyz="{_text(self.position)}" rpy="{_text(self.euler)}"/>'
        return f'<joint name="{self.joint_name or self.name + "_joint"}" type="{self.joint}">{ends}{origin}{axis}{limits}</joint>'


def write_urdf(path: Path, name: str, links: Sequence[Link]) -> Path:
    """pybullet cuts lines at 8192 characters: every element gets a line of its own."""
    body = "".join(link.elements() for link in links)
    path.write_text(f'<?xml version="1.0"?>\n<robot name="{name}">{body}</robot>\n'.replace("><", ">\n<"))
    return path


def write_prism(path: Path, outline: NDArray[np.float64], low: float, high: float) -> Path:
    """An OBJ file: a convex polygon in (y, z), counter-clockwise seen from +x, drawn out from x = low to x = high."""
    count = len(outline)
    corners = [(x, y, z) for x in (low, high) for y, z in outline]
    sides = [(i, (i + 1) % count, count + (i + 1) % count, count + i) for i in range(count)]
    faces = [tuple(range(count - 1, -1, -1)), tuple(range(count, 2 * count)), *sides]
    lines = [f"v {_text(corner)}" for corner in corners]
    lines += [f"f {face[0] + 1} {face[i] + 1} {face[i + 1] + 1}" for face in faces for i in range(1, len(face) - 1)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _text(numbers: Numbers) -> str:
    return " ".join(f"{value:.8g}" for value in numbers)
