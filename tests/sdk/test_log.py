"""What is logged, and that a program which does not log is spared the import."""

from __future__ import annotations

import logging
import subprocess
import sys

from embedge import EdgeModel, _log


def test_a_load_is_told_to_who_listens(tiny, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="embedge"):
        EdgeModel(tiny(), device="cpu").close()
    (record,) = (each for each in caplog.records if each.message.startswith("loaded "))
    assert record.name == "embedge"
    assert record.module == "loading"


def test_a_program_that_does_not_log_does_not_import_logging(tiny) -> None:
    program = (
        "import sys\n"
        "from embedge import EdgeModel\n"
        "EdgeModel(sys.argv[1], device='cpu').embed('one').numpy()\n"
        "print('logging' in sys.modules)\n"
        "from embedge import _log\n"
        "_log.warning('told %s', 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny())], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    assert done.stderr == "told 1\n"


def test_a_warning_names_who_warns(caplog) -> None:
    _log.warning("told %s", 1)
    (record,) = caplog.records
    assert (record.name, record.message, record.module) == ("embedge", "told 1", "test_log")
