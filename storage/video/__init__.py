"""Moving pictures in and out: the one folder that imports PyAV.

A frame's time is its presentation time in seconds after the first frame. Files are untrusted: they
are read without their names (so no playlist or reference can reach another file), with a list of
allowed containers and a limit on picture size. libav stays silent; what it would have printed as an
error becomes `Probe.fault`. Every codec runs on one thread: parallelism is across files, and no
byte depends on it.
"""

from storage.video.decoding import ROUNDING, Decoder, VideoFrame, decode_image
from storage.video.encoding import ENCODER, encode, encode_image
from storage.video.probing import Viewer, probe
from storage.video.stored import stored_frames

__all__ = [
    "ENCODER", "ROUNDING", "Decoder", "VideoFrame", "Viewer", "decode_image", "encode",
    "encode_image", "probe", "stored_frames",
]  # fmt: skip
