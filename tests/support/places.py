"""Where the tests find what is not code: fixtures, assets, examples, benchmarks."""

from importlib.resources import files
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
FIXTURES = TESTS / "fixtures"
REAL = FIXTURES / "real"  # files of published checkpoints
RESAVED = FIXTURES / "resaved"  # their configurations, as the reference re-saves them
DEMO = Path(str(files("mlx_gemma4.assets"))) / "demo"  # as installed
SHAPES = ROOT / "assets" / "shapes.png"
EXAMPLES = ROOT / "examples"
CAPTAIN = EXAMPLES / "captain"
BENCHMARKS = ROOT / "benchmarks"
