"""The commands, one module each: options in, calls out. What is done lives elsewhere.

Modules import what they need when they are called: `--help` must not wait for torch.
"""
