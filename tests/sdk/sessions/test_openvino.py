"""OpenVINO where it is not: what is missing is named, nothing of a graph runs elsewhere, the precision is stated."""

from __future__ import annotations

import json
from types import ModuleType, SimpleNamespace

import msgspec
import pytest
from tests.sdk.sessions.fake_devices import FakeRuntime
from tests.sdk.sessions.graphs import some_graph

from embedge import BundleError, EdgeModel, ParamsError, ProviderUnavailableError
from embedge._engine import variant as _variant
from embedge._engine.variant import choose_variant, suiting
from embedge._sessions import loading as _loading
from embedge._sessions import openvino as _openvino
from embedge._sessions.devices import CPU, Device, find_devices
from embedge._sessions.loading import check_placement
from embedge._sessions.openvino import OPENVINO, has_bfloat16, openvino_settings
from embedge.bundle import open_bundle
from embedge.cli.main import main
from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle


def of_plugin(name: str, ov_device: str, vendor: str = "Intel") -> SimpleNamespace:
    metadata = {"ov_device": ov_device, "library_path": "/plugin.so"}
    return SimpleNamespace(ep_name=name, ep_metadata=metadata, device=SimpleNamespace(vendor=vendor))


@pytest.fixture
def plugin(monkeypatch):
    """Install a plugin, or none."""

    def use(installed: bool = True):
        def load(name):
            if not installed:
                raise ImportError(name)
            made = ModuleType(name)
            made.get_library_path = lambda: "/plugin.so"
            return made

        monkeypatch.setattr(_openvino, "import_module", load)

    return use


@pytest.mark.parametrize(
    ("installed", "fake", "words"),
    [
        (False, {}, 'no plugin onnxruntime_ep_openvino is installed.*pip install "embedge.openvino."'),
        (True, {}, "onnxruntime 9.9 takes no plugins; expected 1.23"),
        (True, {"registers": RuntimeError("no libtbb")}, "its plugin does not load: no libtbb"),
        (
            True,
            {"registers": [of_plugin(CPU, "", "AMD")]},
            "no device of Intel's here; the hardware is of AMD",
        ),
    ],
)
def test_what_is_missing_is_named(runtime, plugin, installed, fake, words) -> None:
    plugin(installed)
    runtime(**fake)
    with pytest.raises(ProviderUnavailableError, match=f"device='openvino' cannot be used: .*{words}"):
        find_devices("OpenVINO")


def test_the_plugin_is_registered_and_asked_for_its_devices(runtime, plugin) -> None:
    plugin()
    runtime(registers=[of_plugin(OPENVINO, "CPU"), of_plugin(OPENVINO, "GPU")])
    (found,) = find_devices("openvino")
    assert (found.name, found.execution_provider, found.reason) == ("openvino", OPENVINO, "asked for")
    (found,) = find_devices(["openvino"], {"device_type": "GPU"})
    assert "untested" in found.reason
    with pytest.raises(
        ProviderUnavailableError, match="device_type='NPU' is not there; OpenVINO finds CPU, GPU"
    ):
        find_devices("openvino", {"device_type": "NPU"})


def test_an_onnxruntime_that_has_it_needs_no_plugin(runtime) -> None:
    runtime(offered=(OPENVINO, CPU))
    (found,) = find_devices("openvino", {"device_type": "GPU"})
    assert found.options == (("device_type", "GPU"),)


def test_the_device_that_was_asked_for_is_taken(tmp_path, monkeypatch) -> None:
    made = FakeRuntime(tmp_path)
    made._register([of_plugin(OPENVINO, "CPU"), of_plugin(OPENVINO, "GPU")], "/plugin.so")
    monkeypatch.setattr("embedge._sessions.onnxruntime.import_onnxruntime", lambda: made)
    added = []
    options = SimpleNamespace(add_provider_for_devices=lambda *each: added.append(each))
    for given, wanted in (((), "CPU"), ((("device_type", "GPU"), ("load_config", "{}")), "GPU")):
        device = Device(kind="openvino", options=given)
        assert _loading._providers(device, options, None, capture=False) == {}
        (chosen,), settings = added.pop()
        assert chosen.ep_metadata["ov_device"] == wanted
        assert settings == {name: value for name, value in given if name != "device_type"}


def session_of(**nodes: int) -> SimpleNamespace:
    parts = [
        SimpleNamespace(
            ep_name=name, get_nodes=lambda n=n: [SimpleNamespace(op_type="MultiHeadAttention")] * n
        )
        for name, n in nodes.items()
    ]
    return SimpleNamespace(
        get_providers=lambda: [OPENVINO, CPU], get_provider_graph_assignment_info=lambda: parts
    )


