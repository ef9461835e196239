"""What is asked for a transcription, and how its answer reads.

The prompts are Google's, from the Gemma 4 model card, word for word: the model was
trained with them, and the card puts the sound after them.
"""

import re

FORMAT = (
    "Follow these specific instructions for formatting the answer:\n"
    "* Only output the transcription, with no newlines.\n"
    "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point "
    "seven, and write 3 instead of three."
)


def transcription_prompt(language: str | None = None, target: str | None = None) -> str:
    """What to ask for. Languages by their English names; None is as spoken.

    `target`: the language to translate into as well.
    """
    spoken = language or "its original language"
    if target:
        original = language or "the original language"
        return (
            f"Transcribe the following speech segment in {spoken}, then translate it "
            f"into {target}.\nWhen formatting the answer, first output the "
            f"transcription in {original}, then one newline, then output the string "
            f"'{target}: ', then the translation in {target}."
        )
    if language:
        task = f"Transcribe the following speech segment in {spoken} into {spoken} text"
        return f"{task}.\n\n{FORMAT}"
    return f"Transcribe the following speech segment in {spoken}. {FORMAT}"


def split_translation(answer: str, target: str) -> tuple[str, str]:
    """The two parts of an answer: `transcription, newline, Target: translation`."""
    mark = re.compile(rf"(?:^|\n)\s*{re.escape(target)}\s*:\s*", re.IGNORECASE)
    parts = mark.split(answer.strip(), maxsplit=1)
    if len(parts) == 1:
        parts = answer.strip().split("\n", maxsplit=1)
    return parts[0].strip(), parts[1].strip() if len(parts) == 2 else ""
