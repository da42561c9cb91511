"""The networks of `off_the_shelf.py`: of segmentation_models_pytorch, timm and monai."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A network and what it takes."""

    name: str
    make: Callable[[], nn.Module]
    channels: int = 3
    axes: int = 2


class First(nn.Module):
    """One of several outputs, for networks that return a list or a dictionary."""

    def __init__(self, network: nn.Module, key: int | str = 0) -> None:
        super().__init__()
        self.network, self.key = network, key

    def forward(self, x: Tensor) -> Tensor:
        """Return that output for the images `x`."""
        result: Tensor = self.network(x)[self.key]
        return result


def smp_cases() -> Iterator[Case]:
    """Yield the networks of segmentation_models_pytorch."""
    import segmentation_models_pytorch as smp

    table: dict[str, tuple[str, ...]] = {
        "Unet": (
            *("resnet18", "resnet50", "mobilenet_v2", "vgg11", "vgg11_bn", "densenet121"),
            *("timm-tf_efficientnet_lite0", "mobileone_s0", "xception", "dpn68", "inceptionv4"),
            *("resnext50_32x4d", "efficientnet-b0", "se_resnet50", "timm-skresnet18", "mit_b0"),
            *("tu-convnext_atto", "tu-regnetx_002", "tu-regnety_002", "tu-hrnet_w18_small"),
            *(
                "tu-mobilenetv3_small_050",
                "tu-efficientnetv2_rw_t",
                "tu-swin_tiny_patch4_window7_224",
            ),
            *("tu-resnet10t", "tu-darknet53", "tu-repvgg_a0", "tu-ghostnet_100", "tu-cspresnet50"),
        ),
        "UnetPlusPlus": ("resnet18",),
        "Linknet": ("resnet18", "mobilenet_v2"),
        "FPN": ("resnet18", "mobilenet_v2"),
        "PSPNet": ("resnet18",),
        "DeepLabV3": ("resnet18",),
        "DeepLabV3Plus": ("resnet18", "mobilenet_v2"),
        "PAN": ("resnet18",),
        "MAnet": ("resnet18",),
        "UPerNet": ("resnet18",),
        "Segformer": ("resnet18", "mit_b0"),
        "DPT": ("tu-vit_tiny_patch16_224.augreg_in21k",),
    }
    for architecture, encoders in table.items():
        make = getattr(smp, architecture)
        for encoder in encoders:
            options = {"encoder_name": encoder, "encoder_weights": None, "classes": 3}
            yield Case(f"smp {architecture} {encoder}", partial(make, **options))
    small = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 3}
    variants: dict[str, dict[str, Any]] = {
        "scse attention": {"decoder_attention_type": "scse"},
        "bilinear decoder": {"decoder_interpolation": "bilinear"},
        "depth 3": {"encoder_depth": 3, "decoder_channels": (64, 32, 16)},
        "sigmoid": {"activation": "sigmoid"},
        "decoder without norm": {"decoder_use_norm": False},
    }
    for name, options in variants.items():
        yield Case(f"smp Unet resnet18, {name}", partial(smp.Unet, **small, **options))


def timm_cases() -> Iterator[Case]:
    """Yield backbones of timm: their features at a fraction of the resolution."""
    import timm

    for name in ("resnet18", "dla34", "selecsls42", "efficientvit_b0", "poolformer_s12"):
        make = partial(timm.create_model, name, features_only=True, pretrained=False)
        yield Case(f"timm {name}, third features", partial(picked, make, 2))


def picked(make: Callable[[], nn.Module], key: int) -> nn.Module:
    """Return the network with one of its outputs."""
    return First(make(), key)


