"""Networks that would deceive a tracing: by their size, by a state, by what they compute of pixels.

Each is a recipe, and each is wrong in windows at some size that the tests try, or is harmless by a
hair: what counts is that none is admitted and wrong.
"""

from __future__ import annotations

from adversarial import Recipe
from adversarial_holders import HOLDERS

CONDITIONS = (
    *("x.size(2) > 300", "x.size(3) > 200", "x.shape[-1] > 310", "x.size(2) * x.size(3) > 90000"),
    *("x.numel() > 100000", "x.size(2) == x.size(3)", "x.size(2) > x.size(3)"),
    *("x.size(2) % 7 == 0", "x.size(2) % 2 == 1", "x.size(3) // 100 >= 2", "x.stride(2) > 200"),
    *("x.flatten(2).size(2) > 50000", "y.size(2) + y.size(3) > 500", "abs(x.size(2) - 413) < 5"),
    *("float(x.size(2)) / float(x.size(3)) > 1.2", "x.size(2) * 2 > 800", "len(x[0, 0]) > 300"),
    *("str(x.size(2)) == '413'", "x.size(2) in [413, 320]", "bool(x.size(2) & 256)"),
    *("torch.zeros(x.size(2)).numel() > 300", "torch.ones_like(x).size(2) > 300"),
    "max(x.size(2), 200) > 299",
)
"""Looks at the size that are true for some of the images and false for windows, or the reverse."""

EFFECTS = (
    *(
        "y = torch.sigmoid(y)",
        "y = y * 2.0",
        "y = y + 0.5",
        "y = self.b(y)",
        "y = torch.tanh(y) * 3",
    ),
    *("y = torch.roll(y, 1, 2)", "y = F.pad(y, [1, -1, 0, 0])", "y = F.pad(y, [0, 0, -1, 1])"),
    *("y = y.flip(1)", "y = y[:, [1, 0, 2, 3]]", "y = torch.cat([y[:, 1:], y[:, :1]], 1)"),
    *("y = F.conv2d(y, self.b.weight, None, 1, 2, 2)", "y = F.avg_pool2d(y, 3, 1, 1)"),
    *("y = F.interpolate(F.max_pool2d(y, 2, 2, 0, 1, True), size=[x.size(2), x.size(3)])",),
    *(
        "y = y - y.round()",
        "y = (y * 8).to(torch.int32).to(torch.float32)",
        "y = y.clamp(-0.1, 0.1)",
    ),
    *("y = y * self.table[40]", "y = y * self.table[4:8].view(1, 4, 1, 1)", "y = y.abs().sqrt()"),
    *("y = y.repeat(1, 2, 1, 1).view(1, 2, 4, x.size(2), x.size(3)).sum(1)",),
    *("y = F.softmax(y, 1)", "y = F.dropout(y, 0.5, True)", "y = y + torch.rand_like(y)"),
    *("y = F.batch_norm(y, self.n.running_mean, self.n.running_var)", "y = F.elu(y, 0.5)"),
    *("y = y.transpose(1, 2).contiguous().transpose(1, 2) * -1.0",),
)
"""What is done where the look says so."""

