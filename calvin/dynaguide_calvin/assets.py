"""The files that a world is loaded from: our own primitives, or the public CALVIN environment's.

The public files are those of github.com/mees/calvin_env, folder `data`: `franka_panda`, `blocks`, and a table for each scene.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from dynaguide.errors import UserError
from dynaguide_calvin import scene as facts
from dynaguide_calvin.robot import write_panda
from dynaguide_calvin.scene import Scene
from dynaguide_calvin.table import LIGHT_LINKS, write_cube, write_furniture, write_light, write_table

PUBLIC_SCALE = 0.8
PUBLIC_ROBOT = "franka_panda/panda_longer_finger.urdf"
PUBLIC_CUBES = {"red": "blocks/block_red_middle.urdf", "blue": "blocks/block_blue_small.urdf", "pink": "blocks/block_pink_big.urdf"}


@dataclass(frozen=True)
class Files:
    """URDF files. The public tables hold furniture and lights in the table's own file."""

    robot: Path
    table: Path
    cubes: Mapping[str, Path]
    furniture: Path | None = None
    lights: Mapping[int, Path] = field(default_factory=dict)
    scale: float = 1.0  # of table and cubes


def own_files(folder: Path, scene: Scene) -> Files:
    return Files(
        robot=write_panda(folder),
        table=write_table(folder, scene),
        cubes={name: write_cube(folder, name) for name in facts.CUBES},
        furniture=write_furniture(folder, scene),
        lights={light: write_light(folder, scene, light) for light in LIGHT_LINKS},
    )


def public_files(folder: Path, scene: str) -> Files:
    """The public files in `folder`, or a UserError that names those which are missing."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder with CALVIN's files")
    table = f"calvin_table_{scene}/urdf/calvin_table_{scene}.urdf"
    missing = [path for urdf in (PUBLIC_ROBOT, table, *PUBLIC_CUBES.values()) for path in _missing(folder, urdf)]
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise UserError(f"{folder} lacks files of scene {scene}: {', '.join(missing[:4])}{more}")
    cubes = {name: folder / path for name, path in PUBLIC_CUBES.items()}
    return Files(folder / PUBLIC_ROBOT, folder / table, cubes, scale=PUBLIC_SCALE)


def _missing(folder: Path, urdf: str) -> list[str]:
    """The URDF file or the meshes it names, as far as they are not there; relative to `folder`."""
    path = folder / urdf
    if not path.is_file():
        return [urdf]
    try:
        meshes = {str(mesh.get("filename")) for mesh in ElementTree.parse(path).getroot().iter("mesh")}
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: not a readable URDF file ({error})") from error
    beside = path.parent.relative_to(folder)
    return [str(beside / name) for name in sorted(meshes) if not (path.parent / name).is_file()]
