"""What `help` says of each verb stands on its own."""

from __future__ import annotations

import inspect
import re

import pytest

from embedge import EdgeModel

VERBS = [
    name
    for name, each in vars(EdgeModel).items()
    if callable(each) and not name.startswith("_") and inspect.isfunction(each)
]


def described(name: str) -> dict[str, str]:
    """What is said of each argument, white space folded."""
    text = inspect.getdoc(getattr(EdgeModel, name)) or ""
    args = re.search(r"\nArgs:\n(.*?)(?=\n\n|\Z)", text, re.DOTALL)
    if args is None:
        return {}
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", args[1], re.DOTALL | re.MULTILINE)
    return {parameter: " ".join(said.split()) for parameter, said in found}


@pytest.mark.parametrize("name", VERBS)
def test_every_argument_of_a_verb_is_described_there(name) -> None:
    parameters = list(inspect.signature(getattr(EdgeModel, name)).parameters)[1:]
    said = described(name)
    assert list(said) == parameters
    assert not [each for each in said.values() if re.match(r"(see|as for) `", each)]
    assert "those of `" not in (inspect.getdoc(getattr(EdgeModel, name)) or "")


@pytest.mark.parametrize("name", VERBS)
def test_what_verbs_share_is_described_alike(name) -> None:
    for parameter, text in described(name).items():
        if parameter in ("truncation_side", "use_tqdm", "progress", "cancel", "long_text", "tower"):
            others = {described(other)[parameter] for other in VERBS if parameter in described(other)}
            assert len(others) <= 2, (parameter, text, others)  # tokenize has a shorter word for the tower
