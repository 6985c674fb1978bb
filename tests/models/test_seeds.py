"""Networks from a seed: the seed decides alone, and each initialisation has its deviations."""

from __future__ import annotations

import torch

from models.encoder import Encoder, EncoderConfig
from models.predictor import PredictorConfig
from models.seeds import raw_patches, seeded_encoder, seeded_networks

CONFIG = EncoderConfig(
    width=96, depth=2, heads=3, mlp_hidden=384, patch=8, tubelet=1, frames=4, size=32
)
GUESSES = PredictorConfig(encoder_width=96, width=48, depth=1, heads=3, mlp_hidden=192)


def test_the_seed_decides_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (seeded_encoder(CONFIG, seed, "fan_in") for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    weight = "blocks.1.mlp.fc1.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


def test_published_weights_are_those_of_the_class() -> None:
    torch.manual_seed(3)
    plain = Encoder(CONFIG).state_dict()
    for name, value in seeded_encoder(CONFIG, 3).state_dict().items():
        assert torch.equal(value, plain[name])
    encoder, predictor = seeded_networks(CONFIG, GUESSES, 3)
    assert predictor is not None and not predictor.mask_tokens[0].any()
    assert torch.equal(encoder.norm.weight, plain["norm.weight"])


def test_fan_in_fits_the_width() -> None:
    encoder, predictor = seeded_networks(CONFIG, GUESSES, 0, "fan_in")
    assert predictor is not None
    weights = encoder.state_dict()
    for name, inputs, shrunk in (
        ("patch_embed.proj.weight", 192, 1),
        ("blocks.0.attn.qkv.weight", 96, 1),
        ("blocks.1.mlp.fc1.weight", 96, 1),
        ("blocks.1.mlp.fc2.weight", 384, 4),  # the second block's output, by sqrt(2 * 2)
    ):
        wanted = (inputs * shrunk) ** -0.5
        assert abs(weights[name].std().item() / wanted - 1) < 0.05, name
    assert not weights["blocks.0.mlp.fc1.bias"].any()
    assert 0.3 < torch.cat([token.flatten() for token in predictor.mask_tokens]).std() < 0.7


def test_raw_patches_are_their_pixels() -> None:
    video = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    found = raw_patches(CONFIG)(video)
    assert found.shape == (2, 16, 192)
    patch = video[1, :, 2, 8:, :8].flatten()  # third frame, lower left
    wanted = torch.nn.functional.layer_norm(patch, (192,))
    torch.testing.assert_close(found[1, 2 * 4 + 2], wanted, rtol=1e-4, atol=1e-4)
