"""Kill conversions at random moments, run them again, and compare every byte.

    python benchmarks/convert_kill.py [--gb 0.6] [--trials 20] [--seed 0]

One undisturbed conversion is the reference. In every trial the process gets SIGKILL
once to three times, at moments drawn from the length of the reference, with blocks of
changing sizes; then it may end. Exit code 1 if a single file differs.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from convert_speed import ROOT, source

SHARD_BYTES = 15 * 10**6  # many files, so that every stage of one is met
BLOCKS = (2**20, 3_333_333, 8 * 2**20, 64 * 2**20)


def convert(folder: Path, out: Path, block_bytes: int) -> None:
    """What the killed process does; prints once that the work begins, once its end."""
    from mlx_gemma4.convert import job
    from mlx_gemma4.convert.survey import Wishes

    plan = job.plan_folder(folder, Wishes(), "random")
    print("begun", flush=True)
    result = job.run(
        folder,
        out,
        plan,
        "random",
        lambda count: None,
        block_bytes=block_bytes,
        shard_bytes=SHARD_BYTES,
    )
    state = {"resumed": result.resumed, "complete": result.complete_before}
    print(json.dumps(state), flush=True)


def start(folder: Path, out: Path, block_bytes: int) -> subprocess.Popen[str]:
    """A conversion whose planning is over."""
    command = [sys.executable, __file__, "--work", folder, out, str(block_bytes)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "begun\n"
    return process


def end(process: subprocess.Popen[str]) -> dict[str, bool]:
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit("A conversion failed; see above.")
    return json.loads(said)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def clean(out: Path) -> None:
    for path in (out, out.with_name(out.name + ".partial")):
        shutil.rmtree(path, ignore_errors=True)


def trial(
    rng: random.Random, folder: Path, out: Path, seconds: float
) -> tuple[int, dict[str, bool]]:
    """Kills, then lets a conversion end. Returns the kills that came in time."""
    kills = 0
    for _ in range(rng.choice((1, 1, 2, 3))):
        process = start(folder, out, rng.choice(BLOCKS))
        time.sleep(rng.uniform(0, seconds))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    return kills, end(start(folder, out, rng.choice(BLOCKS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=0.6)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        folder, out, block_bytes = options.work
        convert(Path(folder), Path(out), int(block_bytes))
        return
    folder, out = source(options.gb), ROOT / "converted-after-kills"
    clean(out)
    process, begun = start(folder, out, BLOCKS[2]), time.perf_counter()
    end(process)
    seconds, wanted = time.perf_counter() - begun, digests(out)
    print(f"undisturbed: {seconds:.1f} s, {len(wanted)} files", flush=True)
    rng, different = random.Random(options.seed), 0
    for number in range(options.trials):
        clean(out)
        kills, state = trial(rng, folder, out, seconds)
        same = (
            digests(out) == wanted and not out.with_name(out.name + ".partial").exists()
        )
        different += not same
        verdict = "identical" if same else "DIFFERENT"
        print(f"{number + 1:3}: {kills} kills, {state}, {verdict}", flush=True)
    clean(out)
    print(f"{options.trials - different} of {options.trials} identical")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
