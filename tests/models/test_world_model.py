"""The world model.

- It has 305,220,992 parameters at the published size (on the meta device).
- It is causal: frames, actions or poses of step t + 1 move no output of steps up to t, to the bit.
- It is not blind: each of them moves outputs from its own step on.
- Re-using keys and values is exact: a step after a past equals that step of the whole pass, also
  with one past shared by many, and with gradients.
- Merging tokens and splitting them again changes nothing; a merged square is one square.
- Residual prediction adds to the current frame; normalisation is a change of units.
- Shapes that do not fit are refused by name.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.tokens import merge_tokens, split_tokens
from models.transformer import Checkpointing
from models.world_model import KeyValues, WorldModel, WorldModelConfig

TINY = WorldModelConfig(
    encoder_width=24, width=48, depth=2, heads=2, mlp_hidden=96, grid=(4, 4), numerics="corrected"
)
STEPS = 4


def tiny(**changes: object) -> WorldModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WorldModel(replace(TINY, **changes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4.0)
        return model


def batch(count: int = 2) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(3)
    return {
        "tokens": torch.randn(count, STEPS * 16, 24, generator=source),
        "actions": torch.randn(count, STEPS, 7, generator=source),
        "states": torch.randn(count, STEPS, 7, generator=source),
    }


def rows(name: str, step: int) -> slice:
    return slice(step * 16, (step + 1) * 16) if name == "tokens" else slice(step, step + 1)


OPTIONS = [{}, {"residual": True}, {"token_merge": 2}, {"token_merge": 2, "numerics": "official"}]


def test_parameter_count() -> None:
    with torch.device("meta"):
        model = WorldModel(WorldModelConfig())
    assert sum(p.numel() for p in model.parameters()) == 305_220_992


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["tokens", "actions", "states"])
@torch.no_grad()
def test_causal(name: str, options: dict[str, object]) -> None:
    model, inputs = tiny(**options), batch()
    before = model(**inputs).unflatten(1, (STEPS, 16))
    for step in range(1, STEPS):
        changed = {key: value.clone() for key, value in inputs.items()}
        changed[name][:, rows(name, step)] += 1.0
        after = model(**changed).unflatten(1, (STEPS, 16))
        assert torch.equal(after[:, :step], before[:, :step])
        moved = (after[:, step:] - before[:, step:]).abs().amax(dim=(0, 2, 3))
        assert (moved > 1e-4).all(), (step, moved)


@pytest.mark.parametrize("options", OPTIONS)
@torch.no_grad()
def test_past_is_exact(options: dict[str, object]) -> None:
    model, inputs = tiny(**options), batch()
    whole, all_past = model(**inputs, return_past=True)
    assert torch.equal(whole, model(**inputs))
    for step in range(1, STEPS):
        piece = {name: value[:, rows(name, step)] for name, value in inputs.items()}
        after, past = model(**piece, past=all_past.first(step), return_past=True)
        assert torch.allclose(after, whole[:, rows("tokens", step)], atol=1e-5)
        assert past.steps == step + 1
        for (keys, values), (other_keys, other_values) in zip(
            past.layers, all_past.first(step + 1).layers, strict=True
        ):
            assert torch.allclose(keys, other_keys, atol=1e-5)
            assert torch.allclose(values, other_values, atol=1e-5)


@torch.no_grad()
def test_one_past_for_many() -> None:
    model, one = tiny(), batch(1)
    _, past = model(
        **{name: value[:, rows(name, 0)] for name, value in one.items()}, return_past=True
    )
    many = {name: value[:, rows(name, 1)].repeat(3, 1, 1) for name, value in one.items()}
    many["actions"] = many["actions"] + torch.arange(3.0)[:, None, None]
    together = model(**many, past=past)
    for place in range(3):
        alone = model(**{name: value[place : place + 1] for name, value in many.items()}, past=past)
        assert torch.allclose(together[place : place + 1], alone, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("options", OPTIONS)
@torch.no_grad()
def test_one_frame_for_many(options: dict[str, object]) -> None:
    model, inputs = tiny(**options), batch(3)
    inputs["tokens"] = inputs["tokens"][:1]
    shared = model(**inputs)
    repeated = model(**{**inputs, "tokens": inputs["tokens"].repeat(3, 1, 1)})
    assert torch.allclose(shared, repeated, atol=1e-5)


@pytest.mark.parametrize("how", ["selective", "full"])
def test_checkpointing_changes_no_gradient(how: Checkpointing) -> None:
    plain, spared = tiny(), tiny()
    spared.activation_checkpointing = how
    for model in (plain, spared):
        predicted, past = model(**batch(), return_past=True)
        (predicted.square().mean() + past.layers[1][0].square().mean()).backward()
    for (name, one), other in zip(plain.named_parameters(), spared.parameters(), strict=True):
        if "extrinsics" in name:
            assert one.grad is None
            assert not one.requires_grad
        else:
            assert torch.equal(one.grad, other.grad)


def test_merge_and_split() -> None:
    tokens = torch.arange(2 * 24 * 3.0).reshape(2, 24, 3)
    merged = merge_tokens(tokens, (4, 6), 2)
    assert merged.shape == (2, 6, 12)
    # The square at row 1, column 2 of squares: tokens (2,4), (2,5), (3,4), (3,5).
    expected = torch.cat([tokens[0, place] for place in (16, 17, 22, 23)])
    assert torch.equal(merged[0, 5], expected)
    assert torch.equal(split_tokens(merged, (4, 6), 2), tokens)
    assert merge_tokens(tokens, (4, 6), 1) is tokens


@torch.no_grad()
def test_residual_starts_at_the_current_frame() -> None:
    model, inputs = tiny(residual=True), batch()
    model.predictor_proj.weight.zero_()
    model.predictor_proj.bias.zero_()
    assert torch.equal(model(**inputs), inputs["tokens"])


@torch.no_grad()
def test_normalisation_is_a_change_of_units() -> None:
    plain, scaled = tiny(), tiny()
    inputs = batch()
    actions, states = inputs["actions"] * 0.01 + 0.3, inputs["states"] * 5.0 - 2.0
    actions[..., 3] = 0.25  # never changes: deviation 1, mean taken away
    scaled.normalise_with(actions, states)
    assert scaled.action_std[3] == 1.0
    own = {
        "tokens": inputs["tokens"],
        "actions": (actions - actions.mean((0, 1))) / scaled.action_std,
        "states": (states - states.mean((0, 1))) / states.std((0, 1), correction=0),
    }
    assert torch.allclose(
        scaled(inputs["tokens"], actions, states), plain(**own), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(scaled.state_dict()["action_mean"], scaled.action_mean)


@torch.no_grad()
def test_other_grids() -> None:
    model = tiny(token_merge=2)
    tokens, pose = torch.randn(1, 2 * 48, 24), torch.zeros(1, 2, 7)
    assert model(tokens, pose, pose, (6, 8)).shape == (1, 96, 24)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": torch.zeros(2, 63, 24)}, r"tokens must be \[B, 64, 24\]; found \[2, 63, 24\]"),
        ({"tokens": torch.zeros(2, 64, 23)}, r"found \[2, 64, 23\]"),
        ({"tokens": torch.zeros(3, 64, 24)}, r"batch 3, actions of batch 2"),
        ({"actions": torch.zeros(2, 4, 6)}, r"actions must be \[B, T, 7\].*\[2, 4, 6\]"),
        ({"states": torch.zeros(2, 5, 7)}, r"actions \[2, 4, 7\], states \[2, 5, 7\]"),
        ({"actions": torch.zeros(2, 0, 7)}, r"T above 0.*actions \[2, 0, 7\]"),
    ],
)
def test_bad_shapes(changes: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny()(**{**batch(), **changes})


def test_grid_that_does_not_merge() -> None:
    with pytest.raises(ValueError, match=r"grid \(3, 4\) does not divide into squares of 2"):
        tiny(token_merge=2)(
            torch.zeros(1, 12, 24), torch.zeros(1, 1, 7), torch.zeros(1, 1, 7), (3, 4)
        )


def test_a_past_of_another_model_or_batch() -> None:
    model, given = tiny(), batch()
    _, past = model(**given, return_past=True)
    one = {name: value[:, -value.shape[1] // 4 :] for name, value in given.items()}
    with pytest.raises(
        ValueError, match=r"of 2 layers, batch 1 or 2 and 18 tokens a step; found 1 layers"
    ):
        model(**one, past=KeyValues(past.layers[:1], past.steps))
    many = {name: value[:1].expand(3, -1, -1) for name, value in one.items()}
    with pytest.raises(ValueError, match=r"batch 1 or 3 .*; found 2 layers, batch 2"):
        model(**many, past=past)
    with pytest.raises(ValueError, match="6 tokens a step; found 2 layers, batch 2 and 72 tokens"):
        model(torch.zeros(2, 4, 24), one["actions"], one["states"], (2, 2), past=past)
    with pytest.raises(ValueError, match="of 4 steps, the first 5 were asked for"):
        past.first(5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": (15, 16), "token_merge": 2}, r"grid \(15, 16\) does not divide into squares"),
        ({"grid": (4, 4, 4)}, r"\(h, w\), each at least 1; found \(4, 4, 4\)"),
        ({"grid": (4,)}, r"found \(4,\)"),
        ({"grid": 4}, r"found 4"),
        ({"extrinsics_width": True}, "extrinsics_width is True"),
        ({"extrinsics_width": 1.5}, "extrinsics_width is 1.5"),
    ],
)
def test_bad_config(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **changes)


def test_normalising_with_other_widths() -> None:
    with pytest.raises(ValueError, match=r"actions must be \[..., 7\]; found \[7, 6\]"):
        tiny().normalise_with(torch.randn(7, 6), torch.randn(7, 7))
