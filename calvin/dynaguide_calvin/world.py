"""The physics of the play table: bodies, control at 30 Hz, lights, and complete states that can be kept and returned to."""

import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynaguide_calvin import scene as facts
from dynaguide_calvin.assets import Files, own_files
from dynaguide_calvin.bullet import Bullet, joints_by_name, links_by_name
from dynaguide_calvin.robot import HALF_OPEN, Panda, Pose
from dynaguide_calvin.scene import Scene
from dynaguide_calvin.table import JOINT_NAMES, LIGHT_LINKS

Array = NDArray[Any]
GRAVITY = -9.8
JOINT_FRICTION = 4.0  # newtons that hold door, drawer and switch where they are; also what pushes the button back up
STUCK = -0.003  # a cube that reaches deeper than this into something is put elsewhere
SHUFFLES = 1000
WINDOW_DISTANCE = 1.3  # metres from the table to the eye of a window
WINDOW_LIGHT = (1.4, -2.0, 3.1)  # where its lamp is
LIGHT_COLORS = {facts.BULB: facts.BULB_COLOR, facts.LED: facts.LED_COLOR}


class Control(NamedTuple):
    """What the world remembers besides its bodies."""

    target: Pose  # where the gripper is told to be: relative actions add to it
    gripper: float  # the last command, -1 closed, 1 open
    bulb: bool
    led: bool
    pressed: bool  # whether the button was down after the last step: the LED toggles when it goes down
    switched: bool  # likewise: the bulb changes when the switch crosses


class Part(NamedTuple):
    """A link of a body; -1 is its base."""

    body: int
    link: int


class SavedState:
    """A moment of one world, to be returned to by that world. It is forgotten when nothing refers to it any more."""

    def __init__(self, bullet: Bullet, control: Control) -> None:
        self.control, self.identifier = control, int(bullet.saveState())
        weakref.finalize(self, _forget, bullet, self.identifier)


def _forget(bullet: Bullet, identifier: int) -> None:
    if bullet.client >= 0:
        bullet.removeState(identifier)