@pytest.mark.parametrize("providers", [[CPU], [OPENVINO, CPU]])
def test_settings_that_were_asked_for_are_doubted_before_the_installation(providers) -> None:
    """`GPU` where there is none makes one onnxruntime fall back, `XPU` makes it take no node."""
    session = session_of(**{CPU: 9})
    session.get_providers = lambda: providers
    settings = openvino_settings({"device_type": "XPU"}, threads=1, bfloat16=False)
    asked = Device(kind="openvino", options=tuple(settings.items()))
    with pytest.raises(ProviderUnavailableError) as caught:
        check_placement(session, asked, some_graph())
    assert "It was asked with provider_options={'device_type': 'XPU'}; expected names" in str(caught.value)
    assert "nstall" not in str(caught.value)
    plain = Device(kind="openvino", options=(("load_config", "{}"),))
    with pytest.raises(ProviderUnavailableError, match="Install its plugin|Use another variant"):
        check_placement(session, plain, some_graph())


def test_a_graph_runs_on_it_whole_or_not_at_all() -> None:
    device, graph = Device(kind="openvino"), some_graph()
    assert check_placement(session_of(**{OPENVINO: 9}), device, graph) == {OPENVINO: 9}
    with pytest.raises(
        ProviderUnavailableError, match=r"took 7 of the 9 nodes of .*, not MultiHeadAttention\. Use"
    ):
        check_placement(session_of(**{OPENVINO: 7, CPU: 2}), device, graph)
    untold = SimpleNamespace(get_providers=lambda: [OPENVINO, CPU])
    with pytest.raises(ProviderUnavailableError, match="does not tell which nodes OpenVINO took"):
        check_placement(untold, device, graph)


def test_precision_and_threads_are_stated_beside_what_the_caller_states() -> None:
    made = openvino_settings({}, threads=3, bfloat16=False)
    assert json.loads(made["load_config"]) == {
        "CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "3"}
    }
    given = {"load_config": '{"CPU": {"INFERENCE_NUM_THREADS": "1"}}', "cache_dir": "x"}
    made = openvino_settings(given, threads=3, bfloat16=True)
    assert made["cache_dir"] == "x"
    assert json.loads(made["load_config"]) == {
        "CPU": {"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "bf16"}
    }
    made = openvino_settings({"device_type": "GPU"}, threads=3, bfloat16=False)
    assert json.loads(made["load_config"]) == {"GPU": {"INFERENCE_PRECISION_HINT": "f32"}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"precision": "FP16"}, "state a precision, which the variant does"),
        ({"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}'}, "state a precision"),
        ({"load_config": "settings.json"}, "expected JSON of settings by device"),
        ({"load_config": "[1]"}, "expected JSON of settings by device"),
        ({"load_config": '{"CPU": 1}'}, "expected JSON of settings by device"),
    ],
)
def test_what_would_change_the_numbers_is_refused(given, words) -> None:
    with pytest.raises(ParamsError, match=words):
        openvino_settings(given, threads=1, bfloat16=False)


@pytest.fixture
def bundle(tmp_path):
    """Of variants for OpenVINO, that nobody measured."""
    tiny_bundle(tmp_path)
    fp32 = load_manifest(tmp_path).variants["fp32"]
    made = msgspec.structs.replace(
        fp32, target="openvino", fidelity=msgspec.structs.replace(fp32.fidelity, num_texts=0)
    )
    variants = {
        "fp32": fp32,
        "bf16_openvino": msgspec.structs.replace(made, dtype="bfloat16"),
        "fp32_openvino": made,
    }
    tiny_bundle(tmp_path, changes={"variants": variants})
    return tmp_path


def test_the_variants_that_are_made_for_it_are_taken(bundle, tmp_path_factory, monkeypatch, capsys) -> None:
    manifest = load_manifest(bundle)
    found = choose_variant(manifest, "auto", "openvino")
    assert found.name == "fp32_openvino"
    assert "no OpenVINO could measure it" in found.reason
    assert choose_variant(manifest, "fp32", "openvino").name == "fp32"  # may be of operators that it takes
    for there in (True, False):
        monkeypatch.setattr(_variant, "has_bfloat16", lambda there=there: there)
        assert ("bf16_openvino" in suiting(manifest, "openvino")) is there
    with pytest.raises(ParamsError, match="needs a processor that multiplies in bfloat16"):
        choose_variant(manifest, "bf16_openvino", "openvino")
    with pytest.raises(ParamsError, match="only openvino has"):
        EdgeModel(bundle, device="cpu", variant="bf16_openvino")
    alone = open_bundle(tiny_bundle(tmp_path_factory.mktemp("alone"))).manifest
    with pytest.raises(BundleError, match="no variant for openvino; it has fp32.*--optimize-for openvino"):
        choose_variant(alone, "auto", "openvino")
    assert main(["verify", str(bundle), "--device", "cpu"]) == 0
    assert "fp32_openvino: not replayed, as only openvino has its operators" in capsys.readouterr().out


def test_bfloat16_is_what_the_processor_says(monkeypatch) -> None:
    for features, expected in ((("avx2", "amx_bf16"), True), (("avx512_bf16",), True), (("avx512f",), False)):
        monkeypatch.setattr(_openvino, "cpu_features", lambda features=features: features)
        assert has_bfloat16() is expected
