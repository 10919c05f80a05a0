"""A hand that goes where a test tells it to."""

import numpy as np

from dynaguide_calvin import scene as facts

YAW = np.pi / 2
DOWN = (np.pi, 0.0)  # roll and pitch of a gripper that points down


class Hand:
    """Drives the target pose in steps of `speed` metres; keeps what was seen."""

    def __init__(self, env, speed: float = 0.01, tilt=DOWN, yaw: float = YAW, gripper: float = -1.0) -> None:
        self.env, self.speed, self.gripper = env, speed, gripper
        self.euler = np.array((*tilt, yaw))
        self.states = [env.states]

    def go(self, position, tolerance: float = 0.008, limit: int = 120) -> "Hand":
        for _ in range(limit):
            away = np.asarray(position, float) - self.env.target.position
            if np.abs(away).max() < 1e-4 and np.linalg.norm(np.asarray(position) - self.env.proprio[facts.TCP]) < tolerance:
                break
            self.act(self.env.target.position + away * min(1, self.speed / max(np.linalg.norm(away), 1e-9)))
        return self

    def hold(self, gripper: float, steps: int = 12) -> "Hand":
        self.gripper = gripper
        for _ in range(steps):
            self.act(self.env.target.position)
        return self

    def act(self, position) -> None:
        old = self.env.target.euler
        aim = self.euler.copy()
        aim[0] *= 1 if old[0] > 0 else -1  # roll is the same at pi and -pi
        self.env.step_absolute(position, old + np.clip(aim - old, -0.05, 0.05), self.gripper)
        self.states.append(self.env.states)

    def seen(self, index: int) -> np.ndarray:
        return np.array([states[index] for states in self.states])


def press_button(env) -> Hand:
    top = env.scene.button_top()
    return Hand(env).go(top + (0, 0, 0.08)).go(top + (0, 0, -0.03), limit=30).go(top + (0, 0, 0.08))


def open_drawer(env) -> Hand:
    handle = env.scene.drawer_handle(0.0)
    behind = handle + (0, 0.04, 0.025)
    hand = Hand(env, yaw=YAW).go((handle[0], -0.16, 0.56)).go(behind + (0, 0, 0.1)).go(behind)
    return hand.go(behind + (0, -0.25, 0), limit=60)


def close_drawer(env) -> Hand:
    handle = env.scene.drawer_handle(env.states[facts.DRAWER])
    before = handle + (0, -0.05, 0.02)
    return Hand(env).go((handle[0], -0.16, 0.56)).go(before + (0, 0, 0.12)).go(before).go((handle[0], -0.19, handle[2] + 0.02), limit=60)


def slide_door(env, way: float) -> Hand:
    """way -1: to the left, which opens it."""
    handle = env.scene.door_handle(env.states[facts.DOOR])
    beside = np.array((handle[0] - way * 0.06, -0.003, 0.55))
    return Hand(env).go(beside - (0, 0.09, 0)).go(beside).go(beside + (way * 0.36, 0, 0), limit=80)


def push_switch(env, way: float) -> Hand:
    """way 1: up the slope, which turns it on."""
    bar = env.scene.switch_handle(env.states[facts.SWITCH])
    hand = Hand(env, tilt=(np.pi - 0.22, -0.52), speed=0.008)
    if way > 0:
        hand.go((bar[0] - 0.03, -0.06, 0.56), 0.03).go(bar + (0, -0.055, -0.02), 0.012).go(bar + (0, -0.022, -0.012), limit=20)
        return hand.go(bar + (0, -0.015, 0) + 0.12 * facts.ALONG_SLOPE, limit=60)
    hand.go((bar[0] - 0.03, -0.06, 0.64), 0.03).go(bar + (0, -0.015, 0.06), 0.015).go(bar + (0, -0.008, 0.03), limit=15)
    return hand.go(bar + (0, -0.008, 0.03) - 0.14 * facts.ALONG_SLOPE, limit=70)


def lift(env, cube: str, height: float = 0.1) -> Hand:
    at = env.states[facts.CUBE_POSITIONS[cube]]
    across = env.states[facts.CUBE_EULERS[cube]][2]
    turn = np.pi / 2 if cube == "blue" else np.pi
    yaw = across + turn * np.round((YAW - across) / turn)  # fingers close along y of the gripper, across the cube's short side
    hand = Hand(env, yaw=yaw, gripper=1.0).go(at + (0, 0, 0.1)).hold(1.0, 15).go(at + (0, 0, 0.003), tolerance=0.004).hold(-1.0)
    return hand.go(at + (0, 0, height))
