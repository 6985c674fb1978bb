"""Claims: shards are summed in one binary tree, whatever the number of workers, to the last bit;
two gloo processes get the sum, and train to the bytes, of one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.training.distributed import TreeSum, Workers, usable_workers
from pipelines.training.loop import train
from pipelines.training.runs import Run
from storage.work import LocalWork
from tests.pipelines.training import toy
from tests.pipelines.training.gloo import disagree, leaves, spawn, sum_and_train
from tests.pipelines.training.material import digests


def total(tensors: list[torch.Tensor]) -> torch.Tensor:
    tree = TreeSum()
    for tensor in tensors:
        tree.push(tensor.clone())
    return tree.total()


def test_tree_order_by_hand() -> None:
    a, b, c, d = (torch.tensor([x]) for x in (1e8, 3.0, -1e8, 3.0))
    # (1e8 + 3) + (-1e8 + 3): in single precision 1e8 + 3 is 1e8, so 0; from the left it is 3.
    assert total([a, b, c, d]).item() == ((a + b) + (c + d)).item() == 0.0
    assert (((a + b) + c) + d).item() == 3.0


def test_tree_needs_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        total(leaves(3))


@pytest.mark.parametrize(
    ("wanted", "shards", "used"), [(1, 8, 1), (2, 8, 2), (3, 8, 2), (16, 8, 8), (2, 1, 1)]
)
def test_usable_workers(wanted: int, shards: int, used: int) -> None:
    assert usable_workers(wanted, shards) == used
    parts = [Workers(rank, used).shards(shards) for rank in range(used)]
    assert [shard for part in parts for shard in part] == list(range(shards))


def test_worker_counts_are_powers_of_two() -> None:
    with pytest.raises(ValueError, match="must be 1, 2, 4"):
        Workers(0, 3)


def test_two_processes_are_one(tmp_path: Path) -> None:
    spawn(sum_and_train, tmp_path / "two")
    expected = total(leaves())
    for rank in (0, 1):
        assert torch.equal(torch.load(tmp_path / "two" / f"sum-{rank}.pt"), expected)
    assert not torch.equal(expected, sum(leaves()))  # another order, another sum
    run = Run(LocalWork(tmp_path / "payload", tmp_path / "one"))
    train(toy.ToyTask, toy.settings(4), run, Workers(), torch.device("cpu"))
    one, two = (
        digests(tmp_path / name / "training" / "checkpoints") for name in ("one", "two/run")
    )
    assert one == two and "step-000004/network.safetensors" in one


def test_two_processes_that_hold_different_numbers_do_not_go_on(tmp_path: Path) -> None:
    spawn(disagree, tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "two").glob("told-*")) == ["told-0", "told-1"]
    assert (tmp_path / "two" / "told-0").read_text() == "worker 0 holds 7, others hold [6]"
    assert Workers().agree(3, torch.device("cpu")) == 3
