"""A Franka on a laboratory's table, moved by end-effector deltas. It alone imports mujoco.

The controller takes 7-D actions (see `pipelines.robot.poses`) at `hz`, finds joint targets by
damped least squares on a scratch copy of the state, and ramps to them in half a control period.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import mujoco
import numpy as np
from numpy.typing import NDArray

from pipelines.robot.arms import DAMPING, FRANKA, STIFFNESS, Arm, damped_step
from pipelines.robot.blueprint import find_lab
from pipelines.robot.labs import Lab
from pipelines.robot.poses import (
    apply_action,
    euler_to_matrix,
    matrix_to_euler,
    positive_roll,
    rotation_vector,
)
from pipelines.robot.rendering import JITTER, Hits, RayRenderer, painted, place_camera
from pipelines.robot.scene import ARM, WORKSPACE, lay_out, scene_xml, surfaces
from storage.digests import digest_json
from storage.errors import InputError

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

_TIMESTEP = 0.005
_PREFIX = "arm/"  # of every name that comes from the arm's file
_UNSEEN = 5  # the geom group of shapes that only collide
_LEASH = 0.01  # how far the commanded position may run ahead of the measured one, metres per axis
_START = np.array([0.12, 0.2, 0.13, 0.08, 0.08, 0.4])  # half ranges of the first pose, m and rad
_SOLVED = 0.001  # an inverse kinematics error below this is none, metres and radians
_REST = np.array([0.0, -0.6, 0.0, -2.4, 0.0, 1.8, 0.785])
_INTEGRATION = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def build_model(lab: Lab, arm: Arm) -> mujoco.MjModel:
    """The lab's scene with the arm mounted in it. Raises ValueError if the arm cannot be read."""
    scene = mujoco.MjSpec.from_string(scene_xml(lab))
    try:
        scene.attach(_read_arm(arm, scene), frame=scene.frame("mount"), prefix=_PREFIX)
        model = scene.compile()
        for name in (*arm.joints, arm.finger):
            model.joint(_PREFIX + name)
        for name in (*arm.motors, arm.gripper):
            model.actuator(_PREFIX + name)
        model.site(_PREFIX + arm.tcp)
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"arm {arm.model}: {error}; it must be MJCF with joints {', '.join(arm.joints)} and "
            f"{arm.finger}, actuator {arm.gripper} and site {arm.tcp}"
        ) from error
    return model


def _read_arm(arm: Arm, scene: mujoco.MjSpec) -> mujoco.MjSpec:
    """The arm's spec with its hand on it; what an arm from elsewhere lacks is added."""
    spec = mujoco.MjSpec.from_file(arm.model)
    if arm.hand is not None:
        hand = mujoco.MjSpec.from_file(arm.hand)
        hand.option.impratio = spec.option.impratio
        spec.attach(hand, site=spec.site(arm.hand_site), prefix="hand/")
    spec.option.integrator, spec.option.impratio = scene.option.integrator, scene.option.impratio
    for key in list(spec.keys):
        spec.delete(key)
    if arm != FRANKA:
        for geom in spec.geoms:
            geom.group = ARM if geom.group == arm.visual_group else _UNSEEN
        for body in spec.bodies:
            body.gravcomp = 1.0
    there = {actuator.name for actuator in spec.actuators}
    for name, stiffness, damping in zip(arm.joints, STIFFNESS, DAMPING, strict=True):
        if name in arm.motors and name not in there:
            motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            motor.set_to_position(kp=stiffness, kv=damping)
    return spec


