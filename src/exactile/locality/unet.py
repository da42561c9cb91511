"""The locality of U-Nets, from their construction.

The published radius counts convolutions only; pooling and up-sampling boundaries add pixels to it,
so it is too small for some depths (reference figures: `formula_radius` against `unet_radius`).
"""

from __future__ import annotations

from exactile.geometry import Halo, Locality


def unet_radius(depth: int, convolutions: int, kernel_size: int = 3) -> int:
    """Return how far an aligned zone's output depends on input beside the zone, in pixels.

    The longest path is followed from the output to the input. With r = convolutions * floor(k / 2)
    pixels of each level added by its blocks, up-sampling takes a distance x to ceil(x / 2) pixels
    of the level below, and pooling takes x back to 2 x. Both sides are alike.

    >>> unet_radius(depth=4, convolutions=2)
    94
    """
    reach = convolutions * (kernel_size // 2)
    distance = 0
    for _ in range(depth):
        distance = -(-(distance + reach) // 2)
    distance += reach
    for _ in range(depth):
        distance = 2 * distance + reach
    return distance


def formula_radius(depth: int, convolutions: int, kernel_size: int = 3) -> int:
    """Return the published radius, floor(k/2) n (3 * 2^depth - 2), in pixels.

    Majurski and Bajcsy (2021), equation 2 summed over a U-Net's longest path.

    >>> formula_radius(depth=4, convolutions=2)
    92
    """
    return (kernel_size // 2) * convolutions * (3 * (1 << depth) - 2)


def unet_locality(depth: int, convolutions: int, kernel_size: int = 3) -> Locality:
    """Return F = 2^depth and the halo of a planar U-Net, rounded up to F on all sides."""
    radius = unet_radius(depth, convolutions, kernel_size)
    return Locality.isotropic(1 << depth, Halo(radius, radius))
