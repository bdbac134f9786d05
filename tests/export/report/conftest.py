"""One embedder with its report, for the tests of both pages."""

import pytest
from tests.export.report.reported import reported


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return folder, *reported(folder, "embed")