class World:
    """One table, one arm, three cubes. Deterministic: the same calls after `clear` give the same numbers, bit for bit."""

    def __init__(self, scene: Scene, *, files: Files | None = None, gui: bool = False) -> None:
        self.scene = scene
        self.bullet = Bullet(gui=gui)
        self.bullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
        self.bullet.setTimeStep(1 / facts.CONTROL_HZ / facts.SUBSTEPS)
        self.bullet.setGravity(0, 0, GRAVITY)
        self._folder = tempfile.TemporaryDirectory(prefix="dynaguide_calvin_")  # kept: a renderer reads the meshes in it later
        self._load(files or own_files(Path(self._folder.name), scene))
        self._release_joints()
        self.moment = object()  # another one after every change
        self.control = Control(self.robot.pose(), 1.0, False, False, False, False)
        self._gui = gui
        if gui:
            self._arrange_window()
        self._fresh = self.save()

    def _load(self, files: Files) -> None:
        bullet = self.bullet
        self.robot = Panda(bullet, bullet.load(files.robot, facts.ROBOT_BASE, fixed=True))
        pedestal = bullet.createVisualShape(bullet.GEOM_CYLINDER, radius=0.13, length=0.24, rgbaColor=(0.8, 0.8, 0.82, 1))
        bullet.createMultiBody(0, -1, pedestal, (facts.ROBOT_BASE[0] - 0.05, facts.ROBOT_BASE[1], 0.12))
        cubes = files.cubes.items()
        self.cubes = {name: bullet.load(path, (0.1 * index, -0.1, 0.46), scale=files.scale) for index, (name, path) in enumerate(cubes)}
        self.table = bullet.load(files.table, fixed=True, scale=files.scale)
        self._floor()
        names = joints_by_name(bullet, self.table)
        self._joints = {index: names[name] for index, name in JOINT_NAMES.items()}
        self.furniture = self._load_furniture(files.furniture) if files.furniture else self.table
        self.lights = {light: Part(bullet.load(path, fixed=True, single=True), -1) for light, path in files.lights.items()} or self._lights_of_table()

    def _load_furniture(self, path: Path) -> int:
        """Drawer and door slide through it."""
        body = self.bullet.load(path, fixed=True, single=True)
        for joint in self._joints.values():
            self.bullet.setCollisionFilterPair(self.table, body, joint, -1, 0)
        return body

    def _lights_of_table(self) -> dict[int, Part]:
        links = links_by_name(self.bullet, self.table)
        return {index: Part(self.table, links[name]) for index, name in LIGHT_LINKS.items()}

    def _floor(self) -> None:
        half = (5, 5, 0.01)
        seen = self.bullet.createVisualShape(self.bullet.GEOM_BOX, halfExtents=half, rgbaColor=(0.82, 0.82, 0.84, 1))
        touched = self.bullet.createCollisionShape(self.bullet.GEOM_BOX, halfExtents=half)
        self.floor = self.bullet.createMultiBody(0, touched, seen, (0, 0, -0.011), useMaximalCoordinates=1)

    def _arrange_window(self) -> None:
        """Nothing but the table, seen from where `third_person` looks, but nearer."""
        bullet, camera = self.bullet, facts.CAMERAS[facts.THIRD_PERSON]
        for panel in ("GUI", "RGB_BUFFER_PREVIEW", "DEPTH_BUFFER_PREVIEW", "SEGMENTATION_MARK_PREVIEW"):
            bullet.configureDebugVisualizer(getattr(bullet, f"COV_ENABLE_{panel}"), 0)
        bullet.configureDebugVisualizer(lightPosition=WINDOW_LIGHT)
        assert camera.eye is not None and camera.target is not None
        way = np.subtract(camera.eye, camera.target)
        yaw, pitch = np.degrees([np.arctan2(way[0], -way[1]), -np.arcsin(way[2] / np.linalg.norm(way))])
        bullet.resetDebugVisualizerCamera(WINDOW_DISTANCE, float(yaw), float(pitch), camera.target)

    def _release_joints(self) -> None:
        bullet = self.bullet
        for index in (facts.DOOR, facts.DRAWER, facts.SWITCH):
            bullet.setJointMotorControl2(self.table, self._joints[index], bullet.VELOCITY_CONTROL, force=JOINT_FRICTION)
        bullet.setJointMotorControl2(self.table, self._joints[facts.BUTTON], bullet.POSITION_CONTROL, targetPosition=0, force=JOINT_FRICTION)

    def close(self) -> None:
        self.bullet.close()
        self._folder.cleanup()

    # --- what is ----------------------------------------------------------------------------------------------------------------------

    def states(self) -> Array:
        """(24,), see `scene`."""
        order = (facts.DOOR, facts.DRAWER, facts.BUTTON, facts.SWITCH)
        joints = [state[0] for state in self.bullet.getJointStates(self.table, [self._joints[index] for index in order])]
        made = [*joints, float(self.control.bulb), float(self.control.led)]
        for body in self.cubes.values():
            position, quaternion = self.bullet.getBasePositionAndOrientation(body)
            made += [*position, *self.bullet.getEulerFromQuaternion(quaternion)]
        return np.array(made)

    def proprio(self) -> Array:
        return self.robot.proprio(self.control.gripper)

    def is_on(self, light: int) -> bool:
        """`light` is BULB or LED."""
        return self.control.bulb if light == facts.BULB else self.control.led

    def save(self) -> SavedState:
        """What follows is the same, bit for bit, as what follows `restore`: both begin without a memory of contacts."""
        self._forget_contacts()
        return SavedState(self.bullet, self.control)

    def restore(self, saved: SavedState) -> None:
        self._forget_contacts()
        self.bullet.restoreState(saved.identifier)
        self._forget_contacts()
        self.control = saved.control
        self._changed()

    # --- what changes -----------------------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Everything as it was built: what happened before leaves no trace."""
        self.restore(self._fresh)

    def place(self, states: Array, proprio: Array | None) -> None:
        """Furniture, lights, cubes and arm without physics. The bulb follows the switch."""
        for index, joint in self._joints.items():
            self.bullet.resetJointState(self.table, joint, states[index])
        for name, body in self.cubes.items():
            quaternion = self.bullet.getQuaternionFromEuler(states[facts.CUBE_EULERS[name]])
            self.bullet.resetBasePositionAndOrientation(body, states[facts.CUBE_POSITIONS[name]], quaternion)
        joints = np.array(facts.HOME_JOINTS) if proprio is None else proprio[facts.JOINTS]
        self.robot.put(joints, 2 * HALF_OPEN if proprio is None else float(proprio[facts.WIDTH]))
        gripper = 1.0 if proprio is None or proprio[facts.LAST_GRIPPER] >= 0 else -1.0
        switched = bool(states[facts.SWITCH] > facts.SWITCH_ON)
        pressed = bool(states[facts.BUTTON] > facts.BUTTON_PRESSED)
        self.control = Control(self.robot.pose(), gripper, switched, bool(states[facts.LED]), pressed, switched)

    def settle(self) -> None:
        """One substep, after which contacts are known; the target is where the gripper then is."""
        self.bullet.stepSimulation()
        self.control = self.control._replace(target=self.robot.pose())
        self._changed()

    def shuffle_cubes(self, rng: np.random.Generator, surfaces: Sequence[str]) -> None:
        """Cubes onto surfaces, drawn again until none touches another or is stuck in something."""
        for _ in range(SHUFFLES):
            for body in self.cubes.values():
                surface = self.scene.surfaces[surfaces[int(rng.integers(len(surfaces)))]]
                quaternion = self.bullet.getQuaternionFromEuler((0, 0, rng.uniform(-np.pi, np.pi)))
                self.bullet.resetBasePositionAndOrientation(body, rng.uniform(surface.low, surface.high), quaternion)
            self.bullet.performCollisionDetection()
            if not self._cubes_in_the_way():
                return
        raise RuntimeError(f"no place for the cubes on {', '.join(surfaces)}")

    def random_start(self, rng: np.random.Generator) -> Array:
        """Joints of a gripper somewhere above the table that touches nothing, (7,)."""
        for _ in range(SHUFFLES):
            euler = facts.START_EULER + rng.normal(size=3) * facts.START_EULER_STD
            joints = self.robot.reach(Pose(rng.uniform(facts.START_LOW, facts.START_HIGH), euler))
            if joints is not None and not self._robot_touches():
                return joints
        raise RuntimeError("no free place for the gripper")

    def move(self, target: Pose, gripper: float) -> None:
        """One step at 30 Hz towards a target pose."""
        self.control = self.control._replace(target=target, gripper=gripper)
        self.robot.hold(self.robot.joints_for(target))
        self.robot.grip(gripper)
        for _ in range(facts.SUBSTEPS):
            self.bullet.stepSimulation()
        self._work_the_lights()
        self._changed()

    def paint_lights(self) -> None:
        """In pybullet's own pictures; our renderer mixes the colours itself."""
        for light, part in self.lights.items():
            color = LIGHT_COLORS[light] if self.is_on(light) else facts.LIGHT_OFF
            self.bullet.changeVisualShape(part.body, part.link, rgbaColor=(*color, 1))

    def _changed(self) -> None:
        self.moment = object()
        if self._gui:
            self.paint_lights()

    def _work_the_lights(self) -> None:
        old = self.control
        states = self.bullet.getJointStates(self.table, [self._joints[facts.BUTTON], self._joints[facts.SWITCH]])
        pressed, switched = bool(states[0][0] > facts.BUTTON_PRESSED), bool(states[1][0] > facts.SWITCH_ON)
        led = old.led ^ (pressed and not old.pressed)
        bulb = switched if switched != old.switched else old.bulb
        self.control = old._replace(led=led, bulb=bulb, pressed=pressed, switched=switched)

    def _forget_contacts(self) -> None:
        """Bullet keeps contact points from step to step, and does not restore them faithfully. Setting a filter makes it forget an object's pairs."""
        moving = [(self.robot.body, link) for link in range(self.bullet.getNumJoints(self.robot.body))]
        moving += [(self.table, link) for link in range(self.bullet.getNumJoints(self.table))]
        for body, link in [*moving, *((cube, -1) for cube in self.cubes.values())]:
            self.bullet.setCollisionFilterGroupMask(body, link, 1, -1)

    def _cubes_in_the_way(self) -> bool:
        bodies = list(self.cubes.values())
        if any(self.bullet.getContactPoints(one, other) for i, one in enumerate(bodies) for other in bodies[i + 1 :]):
            return True
        return any(contact[8] < STUCK for body in bodies for contact in self.bullet.getContactPoints(body))

    def _robot_touches(self) -> bool:
        self.bullet.performCollisionDetection()
        others = [self.table, self.furniture, *self.cubes.values()]
        return any(self.bullet.getContactPoints(self.robot.body, body) for body in others)
