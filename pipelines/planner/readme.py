"""The page that travels with an exported planner."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_PAGE = """# {name}

Give this planner what a camera sees, where the arm's hand is, and a picture of the goal; it returns
the next motion of the hand. It was exported together with the numbers below and needs nothing but
this folder and the code that wrote it (numpy, torch and safetensors are all that it imports).

| | |
|---|---|
| version | format {format}; made from cooled_encoder {encoder}, world_model {world_model} |
| licence | Apache-2.0, the code; the weights are as free as what they were trained on |
| trained on | recordings of a robot, {frames}, as the frozen encoder sees them |
| meant for | research; short motions towards a picture that the same camera could take |
| not meant for | people within reach, other cameras or arms without trials of your own |

```sh
python -m pip install {pins}
python -m pip install --no-deps vjepa2_house-*.whl   # the code: `pip wheel --no-deps .` makes it
```

```python
from pipelines.planner.bundle import load_planner

planner = load_planner("{name}")
action = planner.plan(frame, state, goal_frame, step)
```

- `frame`, `goal_frame`: numpy uint8 [H, W, 3], RGB, from one camera that does not move in between.
  They are cut to {widest} : 1, scaled to {size} x {size} pixels and normalised by the planner.
- `state`: 7 numbers in the robot's base frame: x, y, z (metres), extrinsic x-y-z Euler angles
  (radians), gripper (0 open, 1 closed).
- `action`: 7 numbers, the change of the state to make before the next frame ({seconds:.3g} s later,
  the pace of the recordings): at most {reach_cm:g} cm along each axis; it does not turn the hand.
  All zero means: stay.
- Pace: {pace}.
- `step`: the number of the motion. Equal calls give equal answers.
- Search: {search_line}, {horizon} step(s) ahead.
- {workspace}

Loading checks the SHA-256 of every file (digests.json) and never runs code from a file.

**Before it moves a real arm**: limit speed and force, keep the emergency stop within reach, and
start with goals a few centimetres away. It has been tried in simulation only.

## What was measured

Reaching in simulation, {steps} motions from {nearest_cm:g} to {farthest_cm:g} cm away, in
{unseen} labs that neither recordings nor pretraining have seen; a trial succeeds if the hand ends
within {success_cm:g} cm. 95 % Wilson intervals.

| policy | reached | share | interval | final distance, median | distance closed |
|---|---|---|---|---|---|
{reaching}
{tasks}
Frozen features: how often a readout names the class of a clip that it has not seen.

| clips | readout, labels | pretrained | random | interval of the difference, points |
|---|---|---|---|---|
{probing}
"""

_ENCODERS = ("pretrained", "random")
_POLICIES = {
    "planner": "this planner",
    "random": "random motions",
    "still": "no motion",
    "straight": "straight to the known goal",
}


def write_readme(
    path: Path,
    described: Mapping[str, Any],
    made_from: Mapping[str, str],
    planning: Mapping[str, Any],
    probes: Sequence[Mapping[str, Any]],
) -> None:
    """Write the page from planner.json, the contents it was made from and the reports."""
    settings, search = planning["settings"], described["search"]
    text = _PAGE.format(
        name=described["name"],
        widest=described["preprocessing"]["widest"],
        size=described["preprocessing"]["size"],
        seconds=1 / (described["control_rate_hz"] or described["rate_hz"]),
        pace=_pace(described),
        reach_cm=100 * search["max_translation"],
        format=described["format"],
        **{name: made_from[name][:12] for name in ("encoder", "world_model")},
        frames=f"{described['rate_hz']:.3g} frames a second by the {described['clock']} clock",
        pins=" ".join(f"{name}=={_version(name)}" for name in ("torch", "numpy", "safetensors")),
        horizon=search["horizon"],
        search_line=_search(search),
        tasks=_tasks(planning["tasks"]),
        workspace=_workspace(search["workspace"]),
        steps=settings["steps"],
        nearest_cm=100 * settings["nearest"],
        farthest_cm=100 * settings["farthest"],
        success_cm=100 * settings["success"],
        unseen=len(settings["labs"]),
        reaching="\n".join(_reaching(planning["policies"])),
        probing="\n".join(row for probe in probes for row in _probing(probe)),
    )
    path.write_text(text)


def _version(package: str) -> str:
    """The version that is installed, without the kind of build."""
    return importlib.metadata.version(package).partition("+")[0]


def _search(search: Mapping[str, Any]) -> str:
    if search["method"] == "surrogate":
        rounds = "+".join(map(str, search["surrogate_samples"]))
        return f"surrogate, {rounds} candidates and up to {search['polish']} rounds of polish"
    elites = f", {search['elites']} elites" if search["method"] != "mppi" else ""
    how = f"{search['samples']} candidates, {search['iterations']} refinements{elites}"
    return f"{search['method'].upper()}, {how}"


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows of the tasks with a thing; nothing where none was tried."""
    if not tasks:
        return ""
    policies = ("planner", "random", "still", "expert")
    lines = ["", "With a thing, in the same labs, reached / passed / trials:", ""]
    lines += ["| task | planner | random | no motion | expert |", "|---|---|---|---|---|"]
    for row, found in tasks.items():
        told = (found[policy]["pooled"] for policy in policies)
        cells = (
            f"{t['reached']['successes']} / {t['passed']['successes']} / {t['reached']['trials']}"
            for t in told
        )
        lines.append(f"| {row.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _pace(described: Mapping[str, Any]) -> str:
    rate, own = described["rate_hz"], described["control_rate_hz"]
    if described["clock"] == "control":
        return f"it was trained on {rate:.3g} frames a second by the robot's own time stamps"
    truly = f", which is {own:.3g} a second by the robot's" if own else "; how fast the robot went "
    unknown = "" if own else "is not known"
    return f"it was trained on {rate:.3g} frames a second by the cameras' clock{truly}{unknown}"


def _workspace(box: list[float] | None) -> str:
    if box is None:
        return "It knows no walls: keep the hand inside your own workspace."
    sides = (f"{axis} {box[i]:g} to {box[i + 3]:g} m" for i, axis in enumerate("xyz"))
    return f"It plans inside its workspace only: {', '.join(sides)}."


def _reaching(policies: Mapping[str, Any]) -> list[str]:
    rows = []
    for policy, label in _POLICIES.items():
        pooled = policies[policy]["pooled"]
        rate = pooled["reached"]
        rows.append(
            f"| {label} | {rate['successes']} of {rate['trials']} | {rate['rate']:.0%} "
            f"| {rate['low']:.0%} to {rate['high']:.0%} | {pooled['final_cm']['median']:.1f} cm "
            f"| {pooled['closed']:.0%} |"
        )
    return rows


def _probing(probe: Mapping[str, Any]) -> Iterator[str]:
    """One row a readout, with the largest budget of labels."""
    for readout, curve in probe["readouts"].items():
        last = curve[-1]
        trained, untrained = (last["variants"][name]["accuracy"] for name in _ENCODERS)
        gain = last["pretrained_minus_random"]
        yield (
            f"| {trained['trials']} of {probe['source']}, {probe['chance']:.1%} by chance "
            f"| {readout}, {last['labels']} | {trained['rate']:.1%} | {untrained['rate']:.1%} "
            f"| {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} |"
        )
