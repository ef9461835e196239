"""Where the tests find what is not code: fixtures, assets, examples, benchmarks."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
FIXTURES = TESTS / "fixtures"
CONFIGS = FIXTURES / "configs"
SHAPES = ROOT / "assets" / "shapes.png"
CAPTAIN = ROOT / "examples" / "captain"
BENCHMARKS = ROOT / "benchmarks"
