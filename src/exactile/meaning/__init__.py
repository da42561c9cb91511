"""What the values of a network's output mean: logits, probabilities, or numbers of classes.

    the last operators -- follow --> Values: what they can be -- read --> Meaning, or None

Nothing is guessed: only what the operators prove counts.
"""

from exactile.meaning.follow import follow
from exactile.meaning.values import Values

__all__ = ["Values", "follow"]
