"""Gates of evaluations: that pretraining gave something."""

from __future__ import annotations

from pipelines.gates import Gate, Verdict
from pipelines.node import Profile
from storage.artifacts import Artifact


def _pretrained_beats_random(artifact: Artifact, least: float) -> Verdict:
    """A linear readout of the pretrained encoder is right more often than of random ones.

    Of the largest budget of labels; the interval of the difference has to lie above `least`.
    """
    last = artifact.json("report.json")["readouts"]["linear"][-1]
    gain, labels = last["pretrained_minus_random"], last["labels"]
    return Verdict(
        gain["low"] > least,
        f"linear, {labels} labels: pretrained minus random is {100 * gain['gain']:+.1f} points "
        f"(95 % {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}); asked for: above "
        f"{100 * least:+.0f}",
        {**gain, "labels": int(labels)},
    )


def _must(partition: str | None, profile: Profile) -> bool:
    return partition in profile.probe_report.must_beat_random


PRETRAINED_BEATS_RANDOM = Gate(
    "pretrained_beats_random", "pretraining taught the encoder something about motion",
    _pretrained_beats_random, threshold=0.0, least=-1.0, blocks=_must,
)  # fmt: skip