BY_NUMBERS = (
    "y = y * float(1 + x.size(2) // 200)",
    "y = y + x.size(3) / 1000",
    "y = y / float(x.numel())",
    "y = y * torch.tensor(float(x.size(2) // 200))",
    "y = y * torch.ones(x.size(2)).sum() / 400",
    "y = y * torch.ones_like(y[:, :1]).sum() / 1e5",
    "y = y * torch.ones(x.size(2)).cumsum(0)[-1] / 400",
    "y = y + torch.arange(x.size(2)).float().view(1, 1, -1, 1) / 400",
    "y = y + torch.linspace(0, 1, x.size(3))",
    "y = y * torch.full([1], x.size(2) // 200 + 1).float()",
    "y = y * x.new_zeros(x.size(2)).size(0) / 400",
    "y = F.pad(y, [0, 0, x.size(3) // 200, -(x.size(3) // 200)])",
    "y = F.pad(y, [x.size(2) // 200, -(x.size(2) // 200), 0, 0])",
    "y = F.pad(y, [0, 0, x.size(2) // 200, -(x.size(2) // 200)])",
    "y = F.pad(y, [x.size(3) // 200, -(x.size(3) // 200), 0, 0])",
    "y = F.pad(y, [1, 1, 1, 1], value=float(x.size(2) // 200))[:, :, 1:-1, 1:-1] * 1.0",
    "y = self.b(F.pad(y, [1, 1, 1, 1], value=float(x.size(2) // 200)))[:, :, 1:-1, 1:-1]",
    "y = F.conv2d(y, self.b.weight, None, 1, 1 + x.size(2) // 300, 1 + x.size(2) // 300)",
    "y = F.conv2d(y, self.b.weight * float(x.size(2) // 300 + 1), None, 1, 1)",
    "y = y * self.table[x.size(2) // 20]",
    "y = y * self.table[x.size(3) // 20:][:1]",
    "y = y * self.table[: x.size(3) // 10].sum()",
    "y = y * self.table.view(2, 32)[x.size(2) // 300, 3]",
    "y = y.expand(1 + x.size(2) // 300, 4, -1, -1).sum(0, keepdim=True)",
    "y = torch.cat([y] * (1 + x.size(2) // 300), 1).view(1, -1, 4, y.size(2), y.size(3)).sum(1)",
    "y = F.interpolate(F.interpolate(y, size=[x.size(2) // 2 * 2, x.size(3)]), size=x.shape[2:])",
    "y = F.interpolate(F.max_pool2d(y, 2), scale_factor=float(x.size(2)) / (x.size(2) // 2))",
    "y = F.interpolate(F.avg_pool2d(y, 2), size=[x.size(2), x.size(3)], mode='bilinear')",
    "y = F.interpolate(F.interpolate(y, size=[200, 200]), size=[x.size(2), x.size(3)])",
    "y = F.avg_pool2d(y, 1 + 2 * (x.size(2) // 300), 1, x.size(2) // 300)",
    "y = F.adaptive_avg_pool2d(y, [x.size(2), x.size(3)]) + F.adaptive_avg_pool2d(y, [1, 1])",
    "y = torch.roll(y, x.size(2) // 200, 1)",
    "y = torch.roll(y, x.size(2) // 200, 3)",
    "y = y.clamp(max=x.size(2) / 1000)",
    "y = F.elu(y, float(x.size(3)) / 300)",
    "y = F.leaky_relu(y, 1.0 / x.size(2))",
    "y = torch.pow(y.abs() + 1, x.size(2) // 200)",
    "y = F.pad(y, [0, max(x.size(2) - x.size(3), 0)])[:, :, :, : x.size(3)]",
    "y = self.b(F.pad(y, [0, max(x.size(2) - x.size(3), 0)]))[:, :, :, : x.size(3)]",
    "y = self.b(F.pad(y, [0, max(x.size(2), x.size(3)) - x.size(3), 0, max(x.size(2), x.size(3))"
    " - x.size(2)]))[:, :, : x.size(2), : x.size(3)]",
    "y = y[:, x.size(2) // 300:].sum(1, keepdim=True).expand(-1, 4, -1, -1)",
    "y = torch.where(torch.arange(4).view(1, 4, 1, 1) < x.size(2) // 100, y, y * 2)",
    "y = y * (torch.arange(x.size(2)).max() / 400)",
    "y = F.layer_norm(y.permute(0, 2, 3, 1), [4], eps=x.size(2) / 100).permute(0, 3, 1, 2)",
    "y = y.flatten(2)[:, :, : x.size(2) * x.size(3)].view_as(y).transpose(2, 3).reshape(y.shape)",
    "y = y.reshape(1, 4, -1).flip(1).reshape(y.shape) * (x.size(2) * x.size(3) / 1e5)",
    "y = torch.addcmul(y, y, y, value=x.size(2) / 400)",
    "y = torch.lerp(y, y * 2, x.size(2) / 500)",
    "y = y.view(1, 4, x.size(2) // (x.size(2) // 1), x.size(3)) * (x.size(2) % 5)",
)
"""Numbers and shapes that follow from the size."""

