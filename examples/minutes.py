"""A recording of a meeting to its minutes: what was said, with times, and a summary.

    python examples/minutes.py meeting.m4a -m e4b -o minutes.md

The recording may be of any length: it is heard piece by piece.
"""

import argparse
import sys
from pathlib import Path

from mlx_gemma4 import generate, load
from mlx_gemma4.audio.files import read_audio
from mlx_gemma4.errors import MediaError
from mlx_gemma4.recordings.transcribe import transcribe

TASK = """Write the minutes of this meeting in Markdown, in the language that is spoken:
a short summary, then the decisions, then who does what until when. Say nothing that is
not in the transcript.

"""


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02}:{rest:02}"


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("recording", type=Path)
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    try:
        samples = read_audio(options.recording)
    except MediaError as error:
        sys.exit(str(error))
    model, processor = load(options.model)
    said = []
    for segment in transcribe(model, processor, samples):
        said.append(f"[{clock(segment.start)}] {segment.text}")
        print(said[-1], file=sys.stderr)

    transcript = "\n".join(said)
    minutes = generate(model, processor, TASK + transcript, temperature=0)
    text = f"# Minutes\n\n{minutes.text}\n\n## Transcript\n\n{transcript}\n"
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
