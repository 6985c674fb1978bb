"""Claims: a probe learns what is planted in its tokens and nothing from shuffled labels; order,
views and schedule are functions of (seed, epoch, step)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.evaluation.features import Features
from pipelines.evaluation.probing import (
    HeadConfig,
    ProbeTask,
    epoch_order,
    grid_positions,
    schedule,
    seeded_probe,
    share_right,
    train_probe,
)
from storage.work import KeptFile, LocalWork

TRUTH = [i % 4 for i in range(40)]
HEAD = HeadConfig(depth=1, heads=2, epochs=20, batch=8, initial="fan_in", standardise=True)


def planted(folder, clips: int, views: int, seed: int) -> tuple:
    """Views [clips * views, 8, 24] whose class (of 4) is a faint pattern in one random token."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).normal(size=(4, 24))
    truth = np.arange(clips) % 4
    tokens = random.normal(size=(clips * views, 8, 24)) + 5.0
    for row, label in enumerate(np.repeat(truth, views)):
        tokens[row, random.integers(8)] += 4 * patterns[label]
    paths = []
    for part, some in enumerate(np.array_split(tokens.astype(np.float16), 3)):
        paths.append(folder / f"{seed}-{part}.npy")
        np.save(paths[-1], some)
    return tuple(paths), tuple(int(t) for t in truth)


@pytest.fixture
def task(tmp_path) -> ProbeTask:
    fit, labels = planted(tmp_path, 48, 2, seed=1)
    asked, _ = planted(tmp_path, 40, 3, seed=2)
    fit, asked = (
        tuple(KeptFile(f"scratch/{path.name}", path.stat().st_size) for path in paths)
        for paths in (fit, asked)
    )
    return ProbeTask(
        work=LocalWork(tmp_path / "payload", tmp_path), config=HEAD,
        lr=3e-3, weight_decay=0.01, classes=4, grid=(2, 2, 2), fit=fit,
        fit_clips=tuple(range(48)), fit_labels=labels, fit_views=2, asked=asked,
        asked_clips=tuple(range(40)), asked_labels=tuple(TRUTH), asked_views=3, device="cpu",
    )  # fmt: skip


def test_features_are_read_across_files(tmp_path):
    paths, _ = planted(tmp_path, 5, 2, seed=1)
    whole = np.concatenate([np.load(path) for path in paths])
    features = Features(paths)
    assert len(features) == 10
    assert np.array_equal(features[[9, 0, 4]].numpy(), whole[[9, 0, 4]].astype(np.float32))


@pytest.mark.parametrize("initial", ["published", "fan_in"])
def test_learns_what_is_planted_and_nothing_from_shuffled_labels(task, initial):
    task = replace(task, config=replace(HEAD, initial=initial))
    found = train_probe(task)
    assert share_right(found["predicted"], TRUTH) > 0.6
    assert share_right(found["fitted"], task.fit_labels) > 0.9
    assert found["losses"][-1] < 0.5 * found["losses"][0] and len(found["losses"]) == 20
    labels = np.random.default_rng(0).permutation(task.fit_labels)
    lost = train_probe(replace(task, fit_labels=tuple(int(n) for n in labels)))
    assert share_right(lost["predicted"], TRUTH) < 0.5


def test_same_task_same_answer_and_the_global_seed_does_not_matter(task):
    short = replace(task, config=replace(HEAD, epochs=2))
    one = train_probe(short)
    torch.manual_seed(5)
    assert train_probe(short) == one
    assert train_probe(replace(short, config=replace(short.config, seed=1))) != one


def test_each_epoch_shows_every_clip_once_in_one_of_its_views(task):
    rows, order = epoch_order(task, 3)
    assert sorted(order.tolist()) == list(range(48))
    assert all(row // 2 == clip for clip, row in enumerate(rows))
    assert len({row % 2 for row in rows}) == 2
    assert epoch_order(task, 3)[0] == rows and epoch_order(task, 4)[0] != rows


def test_schedule_rises_then_falls_to_zero():
    config = HeadConfig(warmup=0.25)
    rates = [schedule(step, 8, config) for step in range(8)]
    assert rates[:3] == [0.5, 1.0, 1.0] and rates == sorted(rates[:2]) + sorted(rates[2:])[::-1]
    assert schedule(8, 8, config) == pytest.approx(0.0)
    assert schedule(0, 8, HeadConfig()) == 1.0  # the paper: no warm-up


def test_positions_tell_every_token_apart():
    places = grid_positions((2, 3, 4), 25)
    assert places.shape == (24, 25) and not places[:, 24:].any()
    distance = torch.cdist(places, places) + torch.eye(24)
    assert distance.min() > 0.05


def test_the_published_probe_is_the_default(task):
    defaults = HeadConfig()
    assert (defaults.depth, defaults.heads, defaults.epochs, defaults.batch) == (4, 16, 20, 256)
    probe = seeded_probe(replace(HEAD, initial="published"), 64, task.classes, "cpu")
    assert float(probe.linear.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    with pytest.raises(ValueError, match="'published' or 'fan_in'"):
        HeadConfig(initial="zero")