BY_PIXELS = (
    "y = F.conv2d(y, self.b.weight, torch.relu(x[0, 0, 0, 0:1] - 1e-6).expand(4), 1, 1)",
    "y = F.conv2d(y, self.b.weight, x[0, 0, 5, 3:7] * 0.1, 1, 1)",
    "y = F.conv2d(y, self.b.weight + x[0, 0, 0, 0] * 0.01, None, 1, 1)",
    "y = F.conv2d(y, self.b.weight * torch.sigmoid(x.mean()), None, 1, 1)",
    "y = F.conv_transpose2d(y, self.b.weight, x[0, 0, 0, :4], 1, 1)",
    "y = F.batch_norm(y, x[0, 0, 0, :4], torch.ones(4))",
    "y = F.batch_norm(y, torch.zeros(4), x[0, 0, 0, :4].abs() + 1)",
    "y = F.batch_norm(y, torch.zeros(4), torch.ones(4), x[0, 0, :4, 0], None)",
    "y = F.batch_norm(y, torch.zeros(4), torch.ones(4), None, y[0, :, 0, 0])",
    "y = F.layer_norm(y.permute(0, 2, 3, 1), [4], x[0, 0, 0, :4]).permute(0, 3, 1, 2)",
    "y = F.layer_norm(y.permute(0, 2, 3, 1), [4], None, y[0, :, 0, 0]).permute(0, 3, 1, 2)",
    "y = F.prelu(y, torch.sigmoid(x[0, 0, 0, :4]))",
    "y = y * x[0, 0, 0, 0]",
    "y = y + y[:, :, :1, :1]",
    "y = y - y[:, :, -1:, -1:]",
    "y = F.linear(y.permute(0, 2, 3, 1), y[0, :, :4, 0], None).permute(0, 3, 1, 2)",
    "y = F.linear(y.permute(0, 2, 3, 1), self.b.weight[:, :, 0, 0], y[0, :, 0, 0])"
    ".permute(0, 3, 1, 2)",
    "y = torch.baddbmm(y[0, :1, :1, :1], y[0], y[0].transpose(1, 2))[None] * 0 + y * y.amax()",
    "y = torch.where(x[0, 0, 0, 0] > 0, y, y * 2)",
    "y = y.masked_fill(x[:, :, :1, :1] > 0, 0.5)",
    "y = torch.clamp(y, min=y.min() * 0.5)",
    "y = torch.clamp(y, max=x[0, 0, 0, 0])",
    "y = torch.lerp(y, y * 2, torch.sigmoid(x[0, 0, 0, 0]))",
    "y = F.instance_norm(y)",
    "y = F.group_norm(y, 2)",
    "y = F.softmax(y.flatten(2), 2).view_as(y)",
    "y = y * F.adaptive_max_pool2d(x, 1)",
    "y = y[:, torch.argsort(x[0, 0, 0, :4])]",
    "y = torch.index_select(y, 1, torch.topk(x[0, 0, 0, :16], 4)[1] % 4)",
    "y = y + F.embedding((x[0, 0, :1, :1] > 0).long(), self.table.view(2, 32))[0, 0, :1]",
)
"""Parameters that are computed from pixels."""

STATES: dict[str, Recipe] = {
    "a number": Recipe(
        ("self.k = self.k + 1", "y = y * (1.0 if self.k < 60 else 2.0)"), ("self.k = 0",)
    ),
    "a list": Recipe(
        ("self.k.append(1)", "y = y * (1.0 if len(self.k) < 60 else 2.0)"),
        ("self.k = [0]",),
    ),
    "an entry of a list": Recipe(
        ("k = self.k", "k[0] += 1", "y = y * (1.0 if k[0] < 60 else 2.0)"), ("self.k = [0]",)
    ),
    "a dictionary": Recipe(
        ("n = self.k['n']", "n.append(1)", "y = y * (1.0 if len(n) < 60 else 2.0)"),
        ("self.k = {'n': [0]}",),
    ),
    "a key of a dictionary": Recipe(
        ("self.k['n'] = self.k['n'] + 1", "y = y * (1.0 if self.k['n'] < 60 else 2.0)"),
        ("self.k = {'n': 0}",),
    ),
    "more keys": Recipe(
        ("self.k[len(self.k)] = 1", "y = y * (1.0 if len(self.k) < 60 else 2.0)"),
        ("self.k = {0: 1}",),
    ),
    "a buffer": Recipe(
        ("self.k.add_(0.01)", "y = y * self.k"), ("self.register_buffer('k', torch.ones(1))",)
    ),
    "a view of a buffer": Recipe(
        ("self.k[1:].mul_(1.01)", "y = y * self.k[1]"),
        ("self.register_buffer('k', torch.ones(2))",),
    ),
    "a weight": Recipe(("self.b.weight.mul_(1.001)", "y = self.b(y)")),
    "a running mean": Recipe(
        ("y = F.batch_norm(y, self.n.running_mean, self.n.running_var, None, None, True)",)
    ),
    "a method": Recipe(
        ("y = y * (1.0 if self.count() < 60 else 2.0)",),
        ("self.k = [0]",),
        ("def count(self) -> int:", "    self.k[0] += 1", "    return self.k[0]"),
    ),
    "another name": Recipe(
        (
            "k = self.k",
            "if x.size(2) < 0:",
            "    k = [1]",
            "for i in range(1):",
            "    k.append(i)",
            "y = y * (1.0 if len(k) < 60 else 2.0)",
        ),
        ("self.k = [0]",),
    ),
    "a list in a list": Recipe(
        ("[self.k][0].append(1)", "y = y * (1.0 if len(self.k) < 60 else 2.0)"), ("self.k = [0]",)
    ),
    "only for large images": Recipe(
        (
            "if x.size(2) > 300:",
            "    self.k.append(1)",
            "y = y * float(len(self.k))",
        ),
        ("self.k = [0]",),
    ),
    "what was first": Recipe(
        (
            "if len(self.k) == 0:",
            "    self.k.append(x.size(2))",
            "y = y * (float(self.k[0]) / 100)",
        ),
        ("self.k = torch.jit.annotate(List[int], [])",),
    ),
    "a global": Recipe(("CALLS[0] += 1", "y = y * (1.0 if CALLS[0] < 60 else 2.0)")),
    "a default": Recipe(
        ("y = y * (1.0 if self.count() < 60 else 2.0)",),
        (),
        ("def count(self, k=[0]):", "    k[0] += 1", "    return k[0]"),
    ),
    "an iterator": Recipe(
        ("y = y * (1.0 if next(self.k) < 60 else 2.0)",), ("self.k = itertools.count()",)
    ),
    "random numbers of Python": Recipe(("y = y * (1.0 if random.random() < 0.98 else 2.0)",)),
    "random numbers": Recipe(("y = y + torch.rand(1) * 0.1",)),
    "a dropout": Recipe(("y = F.dropout(y, 0.1, True)",)),
}
"""What a pass leaves for the next one."""