def monai_cases() -> Iterator[Case]:
    """Yield the networks of monai.networks.nets: the usual ones for planes and for volumes."""
    from monai.networks import nets

    features = (8, 8, 16, 32, 64, 8)
    steps: dict[str, Any] = {"channels": (8, 16, 32, 64), "strides": (2, 2, 2)}
    residual = {**steps, "num_res_units": 2}
    dynamic: dict[str, Any] = {
        "kernel_size": (3, 3, 3, 3),
        "strides": (1, 2, 2, 2),
        "upsample_kernel_size": (2, 2, 2),
        "filters": (8, 16, 32, 64),
    }
    batch, batch_name = {"norm": "batch"}, {"norm_name": "batch"}
    flow = {"channels": (8, 16, 16, 16), "final_conv_channels": (16,)}
    vit = {"img_size": 128, "hidden_size": 96, "mlp_dim": 96, **batch_name}
    swin = {"feature_size": 12, **batch_name}
    both: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
        "UNet, batch norm": (nets.UNet, {**steps, **batch}),
        "UNet, residual, batch norm": (nets.UNet, {**residual, **batch}),
        "UNet (default: instance norm)": (nets.UNet, steps),
        "BasicUNet, batch norm": (nets.BasicUNet, {"features": features, **batch}),
        "BasicUNet (default: instance norm)": (nets.BasicUNet, {"features": features}),
        "SegResNet, batch norm": (nets.SegResNet, {"init_filters": 8, **batch}),
        "SegResNet (default: group norm)": (nets.SegResNet, {"init_filters": 8}),
        "SegResNetDS, batch norm": (nets.SegResNetDS, {"init_filters": 8, **batch}),
        "DynUNet, batch norm": (nets.DynUNet, {**dynamic, **batch_name}),
        "DynUNet (default: instance norm)": (nets.DynUNet, dynamic),
    }
    planar: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
        "AttentionUnet": (nets.AttentionUnet, steps),
        "VNet": (nets.VNet, {}),
        "HighResNet": (nets.HighResNet, {}),
        "AHNet": (nets.AHNet, {}),
        "FlexibleUNet resnet18": (nets.FlexibleUNet, {"backbone": "resnet18"}),
        "FlexibleUNet efficientnet-b0": (nets.FlexibleUNet, {"backbone": "efficientnet-b0"}),
        "MedNeXtS": (nets.MedNeXtS, {}),
        "UNETR, batch norm": (nets.UNETR, vit),
        "SwinUNETR, batch norm": (nets.SwinUNETR, swin),
    }
    for axes, table in ((2, both), (2, planar), (3, both)):
        for name, (kind, given) in table.items():
            make = partial(kind, spatial_dims=axes, in_channels=1, out_channels=2, **given)
            yield Case(f"monai {name}, {axes}-D", make, 1, axes)
    nested = partial(nets.BasicUNetPlusPlus, 2, 1, 2, features, norm="batch")
    yield Case("monai BasicUNetPlusPlus, batch norm, 2-D", lambda: First(nested()), 1)
    yield Case("monai VoxelMorphUNet, 2-D", partial(nets.VoxelMorphUNet, 2, 2, 8, **flow), 2)
    yield Case("monai Quicknat (default: instance norm), 2-D", partial(nets.Quicknat, 2, 1, 16), 1)
    yield Case("monai HoVerNet, nuclei, 2-D", lambda: First(nets.HoVerNet(), "nucleus_prediction"))
    yield Case("monai DiNTS, 3-D", dints, 1, 3)


def dints() -> nn.Module:
    """Return a DiNTS in which every path of the space that was searched is taken."""
    from monai.networks import nets

    codes = [np.ones((4, 10)), np.ones((4, 10))]
    space = nets.TopologyInstance(
        channel_mul=0.25, num_blocks=4, num_depths=4, use_downsample=True, arch_code=codes
    )
    return nets.DiNTS(space, 1, 2, act_name="RELU", norm_name="BATCH", use_downsample=True)


def declare_torchvision() -> torch.library.Library:
    """Let torchvision be imported where its compiled operators do not fit torch: none is needed.

    They are declared for as long as what is returned lives.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
