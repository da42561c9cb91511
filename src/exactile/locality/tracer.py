"""Running a network on fake tensors while every tensor's reach is carried along.

The network runs once, on tensors without data, under two modes: functionalisation, which turns
every write into a tensor or into a view of it into an operator that returns a new tensor, and a
dispatch mode, which sees each ATen operator, lets it compute shapes, and asks the operator's rule
for the reach of its outputs. Eager modules, TorchScript and exported programs all pass here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from exactile.locality.constants import (
    call_salt,
    compute,
    constant_mark,
    has_values,
    named_weights,
    sized,
)
from exactile.locality.contraction import FLATTENED, MATRICES, flattened
from exactile.locality.dispatch import (
    bind,
    joined,
    refuse_counts,
    rule_for,
    ruled,
    shapes_only,
    unusable,
    writes_nothing,
)
from exactile.locality.maker import UNKNOWN, maker
from exactile.locality.modulepath import ModulePath, kind_of, named_modules
from exactile.locality.reach import Reach, constant, source
from exactile.locality.refusal import KeepsState, Refusal, Refused
from exactile.locality.registry import Call, Reaches
from exactile.locality.run import (
    BATCH,
    BATCH_AXIS,
    RUN_ERRORS,
    Failed,
    Observer,
    Outputs,
    Record,
    RuleDefect,
    Run,
    Stopped,
    drift,
    quiet_logs,
)
from exactile.locality.sizes import numbers
from exactile.locality.state import unchanged, written
from exactile.locality.verdict import parted


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries a reach beside every tensor; see the module's text."""

    def __init__(
        self,
        extent: tuple[int, ...],
        axis: int,
        path: ModulePath,
        weights: dict[int, str],
        earlier: Run | None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.extent = extent
        self.side = BATCH if axis == BATCH_AXIS else extent[axis]
        self.path = path
        self.weights = weights
        self.earlier = earlier
        self.observer = observer
        self.along = earlier is not None and all(
            before == now or other == axis
            for other, (before, now) in enumerate(zip(earlier.extent, extent, strict=True))
        )
        self.records: list[Record] = []
        self.refusals: dict[tuple[str, str], Refusal] = {}
        self.diverged: Refusal | None = None
        self.stopped = False
        self.uneven = True
        self.finished = False
        self.defect: RuleDefect | None = None
        self.state: KeepsState | None = None
        self.failed: tuple[str, str] | None = None
        self.reaches: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.makers: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.constants: dict[int, tuple[torch.Tensor, Reach]] = {}

    def run(self, module: nn.Module, image: torch.Tensor) -> object:
        """Run the module, and note its end."""
        output: object = module(image)
        self.finished = True
        return output

    def result(self, axis: int, output: torch.Tensor | None = None) -> Run:
        """Return what was seen, with what is known of the output where there is one."""
        return Run(
            self.extent,
            axis,
            tuple(self.records),
            tuple(self.refusals.values()),
            self.diverged,
            self.uneven,
            None if output is None else tuple(output.shape),
            None if output is None else self.reach_of(output),
            UNKNOWN if output is None else self.maker_of(output),
        )

    def maker_of(self, tensor: torch.Tensor) -> str:
        """Return the operator that made the tensor's values."""
        known: str = self.makers.get(tensor, UNKNOWN)  # type: ignore[no-untyped-call]
        return known

    def reach_of(self, tensor: torch.Tensor) -> Reach:
        """Return the tensor's reach; one that was never seen is a weight or another constant."""
        known: Reach | None = self.reaches.get(tensor)  # type: ignore[no-untyped-call]
        if known is not None:
            return known
        if isinstance(tensor, FakeTensor):
            # Every fake tensor is the image or comes out of a call above: never guess.
            self.refuse("a tensor", "it appeared from nowhere, so what it depends on is not known")
            self.stop()
        if id(tensor) not in self.constants:
            mark = constant_mark(tensor, self.weights)
            fresh = constant(tuple(tensor.shape), mark, even=False)
            # The tensor is kept with it, so that its id cannot be given to another.
            self.constants[id(tensor)] = tensor, fresh
        return self.constants[id(tensor)][1]

    def stop(self) -> NoReturn:
        """End the run: what comes next needs values, or would be compared with something else."""
        self.stopped = True
        raise Stopped

    def refuse(self, operator: str, reason: str, *, uneven: bool = False) -> None:
        """Note a refusal once for each operator and module."""
        self.uneven = self.uneven and uneven
        key = operator, self.path.current
        self.refusals.setdefault(key, Refusal(*key, reason))

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator on fake tensors and record the reach of its outputs."""
        kwargs = kwargs or {}
        operator = str(func.overloadpacket).replace("::", ".")
        if self.finished and operator == "aten.copy_":
            # Functionalisation writes back into the image what the network wrote into it.
            return func(*args, **kwargs)
        if operator.startswith("prim.") or operator in ("aten.sym_size", "aten.sym_numel"):
            return func(*args, **kwargs)
        arguments = bind(func, args, kwargs)
        tensors = tuple(t for t in tree_leaves(arguments) if isinstance(t, torch.Tensor))
        reaches = tuple(self.reach_of(tensor) for tensor in tensors)
        reason = unusable(func, arguments, reaches)
        if reason is not None:
            self.refuse(operator, reason)
            self.stop()
        index = len(self.records)
        harmless = writes_nothing(func, arguments)
        if not harmless:
            self.refuse_state(func, arguments)
        salt = call_salt(index, operator, arguments, reaches)
        try:
            result = shapes_only(func, arguments)
            if result is None:
                real = has_values(func, tensors)
                result = compute(func, args, kwargs) if real else func(*args, **kwargs)
        except RUN_ERRORS:
            self.failed = operator, self.path.current
            call = Call(operator, arguments, tensors, (), salt, Reaches(reaches), None, None)
            if operator in MATRICES and flattened(call):
                self.refuse(operator, FLATTENED)
                self.stop()
            raise
        outputs = tuple(t for t in tree_leaves(result) if isinstance(t, torch.Tensor))
        if not outputs:
            return result
        given = numbers(operator, arguments)
        before = self.same_call(operator, given, index)
        call = Call(
            operator,
            arguments,
            tensors,
            outputs,
            salt,
            Reaches(reaches),
            before.inputs if before else None,
            before.outputs if before else None,
        )
        made = self.judge(func, call, harmless)
        if self.observer is not None:
            self.observer.called(call)
        made_by = maker(operator, [self.maker_of(tensor) for tensor in tensors])
        for output, reach in zip(outputs, made, strict=True):
            self.reaches[output] = reach
            self.makers[output] = made_by
        self.records.append(
            Record(
                operator,
                self.path.current,
                given,
                tuple(tuple(tensor.shape) for tensor in tensors),
                tuple(tuple(output.shape) for output in outputs),
                drift(made[0], outputs[0].shape, self.side),
                int(made[0].mark.flat[0]),
            )
        )
        return result

    def same_call(self, operator: str, given: tuple[object, ...], index: int) -> Record | None:
        """Return the record of this call in the earlier run; stop where the two part."""
        if self.earlier is None:
            return None
        records = self.earlier.records
        there = records[index] if index < len(records) else None
        if there is None or (there.operator, there.numbers) != (operator, given):
            place, extents = self.path.current, (self.extent, self.earlier.extent)
            self.diverged = parted(operator, place, *extents, there)
            self.stop()
        return there

    def refuse_state(self, func: OpOverload, arguments: dict[str, Any]) -> None:
        """Stop before the network writes into a weight or buffer of its own."""
        name = written(func, arguments, self.weights)
        if name is not None:
            self.state = KeepsState(
                f"keeps a state: it writes into {name!r} ({func}) in {self.path.current}, so that "
                "no two passes agree; use a network that changes nothing"
            )
            self.stop()

    def ended(self) -> None:
        """Stop where the earlier run went on."""
        count = len(self.records)
        if self.earlier is not None and count < len(self.earlier.records):
            self.same_call("the end of the network", (), count)

    def judge(self, func: OpOverload, call: Call, harmless: bool) -> tuple[Reach, ...]:
        """Return the reach of each output: by the rule, or joined wholly after a refusal."""
        try:
            rule = rule_for(func, call, self.records, harmless)
            if self.along and not self.refusals:
                refuse_counts(func, call)
            made = ruled(rule, call)
        except Refused as refused:
            named = refused.operator or call.operator
            self.refuse(named, refused.reason, uneven=refused.uneven)
            return tuple(joined(call, output) for output in call.outputs)
        except RUN_ERRORS as error:
            self.fail(f"the rule of {call.operator} failed: {error}", error)
        results = sized(func, call, made)
        for output, reach in zip(call.outputs, results, strict=True):
            broadcast = np.broadcast_shapes(reach.shape, tuple(output.shape))
            if output.numel() > 0 and broadcast != tuple(output.shape):
                shape = tuple(output.shape)
                self.fail(f"the rule of {call.operator} gave {reach.shape} for {shape}")
        return results

    def fail(self, text: str, cause: Exception | None = None) -> NoReturn:
        """End on a defect of a rule, kept from being taken for an error of the network.

        What comes after a refusal is followed only as far as the rules go.
        """
        if self.refusals:
            self.stop()
        self.defect = RuleDefect(text)
        raise self.defect from cause


def trace(
    module: nn.Module,
    channels: int,
    extent: tuple[int, ...],
    axis: int,
    earlier: Run | None = None,
    observer: Observer | None = None,
) -> Run:
    """Run `module` on a fake image of `extent` and return what it depends on along `axis`.

    The image has shape (1, channels, *extent), or has a batch of `BATCH` images for `BATCH_AXIS`.
    `earlier` is a run at smaller extents: the two together show which dimensions grow. An
    `observer` sees every call.

    Raises `Failed` where the network cannot run on this image, `Outputs` where it does not return
    one tensor, and `KeepsState` where an eager module is another after the run.
    """
    path = ModulePath(named_modules(module))
    tracer = Tracer(extent, axis, path, named_weights(module), earlier, observer)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(quiet_logs())
        # Fusion would hide the operators.
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        dtype, device = kind_of(module)
        batch = BATCH if axis == BATCH_AXIS else 1
        image = torch.empty((batch, channels, *extent), dtype=dtype, device=device)
        stack.enter_context(path.followed())
        stack.enter_context(tracer)
        tracer.reaches[image] = source(image.shape, 0 if axis == BATCH_AXIS else 2 + axis)
        try:
            with unchanged(module):
                output = torch.func.functionalize(tracer.run)(module, image)
            tracer.ended()
            found = only_tensor(output)
            if observer is not None:
                observer.returned(found)
            return tracer.result(axis, found)
        except (Stopped, *RUN_ERRORS) as error:
            # TorchScript turns whatever is raised inside it into an error of its own.
            if (ended := tracer.state or tracer.defect) is not None:
                raise ended from error
            if tracer.stopped:
                return tracer.result(axis)
            operator, place = tracer.failed or ("model", path.current)
            message = str(error).strip().splitlines() or [type(error).__name__]
            raise Failed(Refusal(operator, place, message[0])) from error


def only_tensor(output: object) -> torch.Tensor:
    """Return the network's one output tensor; raise `Outputs` where there is not exactly one."""
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    if len(tensors) != 1:
        raise Outputs(len(tensors))
    return tensors[0]
