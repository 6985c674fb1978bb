"""How pixels are converted, in and out."""

from av.video.reformatter import Interpolation as Scaling

# The exact arithmetic of swscale: the same pixels with every instruction set.
EXACT = Scaling.BICUBIC | Scaling.ACCURATE_RND | Scaling.BITEXACT | Scaling.FULL_CHR_H_INT
