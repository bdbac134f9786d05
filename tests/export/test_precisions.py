"""The table of precisions is complete: whatever may be asked for can be made, judged and put in words."""

import typing

import pytest

from embedge.manifest import Dtype, Target
from embedge_export.precisions import CUDA_VARIANTS, STORED_AS, VARIANTS
from embedge_export.variants import compressed, cuda


def test_every_precision_of_a_manifest_has_a_row():
    assert set(STORED_AS) == set(typing.get_args(Dtype))
    assert {each.dtype for each in VARIANTS.values()} == set(STORED_AS)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_made(name):
    variant = VARIANTS[name]
    assert variant.name == name
    assert variant.target in typing.get_args(Target)
    if variant.target == "cuda":
        assert variant.dtype in cuda._CHOICES
        # where no GPU is, its probes need a tolerance all the same
        assert variant.stored.unmeasured_share is not None
    elif variant.target == "openvino":
        assert variant.dtype in ("float32", "bfloat16")
    elif name != "fp32":
        assert variant.dtype in compressed._MAKERS


def test_coarser_precisions_are_smaller_and_may_differ_by_more():
    rows = list(STORED_AS.values())
    assert [row.size_share for row in rows] == sorted((row.size_share for row in rows), reverse=True)
    assert [row.given_tolerance for row in rows] == sorted(row.given_tolerance for row in rows)


def test_files_are_named_after_the_variant():
    assert (VARIANTS["fp32"].stem, VARIANTS["int8"].stem) == ("model", "model_int8")
    assert CUDA_VARIANTS == ("fp16_cuda", "bf16_cuda")


def test_what_overflows_is_replaced_by_what_does_not():
    assert {name: each.stand_in for name, each in VARIANTS.items() if each.stand_in} == {
        "fp16_cuda": "bf16_cuda"
    }
