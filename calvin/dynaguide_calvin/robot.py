"""The Panda arm with CALVIN's long fingers: its URDF out of the meshes in the pybullet wheel, its motors and its inverse kinematics."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pybullet_data
from numpy.typing import NDArray

from dynaguide_calvin import scene as facts
from dynaguide_calvin.bullet import Bullet, links_by_name
from dynaguide_calvin.scene import Color
from dynaguide_calvin.urdf import Link, Shape, box, centred_box, mesh, write_urdf

Array = NDArray[Any]
WHITE: Color = (0.93, 0.93, 0.93)
GREY: Color = (0.72, 0.72, 0.74)
PAD: Color = (0.25, 0.25, 0.27)
ARM_FORCE, ARM_SPEED, FINGER_SPEED = 200.0, 2.0, 1.0
OPENING_FORCE, CLOSING_FORCE = 2.0, 200.0
HALF_OPEN = facts.OPEN_WIDTH / 2

_MASSES = (2.9, 2.7, 2.73, 2.04, 2.08, 3.0, 1.3, 0.2)
_CENTRES = ((0, 0, 0.05), (0, -0.04, -0.05), (0, -0.04, 0.06), (0.01, 0.01, -0.05), (-0.03, 0.03, 0.02), (0, 0.04, -0.12), (0.04, 0, 0), (0, 0, 0.08))
_QUARTER = np.pi / 2
_JOINTS = (  # position and roll in the parent's frame, limits of the model
    ((0, 0, 0.333), 0, (-2.9671, 2.9671)),
    ((0, 0, 0), -_QUARTER, (-1.8326, 1.8326)),
    ((0, -0.316, 0), _QUARTER, (-2.9671, 2.9671)),
    ((0.0825, 0, 0), _QUARTER, (-3.1416, 0.0)),
    ((-0.0825, 0.384, 0), -_QUARTER, (-2.9671, 2.9671)),
    ((0, 0, 0), _QUARTER, (-0.0873, 3.8223)),
    ((0.088, 0, 0), _QUARTER, (-2.9671, 2.9671)),
)
_FINGER_CONTACT = '<friction_anchor/><stiffness value="30000"/><damping value="1000"/><spinning_friction value="0.1"/><lateral_friction value="1.0"/>'
_FINGER = (  # boxes of the left finger, low and high; the last is its pad
    ((-0.0105, 0.006, 0.0), (0.0105, 0.025, 0.03), GREY),
    ((-0.010, 0.005, 0.03), (0.010, 0.018, 0.062), GREY),
    ((-0.009, 0.004, 0.062), (0.009, 0.0105, 0.0964), GREY),
    ((-0.0092, 0.001, 0.0707), (0.0092, 0.004, 0.0957), PAD),
)


def write_panda(folder: Path) -> Path:
    meshes = Path(pybullet_data.getDataPath()) / "franka_panda" / "meshes" / "collision"
    arm = [_arm_link(index, mesh(meshes / f"link{index}.obj", WHITE)) for index in range(8)]
    turned = (0, 0, -np.pi / 4)
    hand = Link("panda_hand", [mesh(meshes / "hand.obj", GREY)], 0.81, (0, 0, 0.04), 0.1, parent="panda_link7", position=(0, 0, 0.107), euler=turned)
    lens = centred_box((0.08, 0.025, 0.01), (0, 0, 0), GREY, solid=False)
    camera = Link("gripper_cam", [lens], 0.05, parent="panda_hand", position=(-0.1, 0, 0), euler=(1.3, 0, -1.57))
    tcp = Link("tcp", [], 1e-5, parent="panda_hand", position=(0, 0, 0.14))
    return write_urdf(folder / "panda.urdf", "panda", [*arm, hand, _finger("left", 1), _finger("right", -1), camera, tcp])


def _arm_link(index: int, shape: Shape) -> Link:
    link = Link(f"panda_link{index}", [shape], _MASSES[index], _CENTRES[index], 0.1)
    if index == 0:
        return link
    position, roll, limits = _JOINTS[index - 1]
    return Link(
        link.name,
        link.shapes,
        link.mass,
        link.centre_of_mass,
        link.inertia,
        parent=f"panda_link{index - 1}",
        joint_name=f"panda_joint{index}",
        joint="revolute",
        position=position,
        euler=(roll, 0, 0),
        limits=limits,
    )


def _finger(side: str, sign: int) -> Link:
    shapes = [
        box((low[0], min(sign * low[1], sign * high[1]), low[2]), (high[0], max(sign * low[1], sign * high[1]), high[2]), c)
        for low, high, c in _FINGER
    ]
    return Link(
        f"panda_{side}finger",
        shapes,
        0.1,
        (0, sign * 0.01, 0.02),
        0.1,
        _FINGER_CONTACT,
        parent="panda_hand",
        joint_name=f"panda_finger_joint{1 if sign > 0 else 2}",
        joint="prismatic",
        position=(0, 0, 0.0584),
        axis=(0, sign, 0),
        limits=(0.0, HALF_OPEN),
    )


class Pose(NamedTuple):
    """Where the gripper is, or is told to be."""

    position: Array  # (3,)
    euler: Array  # (3,)


class Panda:
    """A loaded arm: its state, its motors, its inverse kinematics."""

    def __init__(self, bullet: Bullet, body: int) -> None:
        self.bullet, self.body = bullet, body
        links = links_by_name(bullet, body)
        self.tcp, self.camera = links["tcp"], links["gripper_cam"]
        self.arm = [links[f"panda_link{index}"] for index in range(1, 8)]
        self.fingers = [links["panda_leftfinger"], links["panda_rightfinger"]]
        self._rest = [*facts.HOME_JOINTS, HALF_OPEN, HALF_OPEN]
        self._hold_fingers_together()

    def _hold_fingers_together(self) -> None:
        left, right = self.fingers
        gear = self.bullet.createConstraint(self.body, left, self.body, right, self.bullet.JOINT_GEAR, [1, 0, 0], [0, 0, 0], [0, 0, 0])
        self.bullet.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=50)

    def pose(self) -> Pose:
        state = self.bullet.getLinkState(self.body, self.tcp, computeForwardKinematics=1)
        return Pose(np.array(state[4]), np.array(self.bullet.getEulerFromQuaternion(state[5])))

    def proprio(self, last_gripper: float) -> Array:
        """(15,), see `scene`."""
        pose = self.pose()
        joints = [state[0] for state in self.bullet.getJointStates(self.body, [*self.arm, *self.fingers])]
        return np.array([*pose.position, *pose.euler, joints[7] + joints[8], *joints[:7], last_gripper])

    def put(self, joints: Array, width: float) -> None:
        """Without physics; the motors hold it there."""
        for link, angle in zip(self.arm, joints, strict=True):
            self.bullet.resetJointState(self.body, link, angle)
        for link in self.fingers:
            self.bullet.resetJointState(self.body, link, width / 2)
        self.hold(joints)
        self._move_fingers(width / 2, CLOSING_FORCE)

    def hold(self, joints: Array) -> None:
        position = self.bullet.POSITION_CONTROL
        for link, angle in zip(self.arm, joints, strict=True):
            self.bullet.setJointMotorControl2(self.body, link, position, targetPosition=angle, force=ARM_FORCE, maxVelocity=ARM_SPEED)

    def grip(self, command: float) -> None:
        """1 opens gently, -1 closes with force."""
        self._move_fingers(HALF_OPEN if command > 0 else 0.0, OPENING_FORCE if command > 0 else CLOSING_FORCE)

    def joints_for(self, pose: Pose) -> Array:
        """One solution step of the inverse kinematics from where the arm is, drawn towards the home pose; (7,) within the limits."""
        quaternion = self.bullet.getQuaternionFromEuler(pose.euler)
        wide = [-7.0] * 9, [7.0] * 9, [7.0] * 9
        joints = self.bullet.calculateInverseKinematics(self.body, self.tcp, pose.position, quaternion, *wide, self._rest)
        return np.clip(joints[:7], facts.JOINT_LOW, facts.JOINT_HIGH)

    def reach(self, pose: Pose, *, tries: int = 20, tolerance: float = 2e-3) -> Array | None:
        """Joints that put the gripper there, (7,), or None. Moves the arm without physics."""
        joints = np.array(facts.HOME_JOINTS)
        for _ in range(tries):
            self.put(joints, facts.OPEN_WIDTH)
            if np.abs(self.pose().position - pose.position).max() < tolerance:
                return joints
            joints = self.joints_for(pose)
        return None

    def _move_fingers(self, target: float, force: float) -> None:
        position = self.bullet.POSITION_CONTROL
        for link in self.fingers:
            self.bullet.setJointMotorControl2(self.body, link, position, targetPosition=target, force=force, maxVelocity=FINGER_SPEED)
