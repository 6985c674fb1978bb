"""Films of an arm at work for pretraining: many laboratories, many cameras, and no states.

The labs are those of the role `pretraining`: an encoder that has seen them has seen robots, but
neither a lab in which a world model is trained nor one in which it is tried out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.recorder import choose_policy, decide
from pipelines.robot.roles import labs_of
from pipelines.robot.simulator import Simulator
from storage.digests import digest_json

# As a multiple of the recordings': nobody measures where a camera of the internet stands.
_CAMERA_JITTER = 2.0
_LABS = labs_of("pretraining")


def lab_of(index: int) -> str:
    """The lab of a film: walked in turn and not drawn, so that a few films show as many labs."""
    return _LABS[index % len(_LABS)]


def film(
    seed: int, source: str, index: int, side: int, rate: float, seconds: float
) -> Iterator[NDArray[np.uint8]]:
    """Frames [side, side, 3] of the film of this index, `rate` a second.

    One ray a pixel: what is trained on is smaller still, and averaged when it shrinks.
    """
    drawn = int(digest_json(["film", seed, source, index])[:12], 16)
    rng = np.random.default_rng(drawn)
    simulator = Simulator(
        lab_of(index), drawn, side, hz=rate, samples=1, camera_jitter=_CAMERA_JITTER
    )
    policy = choose_policy(simulator, rng)
    for frame, _, action in decide(simulator, policy, rng, round(seconds * rate)):
        yield frame
        simulator.step(action)
