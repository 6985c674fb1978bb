"""What frozen features know about motion: three readouts of the labelled clips of one source.

An attentive probe over all tokens (the paper's), a ridge classifier and nearest neighbours over the
spatial mean of every time step stand beside each other, each with several budgets of labels. They
read the features of the pretrained target encoder, of encoders that were never trained, and of the
pretrained one on clips that stand still (every frame the middle one): the second say what training
added, the third what a class gives away by its looks. What is learned from, what is chosen by (a
part of the labels) and what is asked about (the validation clips) are apart; see `splits`.

Inputs: `cooled_encoder`, `clip_shards` of the source. Payload:
    report.json           per readout and budget: accuracies with 95 % Wilson intervals, pretrained
                          minus random with a paired interval, confusion, hyperparameters; chance
    predictions.parquet   the predicted class of each test clip by every readout
    log.parquet           loss of the attentive probes by epoch
"""

from __future__ import annotations

import json
from typing import Any

from pipelines.evaluation.features import Encoded, encode_clips, view_grid
from pipelines.evaluation.heads import attentive
from pipelines.evaluation.protocol import ProbeConfig, of_source
from pipelines.evaluation.readouts import ReadoutTask, answer_all
from pipelines.evaluation.report import describe, headline, write_tables
from pipelines.evaluation.splits import Split, labelled_clips
from pipelines.stage import Inputs, Stage, Workspace


def pooled_answers(split: Split, encoded: Encoded, out: Workspace) -> list[dict[str, Any]]:
    """What the readouts of pooled features say, of every variant."""
    tasks = {
        variant: ReadoutTask(
            out.work, files["train"], files["validation"], split.train_labels, split.budgets
        )
        for variant, files in encoded.pooled.items()
    }
    found = out.map(answer_all, tasks, noun="readouts")
    return [{**answer, "variant": variant} for variant in tasks for answer in found[variant]]


def run(config: ProbeConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Encode, read out and judge, each resuming after a kill; then write the report."""
    [source] = config.sources
    encoder, clips = inputs["cooled_encoder"], labelled_clips(inputs.parts("clip_shards"), source)
    split = Split.of(source, clips, labels=config.labels, test=config.test, seed=config.seed)
    grid = view_grid(encoder, config.views)
    encoded = encode_clips(encoder, split, config.views, config.variants, config.attended, out)
    answers = [
        *pooled_answers(split, encoded, out),
        *attentive(config, split, encoded.tokens, grid, out),
    ]
    report = describe(config, split, answers)
    (out.payload / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    write_tables(split, answers, out.payload)
    return headline(report)


STAGE = Stage(
    "probe_report", version=2, config=ProbeConfig, run=run, narrow=of_source, on_device=True
)
