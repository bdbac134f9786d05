"""Language models of every family as rerankers, held against transformers' own logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.checkpoints import make as make_checkpoint
from tests.export import tiny_kinds
from tests.export.architectures import make
from tests.export.graph.built.test_cuda import fill
from tests.families.groups import BUILT
from tests.families.tiny import TINY

from embedge.errors import ExportError
from embedge_export.families.table import FAMILIES
from embedge_export.graph.outputs import attach_heads
from embedge_export.graph.route import build_from_weights, choose_route
from embedge_export.source.read import open_checkpoint
from embedge_export.source.torch_model import quiet
from embedge_export.source.weights import load_weights
from embedge_export.spec import ExportSpec
from embedge_export.verify.in_numpy import InNumpy


def has_class(name: str) -> bool:
    import transformers

    return hasattr(transformers, f"{TINY[name].classes}ForCausalLM")


DECODERS = [name for name in BUILT if FAMILIES[name].pooling == "LAST" and has_class(name)]
NAMES = [name for name in DECODERS if FAMILIES[name].head is None]
PROMPTS = ("what is a man", "a man is eating food. the girl plays with a dog and another man, and eats", "x")


def saved(folder: Path, name: str, **changes: object) -> Path:
    tokenizer = tiny_kinds.byte_level(padding_side="left", words=("yes", "no"))
    tiny = TINY[name]
    options = {**tiny.options, "max_position_embeddings": 2048, "pad_token_id": 0, **changes}
    return tiny_kinds.save(
        folder, f"{tiny.classes}ForCausalLM", f"{tiny.classes}Config", tokenizer, tiny.scale, sizes=tiny.sizes,
        **options,
    )  # fmt: skip


def token_ids(folder: Path, prompts: Sequence[str] = PROMPTS) -> list[list[int]]:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return [tokenizer(prompt)["input_ids"] for prompt in prompts]


def scores(graph: onnx.ModelProto, folder: Path) -> np.ndarray:
    """The graph's scores of all prompts, padded."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = token_ids(folder)
    width = max(map(len, ids))
    feeds = {
        "input_ids": np.array([row + [0] * (width - len(row)) for row in ids]),
        "attention_mask": np.array([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
    }
    (made,) = session.run(["logits"], feeds)
    return made[:, 0]


def logits(folder: Path, prompts: Sequence[str] = PROMPTS) -> np.ndarray:
    """Of the words yes and no after each prompt, as transformers' own class gives them."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
    with torch.inference_mode():
        rows = [
            model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1, words] for prompt in prompts
        ]
    return torch.stack(rows).numpy()


def compare(
    folder: Path, name: str, of_logits: Callable[[np.ndarray], np.ndarray], **stated: str
) -> np.ndarray:
    """Hold the graph and the numpy forward of a checkpoint against transformers, and give the graph's scores."""
    spec = ExportSpec(model=str(folder), task="score", **stated)
    checkpoint = open_checkpoint(spec).checkpoint
    chosen = choose_route(checkpoint, spec)
    assert chosen.described is not None
    graph = fill(*build_from_weights(chosen.described))
    attach_heads(graph, checkpoint, load_weights(checkpoint, with_model=False))
    made, expected, gate = scores(graph, folder), logits(folder), FAMILIES[name].max_abs_diff
    assert np.abs(made - of_logits(expected)).max() <= gate
    words = checkpoint.what.token_ids
    in_numpy = [InNumpy(checkpoint).word_logits({"input_ids": ids}, words) for ids in token_ids(folder)]
    assert np.abs(np.array(in_numpy) - expected[:, : len(words)]).max() <= gate
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_by_how_much_yes_is_likelier(name: str, tmp_path: Path) -> None:
    compare(saved(tmp_path, name), name, lambda words: words[:, 0] - words[:, 1])


def test_one_word_alone_is_capped_too(tmp_path: Path) -> None:
    """The cap bends logits, so that a difference of two does not show whether each is right."""
    folder = saved(tmp_path, "gemma2", final_logit_softcapping=2.0)
    made = compare(folder, "gemma2", lambda words: words[:, 0], yes_token="yes")
    assert np.abs(made).max() <= 2.0


def test_words_at_each_step_once_they_are_labels(tmp_path: Path) -> None:
    """What the refusal of a language model with --step-tag says to make of it has the same numbers."""
    import torch
    import transformers

    folder = make_checkpoint("prm-lm", tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = tokenizer.convert_tokens_to_ids(["+", "-"])
    with quiet():
        speaking = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        made = transformers.AutoModelForTokenClassification.from_pretrained(
            folder, dtype=torch.float32, id2label={0: "+", 1: "-"}, label2id={"+": 0, "-": 1}
        )
        with torch.no_grad():
            made.score.weight.copy_(speaking.lm_head.weight[words])
            made.score.bias.zero_()
        made.save_pretrained(tmp_path / "steps")
    tokenizer.save_pretrained(tmp_path / "steps")
    spec = ExportSpec(model=str(tmp_path / "steps"), step_tag="ки")
    checkpoint = open_checkpoint(spec).checkpoint
    assert (checkpoint.kind, checkpoint.pooling.modes) == ("reward", ("STEP",))
    described = choose_route(checkpoint, spec).described
    assert described is not None
    graph = fill(*build_from_weights(described))
    attach_heads(graph, checkpoint, load_weights(checkpoint, with_model=False))
    ids = tokenizer("two and two are four ки so the answer is five ки", return_tensors="pt")["input_ids"]
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids.numpy(), "attention_mask": np.ones_like(ids.numpy())}
    with torch.inference_mode():
        expected = speaking(ids).logits[0, :, words].numpy()
    assert np.abs(session.run(["logits"], feeds)[0][0] - expected).max() <= FAMILIES["mistral"].max_abs_diff


def test_words_after_a_head_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "modernbert-decoder")
    spec = ExportSpec(model=str(folder), task="score")
    with pytest.raises(ExportError, match="has a head between its hidden states and its words"):
        choose_route(open_checkpoint(spec).checkpoint, spec)


def test_a_head_of_a_family_s_own_passes_over_the_padding_token(tmp_path: Path) -> None:
    import torch
    import transformers

    folder = make(tmp_path / "m", "modernbert-decoder", "classify")
    spec = ExportSpec(model=str(folder))
    checkpoint = open_checkpoint(spec).checkpoint
    described = choose_route(checkpoint, spec).described
    assert described is not None
    padding = checkpoint.config["pad_token_id"]
    ids = [7, 9, padding, 12, padding, padding]
    session = onnxruntime.InferenceSession(
        fill(*build_from_weights(described)).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (made,) = session.run(
        None, {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    )
    with quiet():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits.numpy()
    gate = FAMILIES["modernbert-decoder"].max_abs_diff
    assert np.abs(made - expected).max() <= gate
    assert np.abs(InNumpy(checkpoint).logits({"input_ids": ids}) - expected[0]).max() <= gate
