"""Kill conversions at random moments, run them again, and compare every byte.

    python benchmarks/convert_kill.py [--gb 0.6] [--trials 20] [--seed 0]

One undisturbed conversion is the reference. In every trial the process gets SIGKILL
once to three times, after a random share of the work and some milliseconds, with
blocks of changing sizes; then it may end. Exit code 1 if a single file differs.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from convert_speed import source
from programs import BUILD

SHARD_BYTES = 15 * 10**6  # many files, so that every stage of one is met
DELAY = 0.1  # seconds
BLOCKS = (2**20, 3_333_333, 8 * 2**20, 64 * 2**20)


def convert(folder: Path, out: Path, block_bytes: int) -> None:
    """What the killed process does; prints the share that is done, then the end."""
    from mlx_gemma4.convert import job
    from mlx_gemma4.convert.survey import Wishes

    plan = job.plan_folder(folder, Wishes(), "random")
    left = sum(tensor.source_bytes for tensor in job.left_to_do(plan, out))
    done = plan.source_bytes - left

    def advance(count: int) -> None:
        nonlocal done
        done += count
        print(done / plan.source_bytes, flush=True)

    advance(0)
    result = job.run(
        folder,
        out,
        plan,
        "random",
        advance,
        block_bytes=block_bytes,
        shard_bytes=SHARD_BYTES,
    )
    state = {"resumed": result.resumed, "complete": result.complete_before}
    print(json.dumps(state), flush=True)


def start(folder: Path, out: Path, block_bytes: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--work", folder, out, str(block_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str], share: float, delay: float) -> bool:
    """Kills after that share of the work and so many seconds; whether in time."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith("{") or float(line) >= share:
            break
    time.sleep(delay)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def end(process: subprocess.Popen[str]) -> dict[str, bool]:
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit("A conversion failed; see above.")
    return json.loads(said.splitlines()[-1])


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def clean(out: Path) -> None:
    for path in (out, out.with_name(out.name + ".partial")):
        shutil.rmtree(path, ignore_errors=True)


def trial(rng: random.Random, folder: Path, out: Path) -> tuple[int, dict[str, bool]]:
    """Kills, then lets a conversion end. Returns the kills that came in time."""
    kills = 0
    for _ in range(rng.choice((1, 1, 2, 3))):
        process = start(folder, out, rng.choice(BLOCKS))
        kills += kill(process, rng.uniform(0, 1), rng.uniform(0, DELAY))
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
    folder, out = source(options.gb), BUILD / "converted-after-kills"
    clean(out)
    process, begun = start(folder, out, BLOCKS[2]), time.perf_counter()
    end(process)
    seconds, wanted = time.perf_counter() - begun, digests(out)
    print(f"undisturbed: {seconds:.1f} s, {len(wanted)} files", flush=True)
    rng, different = random.Random(options.seed), 0
    for number in range(options.trials):
        clean(out)
        kills, state = trial(rng, folder, out)
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
