"""With `official` numerics the models are the official ones (float32, shared weights).

- The encoder equals the official encoder: whole clips, kept tokens in any order, non-square clips,
  other lengths and sizes than it was built for, chosen layers.
- The predictor equals the official predictor for every mask token, partial and unsorted masks.
- The world model equals the official action-conditioned predictor, and its rollout, which re-uses
  keys and values, equals the official one, which runs everything again.
- The probe equals the official probe.
- A training step has the official loss and the official gradients, with and without checkpointing.
(Masks and schedules: test_parity_schedules.py.)
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.attentive_probe import AnticipationProbe, AttentiveProbe
from models.encoder import Encoder, EncoderConfig
from models.masks import (
    SHORT_RANGE,
    MultiblockConfig,
    multiblock_masks,
)
from models.objectives import pretraining_loss, world_model_loss
from models.predictor import Predictor, PredictorConfig
from models.transformer import Checkpointing
from models.world_model import WorldModel, WorldModelConfig
from tests.models import peers

TOLERANCE = 2e-5
PATCH, FRAMES, SIZE = 8, 8, 32
GRID = (4, 4, 4)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 0.05  # equal zeros would prove nothing
    assert (ours - theirs).abs().max() <= tolerance * max(1.0, theirs.abs().max().item() / 5.0)


def encoders(width: int = 96, heads: int = 2, seed: int = 0) -> tuple[Encoder, torch.nn.Module]:
    theirs = peers.encoder(width, 2, heads, 4 * width, patch=PATCH, frames=FRAMES, size=SIZE)
    peers.scatter(theirs, seed)
    config = EncoderConfig(
        width=width,
        depth=2,
        heads=heads,
        mlp_hidden=4 * width,
        patch=PATCH,
        frames=FRAMES,
        size=SIZE,
        numerics="official",
    )
    ours = Encoder(config)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def predictors(width: int = 64, seed: int = 1) -> tuple[Predictor, torch.nn.Module]:
    theirs = peers.predictor(96, width, 2, 2, patch=PATCH, frames=FRAMES, size=SIZE, mask_tokens=4)
    peers.scatter(theirs, seed)
    config = PredictorConfig(
        encoder_width=96,
        width=width,
        depth=2,
        heads=2,
        mlp_hidden=4 * width,
        mask_tokens=4,
        numerics="official",
    )
    ours = Predictor(config)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def clip(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_tokens(batch: int, keep: int, tokens: int, seed: int) -> torch.Tensor:
    """Different tokens for each clip, in no order."""
    source = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(tokens, generator=source)[:keep] for _ in range(batch)])


@pytest.mark.parametrize(("width", "heads"), [(96, 2), (128, 2), (80, 1), (64, 2), (50, 2)])
@torch.no_grad()
def test_encoder_whole_clip(width: int, heads: int) -> None:
    ours, theirs = encoders(width, heads)
    video = clip(2, 3, FRAMES, SIZE, SIZE)
    close(ours(video), theirs(video))


@torch.no_grad()
def test_encoder_kept_tokens() -> None:
    ours, theirs = encoders()
    video, index = clip(2, 3, FRAMES, SIZE, SIZE), some_tokens(2, 23, 64, 7)
    close(ours(video, index), theirs(video, masks=[index]))


@pytest.mark.parametrize("shape", [(FRAMES, 24, 40), (2, 32, 32), (16, 48, 48), (6, 8, 88)])
@torch.no_grad()
def test_encoder_other_sizes(shape: tuple[int, int, int]) -> None:
    ours, theirs = encoders()
    video = clip(1, 3, *shape)
    close(ours(video), theirs(video))


@torch.no_grad()
def test_encoder_layers() -> None:
    ours, theirs = encoders()
    theirs.out_layers = [0, 1]
    video = clip(1, 3, FRAMES, SIZE, SIZE)
    for mine, other in zip(ours.features(video, [0, 1]), theirs(video), strict=True):
        close(mine, other)


@pytest.mark.parametrize("mask_index", [0, 1, 3, 5])
@torch.no_grad()
def test_predictor(mask_index: int) -> None:
    ours, theirs = predictors()
    context, target = some_tokens(2, 20, 64, 1), some_tokens(2, 31, 64, 2)
    tokens = clip(2, 20, 96)
    close(
        ours(tokens, context, target, GRID, mask_index),
        theirs(tokens, context, target, mask_index=mask_index),
    )


@torch.no_grad()
def test_predictor_everything() -> None:
    ours, theirs = predictors()
    index = torch.arange(64).repeat(2, 1)
    tokens = clip(2, 64, 96)
    close(ours(tokens, index, index, GRID, 1), theirs(tokens, index, index))


def world_models() -> tuple[WorldModel, torch.nn.Module]:
    theirs = peers.world_model(96, 64, 3, 2, patch=PATCH, frames=10, size=SIZE)
    peers.scatter(theirs, 3)
    config = WorldModelConfig(
        encoder_width=96,
        width=64,
        depth=3,
        heads=2,
        mlp_hidden=256,
        grid=(4, 4),
        numerics="official",
    )
    ours = WorldModel(config)
    missing = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert set(missing.missing_keys) == {"action_mean", "action_std", "state_mean", "state_std"}
    assert not missing.unexpected_keys
    return ours, theirs


@pytest.mark.parametrize("steps", [1, 4])
@torch.no_grad()
def test_world_model(steps: int) -> None:
    ours, theirs = world_models()
    tokens, actions, states = clip(2, steps * 16, 96), clip(2, steps, 7), clip(2, steps, 7, seed=6)
    close(ours(tokens, actions, states), theirs(tokens, actions, states))


@torch.no_grad()
def test_world_model_of_oblong_pictures() -> None:
    """Columns are stretched there by height over width."""
    official = peers.official("models.ac_predictor").vit_ac_predictor(
        img_size=(24, 48), patch_size=8, num_frames=6, tubelet_size=2, embed_dim=96,
        predictor_embed_dim=64, depth=2, num_heads=2, use_rope=True, use_sdpa=True,
    )  # fmt: skip
    theirs = peers.scatter(official, 3).eval()
    config = WorldModelConfig(
        encoder_width=96, width=64, depth=2, heads=2, mlp_hidden=256, grid=(3, 6),
        numerics="official",
    )  # fmt: skip
    ours = WorldModel(config)
    ours.load_state_dict(theirs.state_dict(), strict=False)
    tokens, actions, states = clip(1, 36, 96), clip(1, 2, 7), clip(1, 2, 7, seed=6)
    close(ours(tokens, actions, states), theirs(tokens, actions, states))


@pytest.mark.parametrize("rolled", [1, 2, 3])
def test_world_model_step(rolled: int) -> None:
    ours, theirs = world_models()
    features = F.layer_norm(clip(2, 4 * 16, 96), (96,))
    actions, states = clip(2, 3, 7), clip(2, 4, 7, seed=6)
    expected = peers.world_model_loss(theirs, features, actions, states, 16, rolled)
    expected.backward()
    loss = world_model_loss(ours, features, actions, states, (4, 4), rollout_steps=rolled)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    same_gradients(ours, theirs, skip="extrinsics_encoder")


@torch.no_grad()
def test_probe() -> None:
    theirs = peers.scatter(peers.probe(96, 4, 3, 7), 4)
    ours = AttentiveProbe(96, heads=4, depth=3, classes=7)
    ours.load_state_dict(theirs.state_dict())
    tokens = clip(2, 30, 96)
    close(ours(tokens), theirs(tokens))


@torch.no_grad()
def test_three_queries() -> None:
    pooling = peers.official("models.attentive_pooler").AttentivePooler
    theirs = peers.scatter(pooling(num_queries=3, embed_dim=96, num_heads=4, depth=4), 4)
    heads = {"verb": 4, "noun": 5, "action": 6}
    ours = AnticipationProbe(96, heads, heads=4)
    ours.pooler.load_state_dict(theirs.state_dict())
    tokens = clip(2, 30, 96)
    pooled = theirs(tokens)
    for place, (name, logits) in enumerate(ours(tokens).items()):
        head = ours.get_submodule(f"{name}_classifier")
        close(logits, pooled[:, place] @ head.weight.T, TOLERANCE)


def same_gradients(ours: torch.nn.Module, theirs: torch.nn.Module, skip: str = "none") -> None:
    expected = {name: p.grad for name, p in theirs.named_parameters() if skip not in name}
    for name, parameter in ours.named_parameters():
        if skip in name:
            continue
        if expected[name] is None:
            assert parameter.grad is None, name
            continue
        scale = expected[name].abs().max()
        assert scale > 0, name
        assert (parameter.grad - expected[name]).abs().max() <= 1e-5 * scale + 1e-9, name


@pytest.mark.parametrize("checkpointing", ["off", "selective", "full"])
def test_pretraining_step(checkpointing: Checkpointing) -> None:
    (encoder, their_encoder), (target, their_target) = encoders(seed=0), encoders(seed=9)
    predictor, their_predictor = predictors()
    encoder.activation_checkpointing = predictor.activation_checkpointing = checkpointing
    video = clip(3, 3, FRAMES, SIZE, SIZE)
    masks = [
        multiblock_masks(GRID, 3, mask, 0, 2, numerics="official")
        for mask in (SHORT_RANGE, MultiblockConfig(blocks=2, spatial_scale=(0.4, 0.4)))
    ]
    with torch.no_grad():
        h = F.layer_norm(their_target(video), (96,))
    expected = torch.zeros(())
    for context, hidden in masks:
        z = their_predictor(their_encoder(video, masks=[context]), context, hidden, mask_index=0)
        taken = h.gather(1, hidden[..., None].expand(-1, -1, 96))
        expected = expected + (z - taken).abs().mean() / len(masks)
    expected.backward()
    loss = pretraining_loss(encoder, target, predictor, video, masks, GRID)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    same_gradients(encoder, their_encoder)
    same_gradients(predictor, their_predictor)
    close(loss.features, h)
