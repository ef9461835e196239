"""How the pixels of a picture become numbers: the constants of a checkpoint.

Kept apart from the arithmetic, so that reading a configuration does not import Pillow.
"""

from dataclasses import dataclass

from ..reading.section import Section

FILTERS = 6  # of Pillow: nearest, Lanczos, bilinear, bicubic, box, Hamming
Colour = tuple[float, float, float]
# Stated by checkpoints, and read by nobody: the budget of soft tokens decides on sizes,
# and every picture is handled by itself.
UNUSED = (
    *("size", "default_to_square", "crop_size", "pad_size", "image_seq_length"),
    *("processor_class", "return_metadata", "return_tensors", "disable_grouping"),
    *("data_format", "device"),
)


@dataclass(frozen=True)
class PixelConfig:
    """With the names of processor_config.json, what is switched off at its neutral
    value: a picture is resized with the filter `resample` (Pillow's number), and a
    value v of 0 to 255 becomes `(v * rescale_factor - image_mean) / image_std`.
    """

    resample: int = 3
    rescale_factor: float = 1 / 255
    image_mean: Colour = (0.0, 0.0, 0.0)
    image_std: Colour = (1.0, 1.0, 1.0)

    @classmethod
    def from_section(cls, section: Section, normalized: bool) -> "PixelConfig":
        """What an image_processor or video_processor states; defaults for the rest.

        normalized: whether the mean counts where `do_normalize` is not stated.
        Raises CheckpointError for values that make no sense or are not supported.
        """
        section.pass_over(*UNUSED)
        if not section.flag("do_resize", True):
            section.refuse("do_resize", ": pictures as they are, are not supported")
        if not section.flag("do_convert_rgb", True):
            section.refuse("do_convert_rgb", ": other colours than RGB, unsupported")
        factor = section.number("rescale_factor", cls.rescale_factor, above=0)
        mean = _colour(section, "image_mean", cls.image_mean)
        std = _colour(section, "image_std", cls.image_std, divisors=True)
        if not section.flag("do_normalize", normalized):
            mean, std = cls.image_mean, cls.image_std
        return cls(
            section.whole("resample", cls.resample, least=0, most=FILTERS - 1),
            factor if section.flag("do_rescale", True) else 1.0,
            mean,
            std,
        )


def _colour(
    section: Section, key: str, default: Colour, divisors: bool = False
) -> Colour:
    """One number for each colour, or one for all."""
    values = section.numbers(key, 3, single=True, divisors=divisors)
    return default if values is None else (values[0], values[1], values[2])
