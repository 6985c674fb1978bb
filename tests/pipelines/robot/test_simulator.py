"""Claims: the arm's kinematics and limits are Franka's published ones; it follows actions to a
few millimetres; it grasps and lifts; a seed decides everything; a goal picture changes nothing."""

from __future__ import annotations

import functools

import mujoco
import numpy as np
import pytest

from pipelines.robot.arms import DAMPING, FRANKA, STIFFNESS, load_arm
from pipelines.robot.blueprint import find_lab
from pipelines.robot.environment import ReachEnvironment
from pipelines.robot.furniture import GRASPABLE
from pipelines.robot.policies import Grasp
from pipelines.robot.poses import euler_to_matrix, rotation_vector
from pipelines.robot.roles import labs_of
from pipelines.robot.scene import WORKSPACE
from pipelines.robot.simulator import Simulator

# Franka's modified Denavit-Hartenberg parameters (a, d, alpha): Franka Control Interface manual.
DH = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
]
FLANGE = 0.107
LIMITS = [
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
]
TORQUES = [87.0] * 4 + [12.0] * 3


@functools.cache
def simulator(lab: str = "lab-000", size: int = 32) -> Simulator:
    return Simulator(lab, 0, size, samples=1)


def movables(lab: str) -> list[str]:
    """The names of what can be grasped in a lab."""
    return [thing.name for thing in find_lab(lab).things if thing.mass > 0]


def rotation_between(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return rotation_vector(euler_to_matrix(two[3:6]) @ euler_to_matrix(one[3:6]).T)


def flange_of(joints: np.ndarray) -> np.ndarray:
    """Transform [4, 4] of the flange by the published table."""
    pose = np.eye(4)
    for (a, d, alpha), theta in zip(DH, joints, strict=True):
        (ca, sa), (ct, st) = ((np.cos(x), np.sin(x)) for x in (alpha, theta))
        pose = pose @ [
            [ct, -st, 0, a],
            [st * ca, ct * ca, -sa, -d * sa],
            [st * sa, ct * sa, ca, d * ca],
            [0, 0, 0, 1],
        ]
    return pose @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, FLANGE], [0, 0, 0, 1]]


def test_forward_kinematics_are_the_published_ones():
    model = mujoco.MjModel.from_xml_path(FRANKA.model)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = rng.uniform(*np.array(LIMITS).T)
        data.qpos[:7] = joints
        mujoco.mj_forward(model, data)
        wanted = flange_of(joints)
        assert np.allclose(data.site("flange").xpos, wanted[:3, 3], atol=1e-9)
        assert np.allclose(data.site("flange").xmat.reshape(3, 3), wanted[:3, :3], atol=1e-5)


def test_limits_are_the_published_ones():
    model = mujoco.MjModel.from_xml_path(FRANKA.model)
    for number, (low, high) in enumerate(LIMITS, 1):
        assert np.allclose(model.joint(f"joint{number}").range, (low, high))
        motor = model.actuator(f"joint{number}")
        assert motor.forcerange[1] == TORQUES[number - 1]
        assert motor.gainprm[0] == STIFFNESS[number - 1]
        assert motor.biasprm[2] == -DAMPING[number - 1]


def test_an_arm_that_is_told_to_stay_stays():
    arm = simulator()
    arm.reset(3)
    before = arm.state()
    for _ in range(4):
        arm.step(np.zeros(7))
    assert np.abs(arm.state() - before).max() < 5e-4


@pytest.mark.parametrize("lab", ["lab-000", "lab-001"])
def test_actions_are_followed_to_millimetres(lab):
    arm, rng, errors, turns = simulator(lab), np.random.default_rng(1), [], []
    for seed in range(6):
        arm.reset(seed)
        for _ in range(8):
            action = np.concatenate([rng.uniform(-0.075, 0.075, 3), rng.uniform(-0.1, 0.1, 3), [0]])
            arm.step(action)
            if arm.command()[2] > 0.14:  # below, the hand may meet a thing
                errors.append(1000 * np.linalg.norm(arm.command()[:3] - arm.state()[:3]))
                turns.append(np.abs(arm.command()[3:6] - arm.state()[3:6]).max())
    assert len(errors) > 25
    assert np.median(errors) < 1.0
    assert np.percentile(errors, 95) < 3.0
    assert np.percentile(turns, 95) < 0.01


def test_the_workspace_is_within_reach_and_never_left():
    arm = simulator()
    arm.reset(4)
    low, high = WORKSPACE
    corners = [(low[0], low[1], high[2]), (high[0], low[1], high[2]), (high[0], high[1], high[2])]
    for corner in corners:
        assert arm.move_to(np.array(corner)) < 0.003
    for _ in range(3):
        arm.step(np.array([0.075, 0.075, 0.075, 0, 0, 0, 0]))
    assert (arm.state()[:3] <= high + 0.003).all()


def test_beyond_its_reach_the_arm_stays_instead_of_thrashing():
    arm = simulator()
    arm.reset(5)
    arm.move_to(np.array([WORKSPACE[1][0], 0.0, 0.3]))
    before, turns = arm.state(), []
    for _ in range(16):
        arm.step(np.array([0.0, 0, 0, 0, 0.25, 0, 0]))  # 4 rad in all: no wrist turns that far
        turns.append(np.degrees(np.linalg.norm(rotation_between(before, arm.state()))))
        assert np.linalg.norm(arm.state()[:3] - before[:3]) < 0.02
    assert turns[2] > 30
    assert turns[-1] - turns[-4] < 3


