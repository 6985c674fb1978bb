"""Which pictures of a file need not be decoded: those that nobody will look at or refer to.

H.264 marks pictures that no other refers to; leaving one out changes no other. Which of them are on
screen when somebody looks is known from the packets' time stamps, some packets ahead of the
decoder. Where stamps are missing or doubled, nothing is left out.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import av

CODECS = ("h264",)  # elsewhere "not referred to" may mean: not by the same layer
PACKETS = 64  # that are looked at together


class Lookahead:
    """The packets of one stream in decoding order, each with whether its picture may be left out.

    Args:
        packets: as demuxed.
        wanted: ascending times at which somebody looks, seconds after the first frame.
        clock: seconds after the first frame of a time stamp, given the first stamps in sight.
        rounding: a frame counts as on screen so many seconds before its time.
    """

    def __init__(
        self, packets: Iterator[av.Packet], wanted: Sequence[float],
        clock: Callable[[int, list[int]], float], rounding: float,
    ) -> None:  # fmt: skip
        self._packets, self._wanted, self._clock = packets, wanted, clock
        self._rounding = rounding
        self._ahead: deque[av.Packet] = deque()
        self._times: list[float] = []
        self._needed: set[int] = set()
        self.sound = True
        """Whether every packet so far had a stamp of its own."""

    def __next__(self) -> tuple[av.Packet, bool]:
        if not self._ahead:
            self._look()
        packet = self._ahead.popleft()
        return packet, self.sound and packet.pts is not None and packet.pts not in self._needed

    def on_screen(self, time: float) -> float | None:
        """The time of the frame that packets say is on screen then; None when they cannot."""
        if not self.sound or not self._times:
            return None
        return self._times[max(0, bisect.bisect_right(self._times, time + self._rounding) - 1)]

    def _look(self) -> None:
        """Take the next packets. Raises StopIteration after the last, and what demuxing raises."""
        try:
            while len(self._ahead) < PACKETS:
                self._ahead.append(next(self._packets))
        except StopIteration:
            if not self._ahead:
                raise
        except Exception:
            self.sound = False
            raise
        shown = [p for p in self._ahead if p.pts is not None and p.size and not p.is_discard]
        stamps = sorted(packet.pts for packet in shown if packet.pts is not None)
        last = self._ahead[-1]
        final = len(self._ahead) < PACKETS
        if not stamps or (not final and last.dts is None):
            self.sound = self.sound and final
            return
        times = [self._clock(stamp, stamps) for stamp in stamps]
        horizon = float("inf") if final else self._clock(int(last.dts or 0), stamps)
        self._times = sorted(self._times[-PACKETS:] + times)
        gaps = zip(self._times, self._times[1:], strict=False)
        self.sound = self.sound and all(after - before > self._rounding for before, after in gaps)
        self._needed = self._choose(dict(zip(times, stamps, strict=True)), horizon)

    def _choose(self, stamps: dict[float, int], horizon: float) -> set[int]:
        """Stamps in sight that may be on screen when somebody looks.

        Packets still to come have stamps beyond `horizon`: up to it is known what is on screen, and
        the last frame before it may stay there.
        """
        known = self._times[: bisect.bisect_right(self._times, horizon)]
        certain = {
            known[max(0, bisect.bisect_right(known, time + self._rounding) - 1)]
            for time in self._wanted[: bisect.bisect_right(self._wanted, horizon)]
            if known
        }
        return {
            stamp
            for time, stamp in stamps.items()
            if time in certain or time > horizon or (known and time == known[-1])
        }
