"""PyLate's residual Dense: refused, since leaving the residual out would change every score without a word."""

from __future__ import annotations

import pytest
from tests.checkpoints import make

from embedge import ExportError
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec


def test_a_residual_dense_is_refused(tmp_path) -> None:
    checkpoint = make("colbert-residual", tmp_path / "checkpoint")
    with pytest.raises(ExportError, match="use_residual"):
        export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()
