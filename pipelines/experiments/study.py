"""A study of training recipes: several arms, several seeds each, one number a source and readout.

Arms are declared with their settings before anything is trained, and every one is reported. An
interval is over seeds (Student's t), for that is what another training would give; the test clips
are the same for all arms, and differences to the reference are taken seed by seed.

Inputs: `videomix22m`, `clip_shards`. Payload:
    report.json    arm -> source -> readout -> labels -> rate of each seed, mean, low, high, and
                   the difference to the reference arm
    rates.parquet  arm, seed, source, readout, labels, successes, trials
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any

from pipelines.evaluation.metrics import seed_interval
from pipelines.experiments.arms import Arm, ArmTask, arm_configs, check_arms, run_arm
from pipelines.experiments.worlds import ReadoutConfig, split_of
from pipelines.settings import DIFFERENT, NOT_EMPTY, Natural, plain, settings
from pipelines.stage import Inputs, Stage, Workspace
from pipelines.training.pretrain import PretrainConfig
from storage.tables import write_table

RATES = {
    "arm": "string", "seed": "int64", "source": "string", "readout": "string", "labels": "int32",
    "successes": "int32", "trials": "int32",
}  # fmt: skip


@settings
class StudyConfig:
    """Which arms are compared, and how."""

    base: PretrainConfig
    """The recipe that arms change."""
    arms: Annotated[dict[str, Arm], NOT_EMPTY]
    """Name -> how it differs from the base."""
    reference: str
    """The arm that others are compared with."""
    seeds: Annotated[tuple[Natural, ...], NOT_EMPTY, DIFFERENT] = (0, 1, 2)
    """Seeds of weights, masks and clips; every arm is trained with each."""
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    """On what encoders are read out."""

    def __post_init__(self) -> None:
        if self.reference not in self.arms:
            raise ValueError(
                f"reference = {self.reference!r}: must be one of {', '.join(self.arms)}"
            )
        check_arms(self.base, self.arms)


def run(config: StudyConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Train and read out every arm with every seed, each resuming after a kill; then report."""
    tasks = {
        f"{name}, seed {seed}": ArmTask(
            configs=arm_configs(config.base, arm, seed),
            trained=arm.steps > 0,
            inputs=dict(inputs),
            readout=config.readout,
            work=out.work,
        )
        for seed in config.seeds  # a whole round of arms first: an early look compares all
        for name, arm in config.arms.items()
    }
    # What cannot be read out is told before anything is trained.
    splits = [split_of(inputs, config.readout, source) for source in config.readout.sources]
    found = out.map(run_arm, tasks, noun="arms")
    rows = [
        {"arm": name, "seed": seed, **row}
        for name in config.arms
        for seed in config.seeds
        for row in found[f"{name}, seed {seed}"]["rows"]
    ]
    report = describe(config, rows) | {"chance": 1 / max(len(split.classes) for split in splits)}
    (out.payload / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    write_table(out.payload / "rates.parquet", rows, RATES)
    spent = {
        name: [found[f"{name}, seed {seed}"]["cpu_seconds"] for seed in config.seeds]
        for name in config.arms
    }
    # Seconds are no part of the artifact: another machine takes others.
    return {f"cpu_seconds, {name}": round(sum(s) / len(s), 1) for name, s in spent.items()}


def describe(config: StudyConfig, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The contents of report.json."""
    rates: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        key = (row["arm"], row["source"], row["readout"], str(row["labels"]))
        rates.setdefault(key, []).append(row["successes"] / row["trials"])
    arms: dict[str, Any] = {}
    for (arm, source, readout, labels), seeds in rates.items():
        before = rates[config.reference, source, readout, labels]
        gains = [rate - other for rate, other in zip(seeds, before, strict=True)]
        told = {"seeds": seeds, **seed_interval(seeds), "gain": seed_interval(gains)}
        by_readout = arms.setdefault(arm, {}).setdefault(source, {})
        by_readout.setdefault(readout, {})[labels] = told
    return {
        "arms": arms,
        "order": list(config.arms),
        "reference": config.reference,
        "test_clips": config.readout.test,
        "steps": {name: arm.steps for name, arm in config.arms.items()},
        "settings": plain(config),
    }


def study(name: str, config: type[StudyConfig] = StudyConfig) -> Stage:
    """The stage of a study of this name."""
    return Stage(name, version=1, config=config, run=run)