@pytest.mark.parametrize("name", sorted(GRASPABLE))
def test_the_gripper_lifts_a_thing(name):
    lab = next(lab for lab in labs_of("recording") if name in movables(lab))
    arm, rng = simulator(lab), np.random.default_rng(0)
    for seed in range(3):
        arm.reset(seed)
        before = arm.thing(name)[2]
        policy = Grasp(lambda: arm.thing(name), noise=0.0, task="lift")
        for _ in range(18):
            arm.step(policy.action(arm.state(), rng))
        assert arm.thing(name)[2] - before > 0.1
        assert policy.succeeded(arm.state())
        assert 0.1 < arm.state()[6] < 0.9  # closed on it, not through it


def test_a_seed_decides_everything():
    one, two = simulator(), Simulator("lab-000", 7, 32, samples=1)
    one.reset(7)
    assert_same(one.observe(), two.observe())
    for _ in range(3):
        for arm in (one, two):
            arm.step(np.array([0.03, -0.05, -0.04, 0.05, 0, 0.1, 0.5]))
        assert_same(one.observe(), two.observe())
    two.reset(8)
    name = movables("lab-000")[0]
    assert np.linalg.norm(one.thing(name)[:2] - two.thing(name)[:2]) > 0.005


def test_a_goal_picture_changes_nothing():
    quiet, asked = (ReachEnvironment("lab-001", 3, 32, samples=1) for _ in range(2))
    action = np.array([0.05, 0.02, -0.03, 0, 0, 0, 0.2])
    assert_same(quiet.step(action), asked.step(action))
    place = asked.random_goal(0.2, seed=1)
    frame, state = asked.goal(place)
    assert np.linalg.norm(state[:3] - place) < 0.003
    assert asked.distance() == pytest.approx(0.2, abs=1e-9)
    assert (frame != quiet.simulator.observe()[0]).any()
    assert_same(quiet.simulator.observe(), asked.simulator.observe())
    assert_same(quiet.step(action), asked.step(action))


def assert_same(one, two):
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()


def test_goals_out_of_reach_are_refused():
    environment = ReachEnvironment("lab-000", 0, 32, samples=1)
    with pytest.raises(ValueError, match=r"the arm stops .* m before it"):
        environment.goal(np.array([0.5, 0.0, 0.9]))
    with pytest.raises(ValueError, match=r"no goal 2\.0 m away"):
        environment.random_goal(2.0, seed=0)


@pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan)])
def test_bad_actions_are_refused(action):
    with pytest.raises(ValueError, match="7 finite numbers"):
        simulator().step(action)


def test_bad_settings_are_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(ValueError, match="there are lab-000 to lab-999"):
        Simulator("lab-z", 0)
    with pytest.raises(ValueError, match='"rays", "gl" or "none"'):
        Simulator("lab-000", 0, renderer="vulkan")
    with pytest.raises(ValueError, match="MUJOCO_GL=egl"):
        Simulator("lab-000", 0, renderer="gl")
    with pytest.raises(ValueError, match='give "franka" or a JSON file'):
        load_arm(str(tmp_path / "no.json"))
    (tmp_path / "arm.json").write_text('{"model": "arm.xml", "wings": 2}')
    with pytest.raises(ValueError, match="fields of an arm"):
        load_arm(str(tmp_path / "arm.json"))


def test_another_arm_stands_in(real_data, tmp_path):
    folder = real_data / "robot" / "menagerie"
    (tmp_path / "arm.json").write_text(
        f"""{{
        "model": "{folder}/franka_emika_panda/panda_nohand.xml",
        "hand": "{folder}/robotiq_2f85/2f85.xml",
        "tcp": "hand/pinch", "gripper": "hand/fingers_actuator", "gripper_range": [0, 255],
        "finger": "hand/right_driver_joint", "finger_range": [0, 0.8]
        }}"""
    )
    other = Simulator("lab-000", 3, 32, samples=1, arm=load_arm(str(tmp_path / "arm.json")))
    frame, state = other.observe()
    assert (frame != Simulator("lab-000", 3, 32, samples=1).observe()[0]).any()
    assert other.move_to(state[:3] + np.array([0.05, -0.05, 0.05])) < 0.003
    other.step(np.array([0.0, 0, 0, 0, 0, 0, 1.0]))
    assert other.state()[6] > 0.7


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [(0, 0.2, "moves x by 0.2: at most 0.15"), (4, -0.6, "moves pitch by -0.6: at most 0.5"),
     (6, np.nan, "moves gripper by nan: at most 1")],
)  # fmt: skip
def test_an_action_out_of_bounds_moves_nothing(at, value, said):
    environment = ReachEnvironment("lab-500", 1, 16, renderer="none")
    before = environment.simulator.state()
    action = np.zeros(7)
    action[at] = value
    with pytest.raises(ValueError, match=said):
        environment.step(action)
    with pytest.raises(ValueError, match=r"shape \[6\]: it must be 7 numbers"):
        environment.step(np.zeros(6))
    assert (environment.simulator.state() == before).all()
