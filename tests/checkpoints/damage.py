"""Checkpoints with one thing wrong each, for tests of what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.checkpoints.registry import CHECKPOINTS
from tests.checkpoints.saving import edit_json, read_json, write_json

Damage = Callable[[Path], None]
BREAKAGES: dict[str, tuple[str, Damage, str]] = {}
"""Name of the breakage: the checkpoint it starts from, what is done to it, and in words what is wrong."""


def break_checkpoint(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint into an empty folder and break it; what lies outside goes to a folder beside it."""
    if kind not in BREAKAGES:
        raise KeyError(f"no breakage is named {kind!r}; expected one of {', '.join(sorted(BREAKAGES))}")
    base, damage, _ = BREAKAGES[kind]
    folder.mkdir(parents=True, exist_ok=True)
    CHECKPOINTS[base].maker(folder, seed)
    damage(folder)
    return folder


def _breakage(kind: str, base: str, wrong: str) -> Callable[[Damage], Damage]:
    def register(damage: Damage) -> Damage:
        BREAKAGES[kind] = (base, damage, wrong)
        return damage

    return register


def _edit_weights(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def _outside(folder: Path) -> Path:
    outside = folder.parent / f"{folder.name}-outside"
    outside.mkdir(exist_ok=True)
    return outside


_QUERY = "encoder.layer.0.attention.self.query.weight"
_OUTPUT = "encoder.layer.1.output.dense.weight"
_INTERMEDIATE = "encoder.layer.0.intermediate.dense.weight"


@_breakage("pickle-only", "bert-st", "weights only as pytorch_model.bin")
def _pickle_only(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()


@_breakage("pickle-dense", "dense-tanh", "weights of 2_Dense only as pytorch_model.bin")
def _pickle_dense(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    path = folder / "2_Dense" / "model.safetensors"
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()


@_breakage("nan-weights", "bert-st", f"one NaN in {_QUERY}")
def _nan_weights(folder: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        weights[_QUERY][3, 5] = float("nan")

    _edit_weights(folder / "model.safetensors", change)


@_breakage("inf-dense", "dense-tanh", "an infinity in linear.bias of 2_Dense")
def _inf_dense(folder: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        weights["linear.bias"][0] = float("inf")

    _edit_weights(folder / "2_Dense" / "model.safetensors", change)


@_breakage("missing-key", "bert-st", f"no {_OUTPUT}, which transformers would draw at random")
def _missing_key(folder: Path) -> None:
    _edit_weights(folder / "model.safetensors", lambda weights: weights.pop(_OUTPUT))


@_breakage("wrong-shape", "bert-st", f"{_INTERMEDIATE} is (48, 32) where config.json says (64, 32)")
def _wrong_shape(folder: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        weights[_INTERMEDIATE] = weights[_INTERMEDIATE][:48].contiguous()

    _edit_weights(folder / "model.safetensors", change)


@_breakage("truncated-weights", "bert-st", "model.safetensors ends halfway, as after a broken download")
def _truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


@_breakage(
    "pointer-weights", "bert-st", "model.safetensors is a Git LFS pointer, as after a clone without LFS"
)
def _pointer_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90868376\n", "utf-8"
    )


@_breakage("vocab-too-large", "bert-st", "the tokenizer has two tokens more than the embedding has rows")
def _vocab_too_large(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[NEW0]", "[NEW1]"])
    tokenizer.save_pretrained(folder)


@_breakage("unknown-pooling-mode", "bert-st", 'pooling_mode "median" in 1_Pooling/config.json')
def _unknown_pooling_mode(folder: Path) -> None:
    edit_json(folder / "1_Pooling" / "config.json", pooling_mode="median")


@_breakage(
    "unknown-pooling-mode-old", "pool-mean-old", "pooling_mode_median_tokens and no mode that is known"
)
def _unknown_pooling_mode_old(folder: Path) -> None:
    edit_json(
        folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_median_tokens=True
    )


@_breakage("unknown-module", "bert-st", "a module of a class that sentence-transformers does not have")
def _unknown_module(folder: Path) -> None:
    modules = read_json(folder / "modules.json")
    modules.append({"idx": 2, "name": "2", "path": "2_Whitening", "type": "custom_modules.Whitening"})
    write_json(folder / "modules.json", modules)


@_breakage("dense-chain-mismatch", "gemma3-text-st", "the second Dense takes 64 where the first gives 96")
def _dense_chain_mismatch(folder: Path) -> None:
    path = folder / "3_Dense"
    edit_json(path / "config.json", in_features=64)

    def change(weights: dict[str, Any]) -> None:
        weights["linear.weight"] = weights["linear.weight"][:, :64].contiguous()

    _edit_weights(path / "model.safetensors", change)


@_breakage("dense-pooling-mismatch", "dense-tanh", "Dense takes 48 where the pooling gives 32")
def _dense_pooling_mismatch(folder: Path) -> None:
    path = folder / "2_Dense"
    edit_json(path / "config.json", in_features=48)

    def change(weights: dict[str, Any]) -> None:
        import torch

        weights["linear.weight"] = torch.nn.functional.pad(weights["linear.weight"], (0, 16))

    _edit_weights(path / "model.safetensors", change)


@_breakage("bad-dense-activation", "dense-tanh", "activation_function names a class outside torch.nn.modules")
def _bad_dense_activation(folder: Path) -> None:
    edit_json(folder / "2_Dense" / "config.json", activation_function="custom_modules.Swirl")


@_breakage(
    "call-dense-activation", "dense-tanh", "activation_function names a function of torch that is no module"
)
def _call_dense_activation(folder: Path) -> None:
    edit_json(folder / "2_Dense" / "config.json", activation_function="torch.hub.load")


@_breakage(
    "bad-activation-fn", "cross-encoder-bert-1", "activation_fn names a class outside torch.nn.modules"
)
def _bad_activation_fn(folder: Path) -> None:
    edit_json(folder / "config_sentence_transformers.json", activation_fn="custom_modules.Swirl")


@_breakage("symlink-outside", "bert-st", "tokenizer.json is a symlink to a file outside of the repository")
def _symlink_outside(folder: Path) -> None:
    path = folder / "tokenizer.json"
    target = _outside(folder) / path.name
    path.rename(target)
    path.symlink_to(Path("..") / target.relative_to(folder.parent))


@_breakage("path-outside", "bert-st", "modules.json names a folder outside of the repository")
def _path_outside(folder: Path) -> None:
    outside = _outside(folder)
    (folder / "1_Pooling").rename(outside / "1_Pooling")
    modules = read_json(folder / "modules.json")
    modules[1]["path"] = f"../{outside.name}/1_Pooling"
    write_json(folder / "modules.json", modules)


@_breakage(
    "no-fast-tokenizer", "bert-st", "BertJapaneseTokenizer with vocab.txt, of which there is no fast form"
)
def _no_fast_tokenizer(folder: Path) -> None:
    vocabulary = read_json(folder / "tokenizer.json")["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)), "utf-8")
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic",
            "subword_tokenizer_type": "wordpiece", "do_lower_case": True, "model_max_length": 128,
        },
    )  # fmt: skip


@_breakage("no-tokenizer", "bert-st", "no file of a tokenizer")
def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)


@_breakage(
    "labels-missing",
    "classifier-single-label",
    "three rows of logits, and no id2label: transformers takes two",
)
def _labels_missing(folder: Path) -> None:
    edit_json(folder / "config.json", id2label=..., label2id=...)


@_breakage(
    "labels-missing-two", "classifier-binary", "no id2label; two labels are what transformers takes, unnamed"
)
def _labels_missing_two(folder: Path) -> None:
    edit_json(folder / "config.json", id2label=..., label2id=...)


@_breakage("labels-gap", "classifier-single-label", "id2label names 0, 1 and 5")
def _labels_gap(folder: Path) -> None:
    edit_json(folder / "config.json", id2label={"0": "sadness", "1": "joy", "5": "love"}, label2id=...)


@_breakage("matryoshka-too-large", "matryoshka-list", "matryoshka_dimensions names 64, the embedding has 32")
def _matryoshka_too_large(folder: Path) -> None:
    edit_json(folder / "config.json", matryoshka_dimensions=[8, 16, 64])


@_breakage(
    "remote-code", "remote-code-bert-st", "nothing is wrong but that it needs the repository's own code"
)
def _remote_code(folder: Path) -> None:
    del folder
