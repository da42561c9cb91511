"""A child process that can do no harm: it computes, reads, and answers in text.

What a file from elsewhere asks torch to do is first done here. A crash of the process, or a loop
without end, is a sentence then, and no run that is lost.
"""

from exactile.isolation.child import Bounds, Outcome, Tell, can_confine, run_confined

__all__ = ["Bounds", "Outcome", "Tell", "can_confine", "run_confined"]