CODE: dict[str, Recipe] = {
    "a loop over rows": Recipe(("for i in range(x.size(2) // 200):", "    y = torch.tanh(y)")),
    "a loop until small": Recipe(
        (
            "k = x.size(2)",
            "while k > 200:",
            "    y = self.b(y)",
            "    k = k // 2",
        )
    ),
    "a helper": Recipe(
        ("y = self.help(y, x.size(2))",),
        (),
        (
            "def help(self, y, k: int):",
            "    if k > 300:",
            "        return y * 2",
            "    return y",
        ),
    ),
    "a table of strings": Recipe(
        (
            "d: Dict[str, float] = {'small': 1.0, 'large': 2.0}",
            "key = 'large' if x.size(2) > 300 else 'small'",
            "y = y * d[key]",
        )
    ),
    "a list of factors": Recipe(("k = [1.0, 2.0, 3.0, 4.0]", "y = y * k[x.size(2) // 200]")),
    "an early end": Recipe(("if x.size(2) > 300:", "    return self.c(y)")),
    "an assertion as a branch": Recipe(
        ("k = 1.0", "if not (x.size(2) < 300 and x.size(3) < 250):", "    k = 2.0", "y = y * k")
    ),
    "a count of ones": Recipe(("k = int(torch.ones(x.size(2)).sum())", "y = y * (k / 400)")),
    "an attempt": Recipe(
        (
            "try:",
            "    y = y + torch.zeros(1, 4, 300, 300)[:, :, x.size(2) - 1: x.size(2), :1]",
            "except RuntimeError:",
            "    y = y * 2",
        )
    ),
    "a property of the storage": Recipe(
        ("if x.storage_offset() == 0 and x.is_contiguous() and x.stride(2) > 300:", "    y = y * 2")
    ),
    "a tensor without data": Recipe(("if not x.is_meta:", "    y = torch.roll(y, 1, 2)")),
    "time": Recipe(("y = y * (1.0 + (time.time() % 1.0))",)),
    "a split": Recipe(("y = torch.cat(y.split(x.size(2) // 2, 2)[::-1], 2)",)),
    "a chunk": Recipe(("y = torch.cat(y.chunk(2, 3)[::-1], 3)",)),
    "every second row of large images": Recipe(
        ("k = 1 + x.size(2) // 300", "y = F.interpolate(y[:, :, ::k], size=x.shape[2:])")
    ),
}
"""Other ways through the code."""


def hand_made() -> dict[str, Recipe]:
    """Return all networks that were thought of, by a name."""
    found = {
        f"{effect} if {condition}": Recipe((f"if {condition}:", f"    {effect}"))
        for condition, effect in zip(
            CONDITIONS * 2, EFFECTS + EFFECTS[: len(CONDITIONS) * 2 - len(EFFECTS)], strict=False
        )
    }
    found |= {line: Recipe((line,)) for line in (*BY_NUMBERS, *BY_PIXELS)}
    found |= {f"state: {name}": recipe for name, recipe in (STATES | HOLDERS).items()}
    return found | {f"code: {name}": recipe for name, recipe in CODE.items()}
