"""Backbones that people should know of: a short table of networks that timm has, with what is published about them.

Nothing of them is downloaded unless it is named, as in `--backbone timm:convnext_tiny.in12k_ft_in1k` (extra [torch]).
"""

from __future__ import annotations

from dataclasses import dataclass

TIMM_RESULTS = "timm, results/results-imagenet.csv"
BYTES_A_WEIGHT = 4


@dataclass(frozen=True)
class Recommended:
    """A row of RECOMMENDED.

    accuracy: the published share of ImageNet-1k's validation images whose top answer is right, at images of `size` pixels.
    source: who published it.
    """

    name: str
    good_for: str
    size: int
    n_parameters: int
    accuracy: float
    source: str
    license: str
    extra: str = "torch"

    @property
    def size_mb(self) -> int:
        """About how large the download is, in MB: its weights in 32 bits."""
        return round(self.n_parameters * BYTES_A_WEIGHT / 1e6)


RECOMMENDED = (
    Recommended(
        "timm:tf_efficientnet_lite3.in1k",
        "phones and small boards, one step above Lite2",
        300,
        8_200_000,
        0.798,
        TIMM_RESULTS,
        "Apache-2.0",
    ),
    Recommended(
        "timm:convnext_nano.in12k_ft_in1k",
        "laptops: more accurate than the Lite ones, and slower",
        288,
        15_590_000,
        0.829,
        TIMM_RESULTS,
        "Apache-2.0",
    ),
    Recommended(
        "timm:convnext_tiny.in12k_ft_in1k",
        "the most accurate here that a CPU runs in good time; fine-tunes well",
        288,
        28_590_000,
        0.845,
        TIMM_RESULTS,
        "Apache-2.0",
    ),
    Recommended(
        "timm:tf_efficientnetv2_s.in21k_ft_in1k",
        "a GPU, and details that need many pixels",
        384,
        21_460_000,
        0.843,
        TIMM_RESULTS,
        "Apache-2.0",
    ),
    Recommended(
        "timm:vit_small_patch14_dinov2.lvd142m",
        "photos unlike ImageNet's (scans, textures, satellites): it learnt without labels; needs a GPU",
        518,
        22_060_000,
        0.811,
        "Oquab et al. 2023, arXiv:2304.07193, linear probe at 224 pixels",
        "Apache-2.0",
    ),
)
