"""Sizes, soft-token counts and patches of pictures; live against the reference."""

import os
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlx_gemma4.errors import MediaError
from mlx_gemma4.prompt.attachments import IMAGE_TOKENS
from mlx_gemma4.vision.images import image_patches, target_size

FIRST = int(os.environ.get("GEMMA4_SEED", "0"))
ODD_SIZES = (
    *((1, 1), (2, 1), (1, 7), (47, 48), (48, 48), (10, 20000), (20000, 10), (1, 99999)),
    *((480, 640), (672, 960), (1080, 1920), (4032, 3024), (333, 1), (768, 768)),
)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    draw = np.random.RandomState(seed)
    return Image.fromarray(draw.randint(0, 256, (height, width, 3)).astype(np.uint8))


def reference_patches(image: Image.Image, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and positions of the reference's Pillow processor, without padding."""
    from transformers.models.gemma4.image_processing_pil_gemma4 import (
        Gemma4ImageProcessorPil,
    )

    out: Any = Gemma4ImageProcessorPil(max_soft_tokens=budget)(image)
    count = out["num_soft_tokens_per_image"][0] * 9
    assert (out["image_position_ids"][0][count:] == -1).all()
    return out["pixel_values"][0][:count], out["image_position_ids"][0][:count]


@pytest.mark.parametrize(
    ("size", "budget", "expected"),
    [
        ((480, 640), 280, (672, 912)),
        ((640, 480), 280, (912, 672)),
        ((1080, 1920), 70, (288, 528)),
        ((1, 1), 280, (768, 768)),
        ((10, 20000), 280, (48, 280 * 48)),
        ((20000, 10), 280, (280 * 48, 48)),
        ((10, 2000), 280, (48, 236 * 48)),
        ((1, 99999), 70, (48, 70 * 48)),
        ((672, 960), 280, (672, 960)),
    ],
)
def test_target_size(
    size: tuple[int, int], budget: int, expected: tuple[int, int]
) -> None:
    assert target_size(*size, budget) == expected


def test_other_patches() -> None:
    assert target_size(100, 200, 18, patch_size=4, pooling=2) == (24, 48)


@pytest.mark.parametrize("budget", IMAGE_TOKENS)
@pytest.mark.parametrize("size", ODD_SIZES)
def test_never_over_budget(size: tuple[int, int], budget: int) -> None:
    height, width = target_size(*size, budget)
    assert height % 48 == width % 48 == 0
    assert 0 < height * width <= budget * 48**2


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0), (-3, 4)])
def test_no_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match="nothing to see"):
        target_size(*size, 280)


def test_no_budget() -> None:
    with pytest.raises(MediaError, match="0 soft tokens are too few for 4 x 3 pixels"):
        target_size(3, 4, 0)


def test_order_of_pixels_and_positions() -> None:
    """Two by three patches of 2 x 2 pixels, at their size already."""
    values = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    picture = Image.fromarray(values)
    pixels, positions = image_patches(picture, 6, patch_size=2, pooling=1)
    assert positions.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    steps = np.rint(np.array(pixels) * 255).astype(int)
    # Pixel (row, column) starts at 18 * row + 3 * column.
    assert steps[0].tolist() == [0, 1, 2, 3, 4, 5, 18, 19, 20, 21, 22, 23]
    assert steps[4].tolist() == [42, 43, 44, 45, 46, 47, 60, 61, 62, 63, 64, 65]


def test_types_and_range() -> None:
    pixels, positions = image_patches(Image.new("RGB", (50, 30), "white"), 70)
    height, width = target_size(30, 50, 70)
    tokens = height * width // 48**2
    assert pixels.shape == (9 * tokens, 768) and positions.shape == (9 * tokens, 2)
    assert str(pixels.dtype) == "mlx.core.float32"
    assert str(positions.dtype) == "mlx.core.int32"
    assert pixels.min().item() == pixels.max().item() == 1.0


def test_one_pixel() -> None:
    pixels, _ = image_patches(Image.new("RGB", (1, 1), (51, 102, 204)), 70)
    expected = np.tile(np.array([0.2, 0.4, 0.8], np.float32), 256)
    np.testing.assert_array_equal(np.unique(pixels, axis=0), expected[None])


def test_other_modes_are_converted() -> None:
    grey, _ = image_patches(Image.new("L", (60, 60), 51), 70)
    colour, _ = image_patches(Image.new("RGB", (60, 60), (51, 51, 51)), 70)
    np.testing.assert_array_equal(grey, colour)


@pytest.mark.reference
@pytest.mark.parametrize("budget", IMAGE_TOKENS)
def test_sizes_of_the_reference(budget: int) -> None:
    from transformers.models.gemma4.image_processing_pil_gemma4 import (
        get_aspect_ratio_preserving_size,
    )

    draw = np.random.RandomState(FIRST + budget)
    random = np.exp(draw.uniform(0, np.log(30000), (3000, 2))).astype(int).tolist()
    for height, width in [*random, *ODD_SIZES]:
        expected = get_aspect_ratio_preserving_size(height, width, 16, budget * 9, 3)
        assert target_size(height, width, budget) == expected


@pytest.mark.reference
@pytest.mark.parametrize("budget", IMAGE_TOKENS)
@pytest.mark.parametrize("size", [(48, 64), (300, 40), (37, 371), (672, 960), (1, 1)])
def test_patches_of_the_reference(size: tuple[int, int], budget: int) -> None:
    image = noise(*size, seed=FIRST)
    pixels, positions = image_patches(image, budget)
    expected, where = reference_patches(image, budget)
    np.testing.assert_array_equal(positions, where)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.reference
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_modes_of_the_reference(mode: str) -> None:
    """Conversion to RGB, transparency over white included."""
    values = np.random.RandomState(FIRST).randint(0, 256, (60, 80, 4)).astype(np.uint8)
    image = Image.fromarray(values)
    image = image.convert(mode) if "A" in mode else image.convert("RGB").convert(mode)
    pixels, _ = image_patches(image, 70)
    np.testing.assert_array_equal(pixels, reference_patches(image, 70)[0])


@pytest.mark.reference
@pytest.mark.parametrize("size", [(120, 160), (900, 500)])
def test_near_torch(size: tuple[int, int]) -> None:
    """Torch's bicubic filter on 8-bit values is at most two steps away."""
    import torch

    image = noise(*size, seed=FIRST)
    height, width = target_size(*size, 70)
    bicubic = {"size": (height, width), "mode": "bicubic", "antialias": True}
    given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    theirs = torch.nn.functional.interpolate(given, **bicubic)[0].permute(1, 2, 0)
    ours = np.rint(np.array(image_patches(image, 70)[0]) * 255)
    ours = ours.reshape(height // 16, width // 16, 16, 16, 3).swapaxes(1, 2)
    apart = np.abs(ours.reshape(height, width, 3) - theirs.numpy())
    assert apart.max() <= 2
    assert (apart > 0).mean() < 0.02
