"""Encoders that the robot's loop is compared with.

- A partition is an arm and a seed; stills are trained on clips that stand still, the others not.
- Untrained arms publish their weights and are handed on as they are; trained ones go through both
  phases; every one can be opened as an encoder.
- The study pools what the trials say, seed by seed, against the random encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.seeds import raw_patches, seeded_encoder
from pipelines.experiments import controls
from pipelines.experiments.controls import ControlEncoderConfig
from pipelines.experiments.robot_study import describe
from pipelines.planner.weights import open_encoder
from pipelines.settings import SettingError
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from tests.pipelines.builders import artifact, workspace
from tests.pipelines.training import material

CONFIG = ControlEncoderConfig(main=material.pretrain_config(), seeds=(0, 3))
COOLDOWN = material.cooldown_config()


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return material.mixture(tmp_path_factory.mktemp("mixture"))


def test_a_partition_is_an_arm_and_a_seed() -> None:
    assert CONFIG.partitions == (
        "pretrained-0", "random-0", "stills-0", "raw-0",
        "pretrained-3", "random-3", "stills-3", "raw-3",
    )  # fmt: skip
    found = {name: controls.encoder_arm(CONFIG, name) for name in CONFIG.partitions}
    assert found["pretrained-3"].main.seed == 3
    assert [name for name, arm in found.items() if arm.main.clip.still] == ["stills-0", "stills-3"]
    with pytest.raises(SettingError, match=r"seeds = .*: names 1 twice"):
        ControlEncoderConfig(main=CONFIG.main, seeds=(1, 1))


@pytest.mark.parametrize("partition", CONFIG.partitions[:4])
def test_every_arm_becomes_an_encoder(
    partition: str, mixture: dict[str, Artifact], tmp_path: Path
) -> None:
    first, second = workspace(tmp_path / "main"), workspace(tmp_path / "cooled")
    arm = controls.encoder_arm(CONFIG, partition)
    told = controls.run_encoder(arm, Inputs(mixture), first)
    encoder = artifact(first.payload, f"control_encoder/{partition}")
    cooled = controls.cooled_arm(COOLDOWN, partition)
    inputs = Inputs({**mixture, f"control_encoder/{partition}": encoder})
    controls.run_cooled(cooled, inputs, second)
    done = open_encoder(artifact(second.payload, f"control_cooled_encoder/{partition}"))
    trained = arm.arm in controls.TRAINED
    assert told["steps"] == (CONFIG.main.steps if trained else 0)
    wanted = {
        "random": seeded_encoder(CONFIG.main.encoder, 0),
        "raw": raw_patches(CONFIG.main.encoder),
    }.get(arm.arm)
    if wanted is None:
        assert done.config.size == COOLDOWN.clip.crop
        assert cooled.cooldown is not None and cooled.cooldown.clip.still == (arm.arm == "stills")
    else:
        assert cooled.cooldown is None
        for name, value in wanted.state_dict().items():
            assert torch.equal(done.state_dict()[name], value)


def test_the_study_compares_seed_by_seed() -> None:
    def counts(*successes: int) -> dict[int, Any]:
        kinds = ("reached", "passed")
        return {
            seed: {kind: {"successes": n, "trials": 40, "rate": n / 40} for kind in kinds}
            | {"final_cm": 10 - n / 4, "motion_error_cm": 4.0}
            for seed, n in enumerate(successes)
        }

    found = {"pretrained": counts(20, 28, 24), "random": counts(12, 20, 16)}
    told = describe(found)
    assert told["pretrained"]["reached"]["together"]["successes"] == 72
    assert told["pretrained"]["reached"]["together"]["trials"] == 120
    gain = told["pretrained"]["reached"]["gain"]
    assert gain == pytest.approx({"mean": 0.2, "low": 0.2, "high": 0.2})
    assert told["random"]["passed"]["mean"] == pytest.approx(0.4)
    assert told["pretrained"]["final_cm"]["seeds"] == [5.0, 3.0, 4.0]
    assert told["pretrained"]["final_cm"]["gain"]["mean"] == pytest.approx(-2.0)
    assert "together" not in told["random"]["motion_error_cm"]
