"""In the process of one program: one conversion to its default 4 bits."""

from collections.abc import Callable
from pathlib import Path

from child import Stopwatch, peak_rss


def run(answer: Callable[[object], None], name: str, folder: str, out: str) -> None:
    """Answers with seconds of the conversion, without imports, and bytes."""
    if name == "mlx-lm":
        from mlx_lm import convert as theirs

        def convert() -> None:
            theirs(folder, out, quantize=True)
    else:
        from mlx_gemma4.convert import job
        from mlx_gemma4.convert.survey import Wishes

        def convert() -> None:
            plan = job.plan_folder(Path(folder), Wishes(), "random")
            job.run(Path(folder), Path(out), plan, "random", lambda count: None)

    watch = Stopwatch()
    convert()
    answer({**vars(watch.read()), "rss": peak_rss()})
