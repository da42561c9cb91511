"""Exact tile-based segmentation of images larger than memory."""

from importlib.metadata import version

__version__ = version("exactile")
