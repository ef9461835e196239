"""A process that is measured: `programs.start` starts it.

    python worker.py FOLDER JOB ARGUMENT…

FOLDER holds child.py of mlx_gemma4.bench: the package itself would bring this project
into every program that is measured. JOB is the module here whose `run` does the rest.
"""

import importlib
import sys

sys.path.append(sys.argv[1])
answers = importlib.import_module("child").answers

if __name__ == "__main__":
    answer = answers()
    importlib.import_module(sys.argv[2]).run(answer, *sys.argv[3:])
