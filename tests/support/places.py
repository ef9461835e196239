"""Where the tests find what is not code: fixtures, assets, examples, benchmarks."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
FIXTURES = TESTS / "fixtures"
REAL = FIXTURES / "real"  # files of published checkpoints
RESAVED = FIXTURES / "resaved"  # their configurations, as the reference re-saves them
DEMO = ROOT / "assets" / "demo"
SHAPES = ROOT / "assets" / "shapes.png"
CAPTAIN = ROOT / "examples" / "captain"
BENCHMARKS = ROOT / "benchmarks"
