"""How sound is cut into frames, and how many: the constants of a checkpoint.

Kept apart from the arithmetic on samples, so that reading a configuration does not
import NumPy.
"""

import math
from dataclasses import dataclass

from ..reading.section import Section

FRAMES_PER_TOKEN = 4  # the tower's two convolutions of stride 2
EXTRACTORS = ("Gemma4AudioFeatureExtractor", "Gemma4UnifiedAudioFeatureExtractor")
FRAME_MS, HOP_MS = 20.0, 10.0
LONGEST_MS = 1000.0  # of a frame
LONGEST = 480_000  # samples: the reference cuts off what comes after them
# Say nothing about the features of one recording. The last two are mlx-vlm's.
UNUSED = ("processor_class", "return_attention_mask")
UNUSED += ("chunk_duration", "overlap_duration")
# Of frames, which mlx-vlm states also where there are none.
OF_FRAMES = ("fft_length", "hop_length", "num_mel_filters")


@dataclass(frozen=True)
class AudioFeatureConfig:
    """How sound becomes frames, with the names of processor_config.json.

    Lengths in samples, frequencies in hertz. `audio_seq_length` is the most soft tokens
    one recording may have; the rest is what every published checkpoint states.
    """

    sampling_rate: int = 16_000
    feature_size: int = 128
    frame_length: int = 320
    hop_length: int = 160
    fft_length: int = 512
    min_frequency: float = 0.0
    max_frequency: float = 8000.0
    preemphasis: float = 0.0
    preemphasis_htk_flavor: bool = True
    input_scale_factor: float = 1.0
    mel_floor: float = 1e-3
    per_bin_mean: tuple[float, ...] | None = None
    per_bin_stddev: tuple[float, ...] | None = None
    audio_seq_length: int = 750

    @classmethod
    def from_section(
        cls, section: Section, audio_seq_length: int = 750
    ) -> "AudioFeatureConfig":
        """What a feature_extractor states; defaults for the rest.

        Raises CheckpointError for values that make no sense or are not supported.
        """
        section.pass_over(*UNUSED)
        _check_kind(section, EXTRACTORS[0])
        if section.number("dither", 0.0):
            section.refuse("dither", "; adding noise is not supported")
        rate = section.whole("sampling_rate", cls.sampling_rate)
        frame = _samples(section, "frame_length", rate, FRAME_MS)
        hop = _samples(section, "hop_length", rate, HOP_MS)
        doubled = section.flag("fft_overdrive", False)
        fft = 2 ** ((frame - 1).bit_length() + doubled)
        told = f", but frames of {frame} samples, fft_overdrive {doubled}, need {fft}"
        section.must_be("fft_length", fft, otherwise=told)
        low = section.number("min_frequency", cls.min_frequency, least=0)
        high = section.number("max_frequency", cls.max_frequency)
        if low >= high:
            wrong = "min_frequency" if "min_frequency" in section.values else None
            section.refuse(
                wrong or "max_frequency", f": {low:g} to {high:g} is not a range"
            )
        bins = section.whole("feature_size", cls.feature_size)
        told = f", but the features have {bins} bins"
        section.must_be("num_mel_filters", bins, otherwise=told)  # mlx-vlm's name
        spread = section.numbers("per_bin_stddev", bins, divisors=True)
        flavor = section.flag("preemphasis_htk_flavor", cls.preemphasis_htk_flavor)
        return cls(
            sampling_rate=rate,
            feature_size=bins,
            frame_length=frame,
            hop_length=hop,
            fft_length=fft,
            min_frequency=low,
            max_frequency=high,
            preemphasis=section.number("preemphasis", cls.preemphasis, least=0),
            preemphasis_htk_flavor=flavor,
            input_scale_factor=section.number("input_scale_factor", 1.0),
            mel_floor=section.number("mel_floor", cls.mel_floor, above=0),
            per_bin_mean=section.numbers("per_bin_mean", bins),
            per_bin_stddev=spread,
            audio_seq_length=audio_seq_length,
        )

    @property
    def max_samples(self) -> int:
        """The longest recording the model takes at once."""
        return min(self.audio_seq_length * FRAMES_PER_TOKEN * self.hop_length, LONGEST)

    @property
    def piece_seconds(self) -> float:
        """How long a piece of a recording is that is heard bit by bit."""
        return self.max_samples / self.sampling_rate

    @property
    def longest_seconds(self) -> float:
        """How long such a piece can be: no longer."""
        return self.piece_seconds

    def soft_tokens(self, samples: int) -> int:
        return math.ceil(valid_frames(samples, self) / FRAMES_PER_TOKEN)


@dataclass(frozen=True)
class AudioSampleConfig:
    """How sound becomes soft tokens where there is no tower: by so many samples each.

    `audio_seq_length` of them make a piece of a long recording; a model without a tower
    hears any length, but this is what its checkpoint has in view.
    """

    sampling_rate: int = 16_000
    audio_samples_per_token: int = 640
    audio_seq_length: int = 750

    @classmethod
    def from_section(
        cls, section: Section, audio_seq_length: int = 750, usual: int = 640
    ) -> "AudioSampleConfig":
        """What a feature_extractor states; defaults for the rest, `usual` samples.

        Raises CheckpointError for values that make no sense or are not supported.
        """
        section.pass_over(*UNUSED, *OF_FRAMES)
        _check_kind(section, EXTRACTORS[1])
        size = section.whole("audio_samples_per_token", usual)
        told = f", but a soft token has {size} samples"
        section.must_be("feature_size", size, otherwise=told)
        rate = section.whole("sampling_rate", cls.sampling_rate)
        return cls(rate, size, audio_seq_length)

    @property
    def piece_seconds(self) -> float:
        """How long a piece of a recording is that is heard bit by bit."""
        samples = self.audio_seq_length * self.audio_samples_per_token
        return samples / self.sampling_rate

    @property
    def longest_seconds(self) -> float:
        """How long such a piece can be: as long as the context, which counts tokens."""
        return math.inf

    def soft_tokens(self, samples: int) -> int:
        return math.ceil(samples / self.audio_samples_per_token)


def _check_kind(section: Section, extractor: str) -> None:
    """Refuse what other programs would do to the sound, and this one does not."""
    told = f", not {extractor!r}"
    section.must_be("feature_extractor_type", extractor, otherwise=told)
    told = "; only 'right' is supported"
    section.must_be("padding_side", "right", otherwise=told)
    section.number("padding_value", 0.0)  # masked, or of no sample, whatever it is


def _samples(section: Section, key: str, rate: int, usual: float) -> int:
    """A length that a file states in milliseconds, in samples too, or not at all."""
    stated = f"{key}_ms"
    milliseconds = section.number(stated, usual, above=0, most=LONGEST_MS)
    samples = round(rate * milliseconds / 1000)
    if samples < 1:
        wrong = stated if stated in section.values else "sampling_rate"
        section.refuse(wrong, f": no sample long at sampling_rate {rate}")
    # The reference saves the samples and, on loading, goes by the milliseconds alone.
    told = f", but {stated} {milliseconds:g} at sampling_rate {rate} makes it {samples}"
    section.must_be(key, samples, otherwise=told)
    return samples


def valid_frames(samples: int, config: AudioFeatureConfig) -> int:
    """How many frames lie wholly within a recording of so many samples."""
    # One sample more than a frame has to be there: pre-emphasis looks back by one.
    past = samples + config.frame_length // 2 - (config.frame_length + 1)
    return max(past // config.hop_length + 1, 0)
