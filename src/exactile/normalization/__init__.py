"""Normalisation: what is done to an image before the network, streamed and exact.

    steps -- fit, passes over the image --> steps with numbers -- normalize --> each window

`fit` reads the whole image block by block, once for each step that needs statistics (up to four
times for percentiles of floating images). `normalize` needs nothing but the pixels it is given.
"""

from exactile.normalization.apply import normalize, normalize_in_place
from exactile.normalization.fitting import fit, fit_array
from exactile.normalization.parse import describe, parse_normalization

__all__ = ["describe", "fit", "fit_array", "normalize", "normalize_in_place", "parse_normalization"]
