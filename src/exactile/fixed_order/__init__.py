"""Operators whose sums have one order, whatever the size of the window.

Most kernels of PyTorch on a CPU give a region of a feature map the same bits in a window as in a
pass over the whole image. These do not (measured, benchmarks/bit_stability.py):

    operator                    what changes with the size or the place, and what is done instead
    convolution                 below 20,480 input values PyTorch leaves oneDNN for a kernel of its
                                own; oneDNN adds in another order in blocks of columns that reach
                                into wide padding, and where kernel and channels together are
                                large: always oneDNN, on channels_last, over an input that is
                                padded beforehand where the padding is wide, and in portions of
                                the channels
    transposed convolution      blocks of columns again: each sub-pixel phase of the output is an
                                ordinary convolution with some of the kernel's elements
    linear up-sampling          the position in the input is computed in float32, inexact unless
                                the factor is a power of two: integers; and another kernel where
                                height + width <= 128, unless on channels_last
    activations with exp, erf   the vectorised loop and its scalar remainder use different
                                approximations, and threads cut the tensor where its size says:
                                exp, erf, expm1, log1p and tanh, which have no such remainder
    powers, exp2, sinh, cosh,   the same, and there is no other function for them: they are given
    atanh, atan2, logaddexp,    whole vectors, of which a tensor's end is filled up
    logit, sums with a factor
    in bfloat16
    softmax, sums, means        the same where they run across the rows of memory: along the rows

The equivalents are chosen by the operator and its parameters, never by the size of the map, so
that every window and the whole image go the same way. They differ from the originals by rounding.
They read what the originals read, and no more: no weight of zero is multiplied with a neighbour.

The mode sees eager modules, TorchScript and exported programs alike. It changes nothing on other
devices, which have not been measured, and in other types than float32 and bfloat16.
"""

from __future__ import annotations

from exactile.fixed_order.mode import FixedOrder, fixed_order

__all__ = ["FixedOrder", "fixed_order"]
