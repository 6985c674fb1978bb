"""How fast our models are beside the official sources and `transformers`, at equal shapes.

    python -m tests.benchmarks.bench_models                 CPU, one thread, float32, ratios
    python -m tests.benchmarks.bench_models --device cuda   bfloat16, with model FLOPs utilisation

On the CPU models have their real widths and token counts and two blocks; contenders take turns in
one process, CPU seconds are counted, and the least of several rounds is kept: ratios hold on a busy
machine, seconds do not. Every case first proves that the contenders compute the same. Two blocks
flatter savings made once per model (the patches, a predictor's first and last block);
--full-depth does not. On a GPU models have their full depth and a batch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from tests.benchmarks.contenders import (
    Contender,
    Shape,
    encoder_contenders,
    same_gradients,
    world_model_contenders,
)
from tests.benchmarks.steps import pretraining_contenders

SHAPES = {
    "S": Shape(width=384, heads=6, hidden=1536, depth=2),
    "L": Shape(width=1024, heads=16, hidden=4096, depth=2),
    "g": Shape(width=1408, heads=22, hidden=6144, depth=2),
}
FULL_DEPTH = {"S": 12, "L": 24, "g": 40}
BARS = {
    ("pretraining", "official"): 1.25,
    ("pretraining", "official, checkpointing (as shipped)"): 1.45,
    ("encoder", "official"): 1.1,
    ("encoder", "transformers, skip_predictor"): 1.0,
    ("world model", "official"): 1.2,
}
BF16_PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12}
"""Dense bfloat16 FLOP/s, by a part of the device's name."""


def clock(device: str) -> float:
    """CPU seconds of this process, or wall seconds once the GPU has finished."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def race(contenders: Sequence[Contender], rounds: int, device: str, agree: float) -> None:
    """Let contenders take turns; a first round proves that they agree and is not counted."""
    for contender in contenders:
        contender.value = contender.run()
    first = contenders[0]
    for contender in contenders[1:]:
        off = abs(contender.value - first.value) / abs(first.value)
        if off > agree:
            raise SystemExit(
                f"{contender.name} computes {contender.value!r} and {first.name} {first.value!r}: "
                f"relative difference {off:.1e}, allowed {agree:.0e}"
            )
    if first.trained is not None and (off := same_gradients(contenders)) > 10 * agree:
        raise SystemExit(f"gradients differ by {off:.1e}, allowed {10 * agree:.0e}")
    for _ in range(rounds):
        for contender in contenders:
            begin = clock(device)
            contender.run()
            contender.seconds.append(clock(device) - begin)


def report(case: str, title: str, contenders: Sequence[Contender]) -> dict[str, float]:
    """Print a case; returns how many times our time each peer needs."""
    ours = min(contenders[0].seconds)
    ratios = {contender.name: min(contender.seconds) / ours for contender in contenders[1:]}
    print(f"\n{case}: {title}")
    for contender in contenders:
        bar = BARS.get((case, contender.name))
        print(
            f"  {contender.name:38} {min(contender.seconds):8.3f} s (worst "
            f"{max(contender.seconds):7.3f})  x {ratios.get(contender.name, 1.0):5.2f}"
            f"{f'  bar {bar}' if bar else ''}"
        )
    return ratios


def encoder_flops(shape: Shape, tokens: int) -> float:
    """Multiply-adds, twice, of one clip's forward pass over so many tokens."""
    per_layer = 2 * tokens * (4 * shape.width**2 + 2 * shape.width * shape.hidden)
    attention = 4 * tokens**2 * shape.width
    return shape.depth * (per_layer + attention) + 2 * tokens * 1536 * shape.width


def pretraining_flops(shape: Shape) -> float:
    """Of one clip's step: target forward, context and predictor forward and backward (x 3).

    Token counts are the published shares of seen and hidden tokens. Recomputation is not counted.
    """
    t, h, w = shape.grid
    tokens, total = t * h * w, 0.0
    total += encoder_flops(shape, tokens)
    inner = replace(
        shape,
        width=shape.predictor,
        hidden=4 * shape.predictor,
        depth=shape.predictor_depth,
    )
    for seen, hidden in ((0.249, 0.475), (0.062, 0.703)):
        kept, guessed = int(tokens * seen), int(tokens * hidden)
        total += 3 * encoder_flops(shape, kept)
        ends = 2 * (kept + guessed) * shape.width * shape.predictor
        total += 3 * (encoder_flops(inner, kept + guessed) + ends)
        total -= 3 * 2 * (kept + guessed) * 1536 * shape.predictor  # no patches are embedded there
    return total


def utilisation(shape: Shape, contenders: Sequence[Contender]) -> None:
    """Print the share of the GPU's peak that the pretraining step's own FLOPs are."""
    name = torch.cuda.get_device_name()
    peak = next((value for part, value in BF16_PEAK.items() if part in name), None)
    work = pretraining_flops(shape) * shape.batch
    for contender in contenders:
        rate = work / min(contender.seconds)
        share = f"{rate / peak:.1%} of peak" if peak else f"peak of {name} unknown"
        print(f"  {contender.name:38} {rate / 1e12:8.1f} TFLOP/s, {share}")


def run_case(case: str, shape: Shape, size: str, rounds: int) -> dict[str, float]:
    """Race one case and print it."""
    loose = 1e-2 if shape.device == "cuda" else 1e-6
    builders = {
        "pretraining": pretraining_contenders,
        "encoder": encoder_contenders,
        "world model": world_model_contenders,
    }
    contenders = builders[case](shape)
    race(contenders, rounds, shape.device, loose)
    depth = f"{shape.depth} blocks, batch {shape.batch}"
    ratios = report(case, f"ViT-{size}, {shape.frames}x{shape.size}^2, {depth}", contenders)
    if case == "pretraining" and shape.device == "cuda":
        utilisation(shape, contenders)
    return ratios


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; exit 1 if a ratio is below its bar (CPU)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--case", choices=sorted({case for case, _ in BARS}), action="append")
    parser.add_argument("--size", choices=sorted(SHAPES), action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full-depth", action="store_true", help="all blocks, on a CPU too")
    parser.add_argument("--compile", action="store_true", help="torch.compile our blocks")
    parser.add_argument("--batch", type=int, default=None, help="clips (default: 1, on a GPU 24)")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    missed = []
    for size in chosen.size or ["S"]:
        shape = replace(
            SHAPES[size],
            device=chosen.device,
            batch=chosen.batch or 1,
            compiled=chosen.compile,
        )
        if chosen.device == "cuda" or chosen.full_depth:
            shape = replace(shape, depth=FULL_DEPTH[size], predictor_depth=12)
        if chosen.device == "cuda":
            shape = replace(shape, batch=chosen.batch or 24)
        for case in chosen.case or sorted({case for case, _ in BARS}):
            for name, ratio in run_case(case, shape, size, chosen.rounds).items():
                if ratio < BARS.get((case, name), 0.0):
                    missed.append(f"{case} against {name}: {ratio:.2f}")
    if missed and chosen.device == "cpu":
        print("\nbelow the bar: " + "; ".join(missed))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
