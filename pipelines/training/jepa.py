"""What pretraining and its cool-down share: predict the features of what the encoder cannot see.

Shapes: clips [B, 3, T, H, W]; token grid (t, h, w); D encoder width. See models/objectives.py for
the loss and models/masks.py for the masks.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from models.diagnostics import effective_rank, feature_std
from models.encoder import Encoder, EncoderConfig
from models.isotropy import random_directions
from models.losses import Centre, normalise
from models.mask_mixture import Mask, MaskMixture, mixture_masks
from models.objectives import pretraining_loss
from models.optimizer import update_average
from models.predictor import Predictor, PredictorConfig
from models.schedules import ema_momentum
from models.seeds import Initialisation, seeded_networks
from pipelines.settings import (
    DIFFERENT,
    NOT_EMPTY,
    Count,
    Natural,
    NotNegative,
    Positive,
    Share,
    settings,
)
from pipelines.training.clips import ClipConfig, ClipLoader
from pipelines.training.reductions import Reduction
from pipelines.training.tasks import LoopSettings, check_shards
from storage.digests import digest_json
from storage.errors import curable

_MEASURED = (
    "loss", "masked_loss", "context_loss", "isotropy_loss", "lr", "weight_decay", "ema",
    "gradient_norm", "effective_rank", "feature_std", "replaced_clips",
)  # fmt: skip
LOG_COLUMNS = {"step": "int64"} | dict.fromkeys(_MEASURED, "float64")

CLIP_CACHE = 1 << 30
"""Bytes of decoded clips that each worker keeps; changes how fast a clip comes, never which."""


@settings
class JepaConfig:
    """What both phases are asked. Defaults: the paper's (section 2.4, tables 9 and 12)."""

    seed: Natural = 239
    """Of weights, masks and clips."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Frames, rate, size and crop of a clip."""
    sources: Annotated[tuple[str, ...], NOT_EMPTY, DIFFERENT] | None = None
    """Sources of the mixture whose clips are drawn, at its weights; None: all of them."""
    batch: Count = 3072
    """Clips per step, over all workers."""
    gradient_shards: Count = 128
    """Parts of the batch whose gradients are computed apart; 24 clips each by default."""
    reduction: Reduction = "tree"
    """How gradients become one: "tree" (any number of workers, equal bytes) or "ddp" (torch's)."""
    weight_decay: NotNegative = 0.04
    ema: Share = 0.99925
    """Momentum of the target encoder at the start; at 1 it stands still."""
    ema_end: Share | None = None
    """Its momentum at the end, to which it rises evenly; None: it stays."""
    max_gradient_norm: Positive | None = None
    """Longer gradients are shortened to this norm; None: they stay as they are."""
    masks: MaskMixture = field(default_factory=MaskMixture)
    """What is hidden."""
    centre: Centre = "none"
    """What targets lose before their layer norm: nothing, their mean over the "clip", or over
    "time" at each place, so that nothing that stands still is left to guess."""
    context_weight: NotNegative = 0.0
    """Weight of an L1 on the context tokens too, as in V-JEPA 2.1; 0 is V-JEPA 2."""
    isotropy_weight: NotNegative = 0.0
    """Weight of SIGReg on the encoder's features (LeJEPA); 0 is V-JEPA 2."""
    isotropy_directions: Count = 64
    """Random directions that SIGReg looks along in each step."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic on a GPU: bfloat16 or float32; a CPU computes in float32."""
    checkpoint_every: Count = 3000
    """Steps between checkpoints."""
    diagnose_every: Count = 300
    """Steps between measurements of the features' rank and spread."""
    diagnose_clips: Count = 32
    """Clips, always the same ones, for those measurements."""

    def __post_init__(self) -> None:
        check_shards("batch", self.batch, self.gradient_shards)


