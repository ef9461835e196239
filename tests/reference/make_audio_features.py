"""Writes tests/fixtures/audio_features.npz: the reference's log-mel frames.

    PYTHONPATH=tests/support python tests/reference/make_audio_features.py

`frames-N` and `mask-N` belong to the N samples of `sounds.recording(N)`.
"""

import numpy as np
from make_fixtures import save
from sounds import recording
from transformers import Gemma4AudioFeatureExtractor

LENGTHS = (161, 1440, 4001)  # the second has a frame that reaches past its end


def main() -> None:
    extract = Gemma4AudioFeatureExtractor()
    arrays: dict[str, np.ndarray] = {}
    for length in LENGTHS:
        result = extract([recording(length)], return_tensors="np")
        arrays[f"frames-{length}"] = result["input_features"][0]
        arrays[f"mask-{length}"] = result["input_features_mask"][0]
    save("audio_features", arrays)


if __name__ == "__main__":
    main()