class Simulator:
    """One arm in one lab. `reset`, then `observe`, `step` and `move_to` at will."""

    def __init__(
        self,
        lab: str | Lab,
        seed: int,
        size: int = 64,
        *,
        hz: float = 4.0,
        renderer: str = "rays",
        samples: int | None = None,
        camera_jitter: float = 1.0,
        arm: Arm = FRANKA,
    ) -> None:
        """Build the lab and reset it from `seed`.

        Args: size of the square frame in pixels; hz of the actions; renderer "rays", "gl" or "none"
        (empty frames); samples per pixel side (see `RayRenderer`); camera_jitter as a multiple of
        `JITTER`. Raises ValueError for what is not known.
        """
        self.lab = find_lab(lab) if isinstance(lab, str) else lab
        self.size, self.hz, self.arm, self._jitter = size, hz, arm, camera_jitter
        self._model = build_model(self.lab, arm)
        self._substeps = max(1, round(1.0 / hz / _TIMESTEP))
        self._model.opt.timestep = 1.0 / hz / self._substeps
        self._data = mujoco.MjData(self._model)
        self._scratch = mujoco.MjData(self._model)
        joints = [self._model.joint(_PREFIX + name) for name in arm.joints]
        self._joints = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._limits = np.array([joint.range for joint in joints]).T
        self._motors = np.array([self._model.actuator(_PREFIX + name).id for name in arm.motors])
        self._finger = int(self._model.joint(_PREFIX + arm.finger).qposadr[0])
        self._gripper = int(self._model.actuator(_PREFIX + arm.gripper).id)
        self._tcp = int(self._model.site(_PREFIX + arm.tcp).id)
        self._renderer = self._open_renderer(renderer, samples)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Lay out things, arm and camera anew: a function of the lab's name and `seed`."""
        rng = np.random.default_rng(int(digest_json([self.lab.name, seed])[:16], 16))
        mujoco.mj_resetData(self._model, self._data)
        for name, pose in lay_out(self.lab, rng).items():
            self._data.joint(name).qpos[:] = pose
        start = np.array([0.48, 0.0, 0.27, np.pi, 0.0, 0.0, 0.0])
        start[:6] += rng.uniform(-1, 1, 6) * _START
        self._set_arm(start)
        jitter = rng.uniform(-1, 1, 3) * np.array(JITTER) * self._jitter
        self.view = place_camera(self.lab.camera, jitter)
        mujoco.mj_step(self._model, self._data, 20)
        mujoco.mj_forward(self._model, self._data)
        self._command = self.state()

    def state(self) -> Array:
        """Measured [7]: xyz in metres, Euler angles (roll in [0, 2 pi)), gripper 1 if closed."""
        matrix = self._data.site_xmat[self._tcp].reshape(3, 3)
        opened, closed = self.arm.finger_range
        gripper = (self._data.qpos[self._finger] - opened) / (closed - opened)
        pose = [self._data.site_xpos[self._tcp], matrix_to_euler(matrix), [gripper.clip(0.0, 1.0)]]
        return positive_roll(np.concatenate(pose))

    def observe(self) -> tuple[Frame, Array]:
        """The frame [size, size, 3] uint8 of the left exterior camera, and the state [7]."""
        return self._renderer(), self.state()

    def joints(self) -> dict[str, Array]:
        """Joint positions, velocities, torques and targets, [7] each (rad, rad/s, N m, rad)."""
        data = self._data
        return {
            "positions": data.qpos[self._joints].copy(),
            "velocities": data.qvel[self._dofs].copy(),
            "torques": data.qfrc_actuator[self._dofs].copy(),
            "targets": data.ctrl[self._motors].copy(),
        }

    def command(self) -> Array:
        """The pose [7] that the arm was last told to take."""
        return self._command.copy()

    def thing(self, name: str) -> Array:
        """Where a thing is [4]: its middle's xyz in metres, its angle about z in radians."""
        body = self._data.body(name)
        return np.array([*body.xpos, np.arctan2(body.xmat[3], body.xmat[0])])

    def snapshot(self) -> tuple[Array, Array]:
        """Everything that `restore` needs to continue from here as if nothing had happened."""
        state = np.empty(mujoco.mj_stateSize(self._model, _INTEGRATION))
        mujoco.mj_getState(self._model, self._data, state, _INTEGRATION)
        return state, self.command()

    def restore(self, snapshot: tuple[Array, Array]) -> None:
        """Return to a snapshot of this simulator (same reset)."""
        mujoco.mj_setState(self._model, self._data, snapshot[0], _INTEGRATION)
        mujoco.mj_forward(self._model, self._data)
        self._command = snapshot[1].copy()

    def step(self, action: Array) -> None:
        """Carry out one 7-D action [7] over one control period; the target stays in `WORKSPACE`."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f"action must be 7 finite numbers, not {action!r}")
        base, here = self._command.copy(), self.state()[:3]
        base[:3] = np.clip(base[:3], here - _LEASH, here + _LEASH)
        old = self._data.ctrl.copy()
        new = old.copy()
        # At the end of its reach the arm goes part of the way, or stays, instead of thrashing.
        for share in (1.0, 0.5, 0.25, 0.0):
            target = apply_action(base, action * [*[share] * 6, 1.0])
            target[:3] = np.clip(target[:3], *WORKSPACE)
            joints, error = self._solve(self._data.qpos[self._joints], target)
            if error < _SOLVED:
                new[self._motors] = joints
                break
        self._command = target
        opened, closed = self.arm.gripper_range
        new[self._gripper] = opened + (closed - opened) * target[6]
        ramp = max(1, self._substeps // 2)
        for tick in range(1, self._substeps + 1):
            self._data.ctrl[:] = old + (new - old) * min(1.0, tick / ramp)
            mujoco.mj_step(self._model, self._data)
        # Positions of sites and bodies lag one step behind qpos until they are computed again.
        mujoco.mj_forward(self._model, self._data)

    def move_to(self, xyz: Array, *, limit: float = 0.075, steps: int = 24) -> float:
        """Move the hand to `xyz` [3], keeping its attitude; returns the distance left, metres.

        Takes at most `steps` actions of at most `limit` metres per axis.
        """
        goal = np.clip(np.asarray(xyz, dtype=np.float64), *WORKSPACE)
        for _ in range(steps):
            left = goal - self.state()[:3]
            if np.linalg.norm(left) < 0.001:
                break
            self.step(np.concatenate([np.clip(left, -limit, limit), np.zeros(4)]))
        return float(np.linalg.norm(goal - self.state()[:3]))

    def _solve(self, start: Array, target: Array) -> tuple[Array, float]:
        """Joint angles [7] near `start` that bring the hand to the pose `target` [7].

        With the largest error left, in metres or radians: large when the arm cannot get there.
        """
        model, data = self._model, self._scratch
        data.qpos[:] = self._data.qpos
        data.qpos[self._joints] = start
        wanted = euler_to_matrix(target[3:6])
        jacobian = np.zeros((6, model.nv))
        for _ in range(60):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            turn = wanted @ data.site_xmat[self._tcp].reshape(3, 3).T
            error = np.concatenate([target[:3] - data.site_xpos[self._tcp], rotation_vector(turn)])
            if np.abs(error).max() < 0.01 * _SOLVED:
                break
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._tcp)
            joints = data.qpos[self._joints]
            joints += damped_step(jacobian[:, self._dofs], error, _REST - joints)
            data.qpos[self._joints] = np.clip(joints, *self._limits)
        return np.array(data.qpos[self._joints]), float(np.abs(error).max())

    def _set_arm(self, pose: Array) -> None:
        joints = _REST.copy()
        joints[0] = np.arctan2(pose[1], pose[0])
        self._data.qpos[self._joints] = self._solve(joints, pose)[0]
        for name in self.arm.open_fingers:
            self._data.joint(_PREFIX + name).qpos[:] = self.arm.finger_range[0]
        self._data.ctrl[self._motors] = self._data.qpos[self._joints]
        self._data.ctrl[self._gripper] = self.arm.gripper_range[0]
        mujoco.mj_forward(self._model, self._data)

    def _cast(self, origin: Array, directions: Array, groups: tuple[int, ...]) -> Hits:
        """MuJoCo's answer to `pipelines.robot.rendering.Cast`."""
        count = len(directions)
        chosen = np.isin(np.arange(6), groups).astype(np.uint8)
        geom, distance, normal = np.empty(count, np.int32), np.empty(count), np.empty((count, 3))
        rays = np.ascontiguousarray(directions).reshape(-1)
        mujoco.mj_multiRay(
            self._model, self._data, origin, rays, chosen, True, -1, geom, distance,
            normal.reshape(-1), count, mujoco.mjMAXVAL,
        )  # fmt: skip
        distance[geom < 0] = np.inf
        return Hits(distance, geom, normal)

    def _open_renderer(self, name: str, samples: int | None) -> Callable[[], Frame]:
        if name == "none":
            return lambda: np.zeros((0, 0, 3), dtype=np.uint8)
        if name == "rays":
            return self._ray_renderer(samples)
        if name == "gl":
            return self._gl_renderer()
        raise ValueError(f'renderer is {name!r}: choose "rays", "gl" or "none"')

    def _ray_renderer(self, samples: int | None) -> Callable[[], Frame]:
        model = self._model
        colours = painted(model.geom_rgba, model.mat_rgba, model.geom_matid)
        patterned = {model.geom(n).id: surface for n, surface in surfaces(self.lab).items()}
        rays = RayRenderer(self._cast, self.lab, colours, patterned, self.size, samples)
        return lambda: rays.frame(self.view)

    def _gl_renderer(self) -> Callable[[], Frame]:
        if os.environ.get("MUJOCO_GL") not in ("egl", "osmesa", "glfw"):
            raise InputError(
                'renderer "gl" needs MUJOCO_GL=egl (or osmesa) from the start; "rays" needs nothing'
            )
        renderer = mujoco.Renderer(self._model, self.size, self.size)
        camera = self._model.camera("left").id

        def frame() -> Frame:
            mujoco.mju_mat2Quat(self._model.cam_quat[camera], self.view.axes.reshape(-1))
            self._model.cam_pos[camera] = self.view.position
            mujoco.mj_camlight(self._model, self._data)
            renderer.update_scene(self._data, camera=camera)
            return np.array(renderer.render())

        return frame
