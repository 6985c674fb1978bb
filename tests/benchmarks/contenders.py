"""Who races in bench_models.py: our models and their peers, with the same weights and inputs.

A contender's `run` does its work once and returns a number that all contenders of the case must
agree on (a loss, a mean feature). The pretraining step is in steps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import Encoder, EncoderConfig
from models.objectives import world_model_loss
from models.world_model import WorldModel, WorldModelConfig
from tests.models import peers


@dataclass
class Contender:
    """One way to do a case's work."""

    name: str
    run: Callable[[], float]
    seconds: list[float] = field(default_factory=list)
    value: float = 0.0
    trained: nn.Module | None = None
    """Where gradients of the first run can be compared."""


@dataclass(frozen=True)
class Shape:
    """Real widths and token counts; the depth is cut to two blocks on a CPU."""

    width: int
    heads: int
    hidden: int
    depth: int
    frames: int = 16
    size: int = 256
    batch: int = 1
    predictor: int = 384
    predictor_heads: int = 12
    predictor_depth: int = 2
    device: str = "cpu"
    compiled: bool = False
    """Whether our blocks go through torch.compile."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Token grid."""
        return self.frames // 2, self.size // 16, self.size // 16

    def encoder(self, **changes: object) -> EncoderConfig:
        """The encoder's config."""
        return EncoderConfig(
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_hidden=self.hidden,
            frames=self.frames,
            size=self.size,
            numerics="official",
            **changes,  # type: ignore[arg-type]
        )

    def official(self, **changes: object) -> nn.Module:
        """The official encoder of this shape."""
        return peers.encoder(
            self.width,
            self.depth,
            self.heads,
            self.hidden,
            patch=16,
            frames=self.frames,
            size=self.size,
            **changes,
        ).to(self.device)

    def video(self) -> Tensor:
        """A clip batch."""
        source = torch.Generator().manual_seed(0)
        shape = (self.batch, 3, self.frames, self.size, self.size)
        return torch.randn(shape, generator=source).to(self.device)

    def autocast(self) -> torch.autocast:
        """Bfloat16 on a GPU, nothing on a CPU."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device == "cuda")


def encoder_contenders(shape: Shape) -> list[Contender]:
    """Ours; official; transformers without and with the predictor it runs by default."""
    from transformers import VJEPA2Config, VJEPA2Model

    from models.huggingface import encoder_to_huggingface

    torch.manual_seed(0)
    ours, official = Encoder(shape.encoder()).to(shape.device), shape.official()
    official.load_state_dict(ours.state_dict())
    config = VJEPA2Config(
        crop_size=shape.size,
        frames_per_clip=shape.frames,
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        num_hidden_layers=shape.depth,
        mlp_ratio=shape.hidden / shape.width,
        pred_num_hidden_layers=shape.predictor_depth,
        attn_implementation="sdpa",
    )
    theirs = VJEPA2Model(config).eval().to(shape.device)
    theirs.load_state_dict(encoder_to_huggingface(ours.state_dict()), strict=False)
    video = shape.video()
    frames = video.transpose(1, 2).contiguous()

    def timed(forward: Callable[[], Tensor]) -> Callable[[], float]:
        @torch.inference_mode()
        def run() -> float:
            with shape.autocast():
                return forward().abs().mean().item()

        return run

    def stock(skip: bool) -> Callable[[], float]:
        return timed(lambda: theirs(frames, skip_predictor=skip).last_hidden_state)

    return [
        Contender("ours", timed(lambda: ours(video))),
        Contender("official", timed(lambda: official(video))),
        Contender("transformers, skip_predictor", stock(True)),
        Contender("transformers, by default", stock(False)),
    ]


def world_model_contenders(
    shape: Shape, width: int = 1024, depth: int = 2, frames: int = 4
) -> list[Contender]:
    """Forward and backward of teacher forcing and a two-step rollout, features given."""
    torch.manual_seed(0)
    side = shape.size // 16
    config = WorldModelConfig(
        encoder_width=shape.width,
        width=width,
        depth=depth,
        heads=16,
        mlp_hidden=4 * width,
        grid=(side, side),
        numerics="official",
    )
    ours = WorldModel(config).to(shape.device)
    theirs = peers.world_model(
        shape.width, width, depth, 16, patch=16, frames=2 * frames, size=shape.size
    ).to(shape.device)
    theirs.load_state_dict({k: v for k, v in ours.state_dict().items() if k[-3:] not in _UNITS})
    source = torch.Generator().manual_seed(1)
    span = side * side
    features = torch.randn(shape.batch, frames * span, shape.width, generator=source)
    features = F.layer_norm(features, (shape.width,)).to(shape.device)
    actions = torch.randn(shape.batch, frames - 1, 7, generator=source).to(shape.device)
    states = torch.randn(shape.batch, frames, 7, generator=source).to(shape.device)

    def step() -> float:
        ours.zero_grad(set_to_none=True)
        with shape.autocast():
            loss = world_model_loss(ours, features, actions, states, (side, side)).total
        loss.backward()
        return loss.item()

    def official_step() -> float:
        theirs.zero_grad(set_to_none=True)
        with shape.autocast():
            loss = peers.world_model_loss(theirs, features, actions, states, span, rolled=2)
        loss.backward()
        return loss.item()

    return [
        Contender("ours", step, trained=ours),
        Contender("official", official_step, trained=theirs),
    ]


_UNITS = ("ean", "std")  # action_mean, action_std, …: buffers the official model has not


def same_gradients(contenders: Sequence[Contender]) -> float:
    """Relative distance between the gradients of the first two contenders."""
    ours, theirs = (
        {name: p.grad for name, p in c.trained.named_parameters() if p.grad is not None}
        for c in contenders[:2]
        if c.trained is not None
    )
    assert set(ours) == set(theirs)
    off = sum((ours[name] - theirs[name]).square().sum() for name in ours)
    size = sum(gradient.square().sum() for gradient in theirs.values())
    return float((off / size) ** 0.5)