@dataclass(frozen=True)
class Networks:
    """The architecture that a checkpoint records."""

    encoder: EncoderConfig
    predictor: PredictorConfig
    initialisation: Initialisation = "published"

    def record(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Networks:
        """The inverse of `record`."""
        return cls(
            EncoderConfig(**record["encoder"]),
            PredictorConfig(**record["predictor"]),
            record["initialisation"],
        )

    def at(self, clip: ClipConfig) -> Networks:
        """The same networks on clips of another size or length."""
        return replace(self, encoder=replace(self.encoder, frames=clip.frames, size=clip.crop))


class ShardOfClips(NamedTuple):
    """The inputs of one gradient shard."""

    video: Tensor
    replaced: int
    sources: tuple[str, ...] = ()
    """Of each clip."""


class JepaTask:
    """Encoder, its moving average and the predictor, on clips of a mixture."""

    trained = ("encoder", "predictor")

    def __init__(
        self,
        architecture: Networks,
        config: JepaConfig,
        clips: ClipLoader,
        rate: Callable[[int], float],
        steps: int,
        device: torch.device,
        *,
        first_step: int = 0,
        start_from: Path | None = None,
    ) -> None:
        """A task on a device.

        `rate` gives the learning rate of each of the `steps` of this phase. A training that
        branches off another one gives its checkpoint (`start_from`) and the steps behind it
        (`first_step`): clips and masks go on from there instead of starting again.
        """
        self.config, self.clips, self.device = config, clips, device
        self.rate, self.steps = rate, steps
        self.described = architecture
        self.first_step, self.start_from = first_step, start_from
        self.grid = architecture.encoder.grid
        self.encoder, self.target_encoder, self.predictor = (
            network.to(device) for network in build_networks(architecture, config.seed)
        )
        self.networks: dict[str, nn.Module] = {
            "encoder": self.encoder,
            "target_encoder": self.target_encoder,
            "predictor": self.predictor,
        }
        self._held: Tensor | None = None
        self.drawn: Counter[str] = Counter()

    def schedule(self, step: int) -> dict[str, float]:
        """Learning rate, weight decay and momentum of a step."""
        start, end = self.config.ema, self.config.ema_end
        return {
            "lr": self.rate(step),
            "weight_decay": self.config.weight_decay,
            "ema": start
            if end is None
            else ema_momentum(step, start=start, end=end, steps=self.steps - 1),
        }

    def batch(self, step: int, shard: int) -> ShardOfClips:
        """Clips of one shard [B / shards, 3, T, H, W], and how many of them stand in for others."""
        each = self.config.batch // self.config.gradient_shards
        slots = range(shard * each, (shard + 1) * each)
        step += self.first_step
        video = self.clips.batch(step, slots)
        lost = [r for r in self.clips.replacements if r.step == step and r.slot in slots]
        sources = tuple(self.clips.sampler.source(step, slot) for slot in slots)
        return ShardOfClips(video, len({r.slot for r in lost}), sources)

    def loss(self, batch: ShardOfClips, step: int, shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        """V-JEPA 2's loss on a shard, with masks drawn per clip of the global batch."""
        clips, step = len(batch.video), self.first_step + step
        self.drawn.update(batch.sources)
        drawn = draw_masks(self.described, self.config, step, clips, first=shard * clips)
        weights = [mask.weight for mask in drawn]
        out = pretraining_loss(
            self.encoder,
            self.target_encoder,
            self.predictor,
            batch.video.to(self.device, non_blocking=True),
            [(mask.context.to(self.device), mask.target.to(self.device)) for mask in drawn],
            self.grid,
            weights=None if len(set(weights)) == 1 else weights,
            context_weight=self.config.context_weight,
            centre=self.config.centre,
            isotropy_weight=self.config.isotropy_weight,
            directions=self._directions(step),
        )
        # The loop takes the mean over shards: times their number, it is the count of the step.
        replaced = torch.tensor(float(batch.replaced * self.config.gradient_shards))
        scalars = {"masked_loss": out.masked, "replaced_clips": replaced.to(self.device)}
        if out.context is not None:
            scalars["context_loss"] = out.context
        if out.isotropy is not None:
            scalars["isotropy_loss"] = out.isotropy
        return out.total, scalars

    def _directions(self, step: int) -> Tensor | None:
        """Where SIGReg looks in a step, the same for every shard; None where it weighs nothing."""
        if not self.config.isotropy_weight:
            return None
        seed = int(digest_json(["isotropy", self.config.seed, step])[:15], 16)
        width, count = self.described.encoder.width, self.config.isotropy_directions
        return random_directions(width, count, seed, self.device)

    def after_step(self, step: int) -> None:
        """Move the target encoder towards the encoder."""
        update_average(self.target_encoder, self.encoder, self.schedule(step)["ema"])

    @torch.no_grad()
    def diagnose(self) -> dict[str, float]:
        """Effective rank and spread of the target features of clips that never change."""
        if self._held is None:
            # Slots beyond the batch: drawn like the others, and never trained on at this step.
            first = self.config.batch
            self._held = self.clips.batch(0, range(first, first + self.config.diagnose_clips))
        clips = self._held.to(self.device)
        features = [normalise(self.target_encoder(clip[None])) for clip in clips]
        together = torch.cat(features).float()
        return {
            "effective_rank": effective_rank(together),
            "feature_std": feature_std(together),
        }

    def architecture(self) -> dict[str, Any]:
        """Configs of encoder and predictor, and the step this training branched off."""
        return self.described.record() | {"first_step": self.first_step}


def draw_masks(
    architecture: Networks, config: JepaConfig, step: int, clips: int, *, first: int = 0
) -> list[Mask]:
    """Masks of a step for `clips` of it, from the global batch's clip number `first` on.

    Raises:
        InputError: the blocks of one leave nothing to see, or nothing to guess, on such clips.
    """
    with curable("masks"):
        return mixture_masks(
            architecture.encoder.grid, clips, config.masks, config.seed, step,
            numerics=architecture.encoder.numerics, first=first,
        )  # fmt: skip


def build_networks(architecture: Networks, seed: int) -> tuple[Encoder, Encoder, Predictor]:
    """Encoder, target encoder (its copy) and predictor, with weights that depend on the seed."""
    encoder, predictor = seeded_networks(
        architecture.encoder, architecture.predictor, seed, architecture.initialisation
    )
    target = copy.deepcopy(encoder).requires_grad_(False)
    assert predictor is not None
    return encoder, target, predictor


def loop_settings(noun: str, config: JepaConfig, steps: int) -> LoopSettings:
    """How the loop trains a phase."""
    return LoopSettings.of(noun, config, steps, max_gradient_norm=config.max_gradient_norm)
