"""A collection of images through a network that runs on all ranks of torchrun at once.

Each rank reads, computes and compresses its own part of every image (`exactile.partition`); the
first one puts the file together.
"""
