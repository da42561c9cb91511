"""The tables and figure 7 of the papers, measured again and set beside the published figures.

What `exactile reproduce` does: `reproduce(out_dir, choose_form(quick=True), device, watcher)`.
"""

from exactile.reproduce.experiments import Form, choose_form
from exactile.reproduce.reproduction import Reproduction, reproduce

__all__ = ["Form", "Reproduction", "choose_form", "reproduce"]
