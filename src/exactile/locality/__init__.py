"""What a network's output depends on: traced from its operators, proven on its weights."""

from exactile.locality.analysis import Analysis, analyze
from exactile.locality.confirmation import confirm
from exactile.locality.refusal import KeepsState, NotLocal, Refusal

__all__ = ["Analysis", "KeepsState", "NotLocal", "Refusal", "analyze", "confirm"]
