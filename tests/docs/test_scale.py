"""The page that plans many texts is what its command prints."""

import subprocess
import sys

from tests.docs.reading import ROOT


def test_the_page_is_what_its_command_prints() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    page = ROOT / "docs" / "guides" / "scale.md"
    assert page.read_text("utf-8") == told, "python -m benchmarks.scale > docs/guides/scale.md"


def test_a_plan_follows_what_is_assumed() -> None:
    from benchmarks.scale import Assumed

    assumed = Assumed(texts=86_400_000, days=1, busy=0.5, core_hour=1, gpu_hour=1)
    assert assumed.units(100) == 20  # 86,400 s at 50 texts each
    assert assumed.units(101) == 20
    assert assumed.units(99) == 21
    assert round(assumed.hours_per_million(100), 3) == 5.556
