"""Going on with a finished training: the longer one has the bytes that it would have from scratch.

The steps that two trainings have in common are the same in both, so their checkpoints and their log
are, too: they are laid where a run that was killed would have left them. What the shorter one did
because it ended there (a measurement, a checkpoint) the longer one does not have.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipelines.training.checkpoints import checkpoint_name, published_checkpoints
from pipelines.training.runs import Run
from storage.artifacts import Artifact
from storage.places import ASIDE, link_or_copy

_AFTER = {"constant_steps", "decay_steps", "lr_end"}
"""Settings of a main phase that change nothing before the rate begins to fall."""


def common_steps(old: Mapping[str, Any], new: Mapping[str, Any]) -> int:
    """The last checkpoint, by its steps, that main phases of two configs have in common; 0: none.

    A target's momentum or a weight decay that rises over all steps is another from the first one
    on, when there are more of them.
    """
    length = [c["warmup_steps"] + c["constant_steps"] + c["decay_steps"] for c in (old, new)]
    differ = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    rising = new["ema_end"] is not None or new["weight_decay_end"] is not None
    if differ - _AFTER or (rising and length[0] != length[1]):
        return 0
    same = new["warmup_steps"] + min(old["constant_steps"], new["constant_steps"])
    return int(same // new["checkpoint_every"] * new["checkpoint_every"])


def adopt(
    earlier: Artifact,
    steps: int,
    run: Run,
    every: int,
    due: Callable[[int], bool],
    measured: Iterable[str],
) -> None:
    """Let a training that has no checkpoint yet begin with those of an earlier one.

    Args:
        earlier: the finished training.
        steps: the last checkpoint to take.
        run: of the training that begins.
        every: steps between two checkpoints of it.
        due: whether it measures its networks after so many steps.
        measured: columns of the log that are taken only then.

    Raises:
        ArtifactError: a file of the earlier one is damaged or gone.
    """
    if run.checkpoints():
        return
    rows = [{k: v for k, v in row.items() if v is not None} for row in earlier.table("log.parquet")]
    for row in rows:
        if not due(row["step"]):
            for name in measured:
                row.pop(name, None)
    before = 0
    for step, path in published_checkpoints(earlier).items():
        if step > steps or step % every:
            continue
        folder = run.folder / "checkpoints" / checkpoint_name(step)
        aside = folder.with_name(f"{ASIDE}{uuid.uuid4().hex}")
        aside.mkdir(parents=True)
        for file in earlier.files(f"{path}/"):
            link_or_copy(earlier.file(file), aside / file.rsplit("/", 1)[1])
        logged = [row for row in rows if before < row["step"] <= step]
        (aside / "rows.json").write_text(json.dumps(logged))
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        run.push(folder)
        before = step
