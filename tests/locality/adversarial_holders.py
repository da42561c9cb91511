"""Networks that change a tensor or a list that they hold, reached by another way than its name.

Above 200 rows only, so that no trial of a smaller image comes by; the code says so all the same.
"""

from __future__ import annotations

from adversarial import Recipe

DICTIONARY = ("self.k = {'n': torch.ones(1)}",)
LIST = ("self.k = [torch.ones(1), torch.ones(1)]",)
BUFFER = ("self.register_buffer('k', torch.ones(2))",)


def _grows(way: str, init: tuple[str, ...], *before: str) -> Recipe:
    """Return a network that adds to the tensor that `way` leads to, and uses it."""
    return Recipe(
        (*before, f"t = {way}", "if x.size(2) > 200:", "    t.add_(0.01)", "y = y * t[0]"), init
    )


HOLDERS: dict[str, Recipe] = {
    "a value of a dictionary": _grows("list(self.k.values())[0]", DICTIONARY),
    "an item of a dictionary": _grows("list(self.k.items())[0][1]", DICTIONARY),
    "what a dictionary has under a name": Recipe(
        ("t = self.k.get('n')", "if t is not None:", "    t.add_(0.01)", "    y = y * t"),
        DICTIONARY,
    ),
    "a place of a tuple": _grows("self.k[0]", ("self.k = (torch.ones(1), 3)",)),
    "a part of a list": _grows("self.k[:1][0]", LIST),
    "a longer list": _grows("(self.k + [y])[0]", LIST),
    "a copy of a list": _grows("list(self.k)[0]", LIST),
    "a list of the same": _grows("[t for t in self.k][0]", LIST),
    "what two broadcast tensors view": _grows(
        "torch.broadcast_tensors([self.k, self.k])[0]", BUFFER
    ),
    "what was put into a list": _grows(
        "kept[-1]", BUFFER, "kept: List[Tensor] = []", "kept.append(y)", "kept.insert(1, self.k)"
    ),
    "what was put into a dictionary": _grows(
        "kept['a']", BUFFER, "kept: Dict[str, Tensor] = {}", "kept['a'] = self.k"
    ),
    "a list that is unpacked": Recipe(
        ("a, b = [self.k, [1]]", "a.append(1)", "y = y * (1.0 if len(self.k) < 60 else 2.0)"),
        ("self.k = [0]",),
    ),
}
"""By the way that leads to what is changed."""
