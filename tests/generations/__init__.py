"""Checkpoints saved by one generation of the libraries and exported under another: the same numbers.

    python -m tests.generations              # every case, as a table; the last line is JSON
    python -m tests.generations --short      # what the tests run

Today is the environment that runs this, yesterday is .venvs/optimum: transformers 4 and sentence-transformers 5. Each
saves every checkpoint and writes down what its own library answers; then each exports both.
"""
