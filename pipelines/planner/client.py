"""Asking a planner that is served: no torch, no Ray, the standard library and numpy alone."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.planner.requests import Question, RequestError, write_question


class PlannerClient:
    """One connection to a served planner; used like a `Planner`."""

    def __init__(self, port: int, token_file: Path, *, host: str = "127.0.0.1") -> None:
        """`token_file`: where the service left its token, readable by its owner alone."""
        self._connection = http.client.HTTPConnection(host, port, timeout=600)
        self._headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"}

    def plan(
        self, frame: NDArray[np.uint8], state: NDArray[np.float64],
        goal_frame: NDArray[np.uint8], step: int = 0,
    ) -> NDArray[np.float64]:  # fmt: skip
        """The next motion [7], as `Planner.plan`. Raises RequestError with what was refused."""
        body = write_question(Question(frame, goal_frame, np.asarray(state, np.float64), step))
        self._connection.request("POST", "/plan", body, self._headers)
        answer = self._connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise RequestError(answer.status, _refusal(told))
        return np.array(json.loads(told)["action"], dtype=np.float64)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def _refusal(told: bytes) -> str:
    """The planner's line; else the first of whoever stands before it, such as Ray's proxy when too
    many wait.
    """
    try:
        return str(json.loads(told)["error"])
    except (ValueError, KeyError, TypeError):
        return (told.decode(errors="replace").splitlines() or ["no reason is given"])[0]
