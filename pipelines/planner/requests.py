"""What a planner is asked over HTTP, read without trust, and what it answers.

    POST /plan    {"frame": picture, "goal_frame": picture, "state": [7 numbers], "step": n}
                  picture: {"shape": [H, W, 3], "data": base64 of H * W * 3 bytes, RGB, row by row}
               -> {"action": [7], "energy": e, "staying": e, "stayed": bool, "seconds": s}
    GET  /about   name, pace, units, the largest picture and request
    else          {"error": one line}, with 400, 401, 404, 405, 411 or 413

Nothing is unpickled or inflated: what a request costs is bounded by its length.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.planner.cem import ACTION_WIDTH
from storage.errors import UserError

MAX_BYTES = 8 << 20
"""Of a request. Two pictures of 720 x 1280 need 7.4 MB in base64."""
MAX_SIDE = 2048
_FIELDS = {"frame", "goal_frame", "state", "step"}


class RequestError(UserError, ValueError):
    """A request that is refused; `status` is HTTP's, the message one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Question:
    """What `Planner.plan` takes."""

    frame: NDArray[np.uint8]
    """[H, W, 3]"""
    goal_frame: NDArray[np.uint8]
    state: NDArray[np.float64]
    """[7]"""
    step: int


def read_question(body: bytes) -> Question:
    """Read the body of POST /plan. Raises RequestError, 400, for whatever is wrong with it."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "the request is no JSON") from None
    if not isinstance(told, dict) or not {"frame", "goal_frame", "state"} <= set(told) <= _FIELDS:
        raise RequestError(400, f"the request must be an object of {', '.join(sorted(_FIELDS))}")
    frame, goal = (_picture(told[name], name) for name in ("frame", "goal_frame"))
    if frame.shape != goal.shape:
        raise RequestError(
            400,
            f"goal_frame is {list(goal.shape)}, frame {list(frame.shape)}: both must come from one "
            "camera, at one size",
        )
    step = told.get("step", 0)
    if type(step) is not int or not 0 <= step < 1 << 31:
        raise RequestError(400, f"step is {str(step)[:40]!a}: it must be a whole number from 0 on")
    return Question(frame, goal, _state(told["state"]), step)


def _state(value: Any) -> NDArray[np.float64]:
    numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
    if not numbers or len(value) != ACTION_WIDTH or not all(map(_finite, value)):
        raise RequestError(400, f"state must be {ACTION_WIDTH} finite numbers")
    return np.array(value, dtype=np.float64)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _picture(value: Any, name: str) -> NDArray[np.uint8]:
    if not isinstance(value, dict) or set(value) != {"shape", "data"}:
        raise RequestError(400, f"{name} must be an object of shape and data")
    shape, text = value["shape"], value["data"]
    sides = isinstance(shape, list) and len(shape) == 3 and all(type(s) is int for s in shape)
    if not sides or shape[2] != 3 or not all(1 <= side <= MAX_SIDE for side in shape[:2]):
        raise RequestError(400, f"{name}.shape must be [H, W, 3], sides from 1 to {MAX_SIDE}")
    if not isinstance(text, str):
        raise RequestError(400, f"{name}.data must be text in base64")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(400, f"{name}.data is no base64") from None
    if len(data) != math.prod(shape):
        raise RequestError(
            400, f"{name}.data holds {len(data)} bytes, its shape says {math.prod(shape)}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def write_question(question: Question) -> bytes:
    """The body that `read_question` reads."""
    pictures = {
        name: {"shape": list(frame.shape), "data": base64.b64encode(frame.tobytes()).decode()}
        for name, frame in (("frame", question.frame), ("goal_frame", question.goal_frame))
    }
    told = {**pictures, "state": question.state.tolist(), "step": question.step}
    return json.dumps(told).encode()
