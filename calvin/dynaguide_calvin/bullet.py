"""A pybullet client of one's own: every call goes to it, nothing is shared with other clients in the process."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from dynaguide.errors import UserError


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """pybullet writes its build time and its URDF warnings past Python, straight to file descriptors 1 and 2."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved, nowhere = (os.dup(1), os.dup(2)), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for standard, kept in zip((1, 2), saved, strict=True):
            os.dup2(kept, standard)
            os.close(kept)
        os.close(nowhere)


with _quiet():
    import pybullet


def has_display() -> bool:
    """Whether a window can be opened: pybullet itself ends the process, or hangs, where X does not answer."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype, x11.XCloseDisplay.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(display)
    return bool(display)


PhysicsError = pybullet.error  # what every call raises once a window has been closed


class Bullet:
    """pybullet's functions and constants, bound to one physics client. `gui` opens a window."""

    def __init__(self, *, gui: bool = False) -> None:
        if gui and not has_display():
            raise UserError(f"no window can be opened: no X display answers (DISPLAY is {os.environ.get('DISPLAY')!r})")
        with _quiet():
            self.client = pybullet.connect(pybullet.GUI if gui else pybullet.DIRECT)

    def __getattr__(self, name: str) -> Any:
        found = getattr(pybullet, name)
        bound = partial(found, physicsClientId=self.client) if callable(found) and name not in _PURE else found
        setattr(self, name, bound)
        return bound

    def load(self, path: Any, position: Any = (0, 0, 0), *, fixed: bool = False, single: bool = False, scale: float = 1.0) -> int:
        """A body from a URDF file. `single`: it has one link, and the quicker solver for bodies without joints takes it."""
        with _quiet():
            return int(self.loadURDF(str(path), position, useFixedBase=fixed, useMaximalCoordinates=single, globalScaling=scale))

    def close(self) -> None:
        if self.client >= 0 and pybullet.isConnected(self.client):
            pybullet.disconnect(self.client)
        self.client = -1


_PURE = {"getQuaternionFromEuler", "getEulerFromQuaternion", "getMatrixFromQuaternion", "computeViewMatrix", "computeProjectionMatrixFOV"}


def links_by_name(bullet: Bullet, body: int) -> dict[str, int]:
    """Link name -> index, which is also the index of the joint above it."""
    infos = (bullet.getJointInfo(body, index) for index in range(bullet.getNumJoints(body)))
    return {info[12].decode(): info[0] for info in infos}


def joints_by_name(bullet: Bullet, body: int) -> dict[str, int]:
    infos = (bullet.getJointInfo(body, index) for index in range(bullet.getNumJoints(body)))
    return {info[1].decode(): info[0] for info in infos}
