"""What a pass over films costs a probe: reading beside encoding, and many heads beside one.

    python -m tests.benchmarks.bench_probes              one thread, float32, ratios
    python -m tests.benchmarks.bench_probes --heads 20 --depth 12

Features: films of 340 x 256 pixels are read, decoded, cropped and encoded as `benchmark_features`
does; the encoder alone, on the same views, is the measure. Heads: one training step on a batch of
films, encoding included, as both codes do it without kept features: the released one (its encoder
and attentive classifiers, a Python loop) and ours, with one head and with many; and a step on
tokens that are kept, where the encoder has no part. CPU seconds; the least of some rounds is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attentive_probe import AttentiveProbe
from models.encoder import Encoder, EncoderConfig
from pipelines.evaluation.benchmarks.protocol import ProtocolConfig
from pipelines.evaluation.benchmarks.showing import Show, tokens_of
from storage.digests import digest_bytes
from storage.video import encode
from tests.models import peers
from tests.pipelines.builders import artifact

CLASSES, WIDTH, HEADS = 174, 384, 6


def least(run: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the quickest of some runs."""
    taken = []
    for _ in range(rounds):
        before = time.process_time()
        run()
        taken.append(time.process_time() - before)
    return min(taken)


def films(folder: Path, count: int) -> tuple[Show, list[dict[str, Any]]]:
    """Some films of two seconds, as a `benchmark_videos` would have them."""
    noise = np.random.default_rng(0)
    (folder / "media").mkdir(parents=True)
    rows = []
    for number in range(count):
        rough = noise.integers(0, 255, (24, 16, 22, 3), dtype=np.uint8)
        frames = rough.repeat(16, 1).repeat(16, 2)[:, :, :340]
        data = encode(frames, 12.0).data
        (folder / "media" / f"{number}.mp4").write_bytes(data)
        rows.append({"key": str(number), "path": f"{number}.mp4", "split": "validation",
                     "sha256": digest_bytes(data), "kind": "video", "frames": 24})  # fmt: skip
    made = artifact(folder, "benchmark_videos/ssv2", {"media": "payload"})
    show = Show(made, ProtocolConfig(frames=16, step=1, segments=1, views=1), "fixed", 0)
    return show, rows


def extraction(depth: int, count: int, rounds: int) -> float:
    """The encoder's own CPU seconds over those of reading, decoding, cropping and encoding."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=WIDTH, depth=depth, heads=HEADS, mlp_hidden=4 * WIDTH))
    encoder.eval().requires_grad_(False)
    with TemporaryDirectory() as folder:
        show, rows = films(Path(folder), count)
        views = torch.stack([show.views(row) for row in rows])
        alone = least(lambda: tokens_of(encoder, views), rounds)
        whole = least(
            lambda: tokens_of(encoder, torch.stack([show.views(row) for row in rows])), rounds
        )
    return alone / whole


def step_of(
    encode_clips: Callable[[Tensor], Tensor], heads: list[nn.Module], video: Tensor | None,
    tokens: Tensor,
) -> Callable[[], None]:  # fmt: skip
    """One training step of all heads on a batch, which is encoded first where there is a video."""
    labels = torch.arange(len(tokens)) % CLASSES
    optimizers = [torch.optim.AdamW(head.parameters(), lr=1e-4) for head in heads]

    def run() -> None:
        seen = tokens
        if video is not None:
            with torch.no_grad():
                seen = encode_clips(video)
        for head, optimizer in zip(heads, optimizers, strict=True):
            loss = F.cross_entropy(head(seen), labels)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()

    return run


def head_costs(depth: int, heads: int, rounds: int, batch: int = 1) -> dict[str, float]:
    """Contender -> CPU seconds of a step."""
    torch.manual_seed(0)
    sizes = {"patch": 16, "frames": 16, "size": 256}
    theirs = peers.encoder(WIDTH, depth, HEADS, 4 * WIDTH, **sizes).eval()
    ours = Encoder(
        EncoderConfig(width=WIDTH, depth=depth, heads=HEADS, mlp_hidden=4 * WIDTH,
                      numerics="official")
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict(), strict=False)
    video = torch.randn(batch, 3, 16, 256, 256)
    with torch.no_grad():
        tokens = ours(video)
    made = {}
    for count in (1, heads):
        probes: list[nn.Module] = [AttentiveProbe(WIDTH, 16, 4, CLASSES) for _ in range(count)]
        released = [peers.probe(WIDTH, 16, 4, CLASSES) for _ in range(count)]
        made[f"ours, {count} heads"] = least(step_of(ours, probes, video, tokens), rounds)
        made[f"released, {count} heads"] = least(step_of(theirs, released, video, tokens), rounds)
        made[f"kept tokens, {count} heads"] = least(step_of(ours, probes, None, tokens), rounds)
    return made


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--depth", type=int, default=12, help="blocks of the encoder, 384 wide")
    asked.add_argument("--heads", type=int, default=20)
    asked.add_argument("--rounds", type=int, default=2)
    args = asked.parse_args()
    torch.set_num_threads(1)
    share = extraction(args.depth, 2, args.rounds)
    print(f"features: {share:.3f} of the encoder's own rate, reading included (bar 0.9)")
    costs = head_costs(args.depth, args.heads, args.rounds)
    for name, seconds in costs.items():
        print(f"{name:<26} {seconds:8.2f} CPU s a step")
    for kind in ("ours", "released", "kept tokens"):
        ratio = costs[f"{kind}, {args.heads} heads"] / costs[f"{kind}, 1 heads"]
        print(f"{kind}: {args.heads} heads cost {ratio:.2f} times one (bar 1.5)")


if __name__ == "__main__":
    main()
