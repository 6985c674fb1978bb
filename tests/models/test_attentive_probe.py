"""The probes.

- Their parameter counts at the published sizes are the published ones.
- Tokens are a set: their order changes nothing. Every query is read by its own head.
- Wrong widths are refused.
(That the probe equals the official one is proved in test_parity_official.py.)
"""

from __future__ import annotations

import pytest
import torch

from models.attentive_probe import AnticipationProbe, AttentiveProbe


@pytest.mark.parametrize(
    ("width", "count"), [(1024, 49_514_670), (1280, 77_294_254), (1408, 93_494_190)]
)
def test_parameter_count(width: int, count: int) -> None:
    with torch.device("meta"):
        probe = AttentiveProbe(width, classes=174)
    assert sum(p.numel() for p in probe.parameters()) == count
    assert probe.pooler.cross_attention_block.norm1.eps == 1e-5


@torch.no_grad()
def test_tokens_are_a_set() -> None:
    probe = AttentiveProbe(32, heads=4, depth=2, classes=5)
    tokens = torch.randn(2, 9, 32)
    logits = probe(tokens)
    assert logits.shape == (2, 5)
    assert torch.allclose(probe(tokens[:, torch.randperm(9)]), logits, atol=1e-5)
    assert (probe(tokens + 1.0 * tokens.roll(1, 2)) - logits).abs().max() > 1e-4


@torch.no_grad()
def test_several_queries() -> None:
    probe = AttentiveProbe(32, heads=4, depth=1, classes=5, queries=3)
    assert probe(torch.randn(2, 9, 32)).shape == (2, 3, 5)


@torch.no_grad()
def test_anticipation() -> None:
    probe = AnticipationProbe(32, {"verb": 3, "noun": 4, "action": 6}, heads=4, depth=2)
    tokens = torch.randn(2, 9, 32)
    before = probe(tokens)
    assert {name: logits.shape for name, logits in before.items()} == {
        "verb": (2, 3),
        "noun": (2, 4),
        "action": (2, 6),
    }
    assert probe.pooler.query_tokens.shape == (1, 3, 32)
    probe.pooler.query_tokens[:, 1] += 1.0
    after = probe(tokens)
    assert torch.equal(after["verb"], before["verb"])
    assert torch.equal(after["action"], before["action"])
    assert not torch.allclose(after["noun"], before["noun"], atol=1e-4)


def test_a_probe_learns_what_a_mean_cannot() -> None:
    # Which of two patterns occurs in one token of sixteen, its mean hidden by its opposite.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        probe = AttentiveProbe(16, heads=2, depth=1, classes=2)
        patterns = torch.randn(2, 16) * 3
        labels = torch.arange(64) % 2
        tokens = 0.1 * torch.randn(64, 16, 16)
        for place, label in enumerate(labels):
            tokens[place, place % 15] += patterns[label]
        tokens -= tokens.mean(dim=1, keepdim=True)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3)
        for _ in range(60):
            loss = torch.nn.functional.cross_entropy(probe(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert tokens.mean(dim=1).abs().max() < 1e-5
    assert (probe(tokens).argmax(dim=-1) == labels).float().mean() > 0.95


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"tokens must be \[B, N, 32\]; found \[2, 9, 31\]"):
        AttentiveProbe(32, heads=4, depth=1, classes=5)(torch.zeros(2, 9, 31))
    with pytest.raises(ValueError, match="width 30 cannot be divided among 16 heads"):
        AttentiveProbe(30, classes=5)
