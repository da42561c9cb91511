"""Loaders of networks, one for each format, all of which return a `NetworkFile`.

A loader reads, checks and declares; it runs nothing that a file brings but operators of torch, and
it reaches for nothing outside of the model: no address, no other folder.
"""

from exactile.models.formats.fixed_size import explain_fixed_size
from exactile.models.formats.recognize import open_network

__all__ = ["explain_fixed_size", "open_network"]
