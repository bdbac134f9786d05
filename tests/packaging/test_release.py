"""What a release is made of: the same bytes twice, and recipes that say what pyproject.toml says."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text("utf-8"))["project"]
BUILD = """
import sys
from hatchling.build import build_sdist, build_wheel
build_wheel(sys.argv[1])
build_sdist(sys.argv[1])
"""


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(tmp_path) -> None:
    sums = []
    for name, umask in (("one", 0o022), ("other", 0o077)):
        tree = tmp_path / name
        kept = shutil.ignore_patterns(".*", "demo", "__pycache__", "*.egg-info")
        before = os.umask(umask)
        try:
            shutil.copytree(ROOT, tree, ignore=kept, copy_function=shutil.copyfile)
        finally:
            os.umask(before)
        subprocess.run(
            [sys.executable, "-c", BUILD, tmp_path / f"{name}-dist"],
            cwd=tree,
            env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"},
            check=True,
        )
        made = sorted((tmp_path / f"{name}-dist").iterdir())
        assert [file.suffix for file in made] == [".whl", ".gz"]
        sums.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in made})
    assert sums[0] == sums[1]


def test_the_conda_recipe_needs_what_the_wheel_needs() -> None:
    recipe = ROOT.joinpath(".conda", "recipe.yaml").read_text("utf-8")
    run = recipe.partition("  run:\n")[2].partition("\ntests:")[0]
    needed = {line.strip("- \n").replace(" ", "") for line in run.splitlines() if line.strip()}
    assert needed == {"python>=${{python_min}}", *PROJECT["dependencies"]}
    version = re.search(r'version: "(.+)"', recipe)
    assert version is not None
    assert version[1] in ROOT.joinpath("sdk", "embedge", "_version.py").read_text("utf-8")


def test_classifiers_are_what_runs_here() -> None:
    versions = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in versions
