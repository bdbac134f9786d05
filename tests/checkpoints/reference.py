"""The right answers: each checkpoint through the library it is made for, in float32 on the CPU."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
from tests.checkpoints.classifiers import RERANKER_INSTRUCTION, RERANKER_PREFIX, RERANKER_SUFFIX
from tests.checkpoints.registry import CHECKPOINTS
from tests.checkpoints.saving import read_json
from tests.checkpoints.vocabularies import MATH_STEP_TAG

Arrays = list[np.ndarray]


def answers(name: str, folder: Path, texts: list[Any]) -> Arrays:
    """One array per text, or per (query, document) for checkpoints with the task score.

    Embedders return embeddings as their library's encode() does, classifiers logits, token classifiers and AutoModel
    one row per token, CrossEncoder what predict() returns, late interaction the document's rows for a text and the
    score for a pair.
    """
    reference = CHECKPOINTS[name].reference
    if reference in _LIBRARIES:
        return _LIBRARIES[reference](folder, texts)
    return _transformers(reference, folder, texts)


def _sentence_transformer(folder: Path, texts: list[str]) -> Arrays:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    return list(model.encode(texts, show_progress_bar=False))


def _sparse_encoder(folder: Path, texts: list[str]) -> Arrays:
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folder), device="cpu")
    rows = model.encode(texts, show_progress_bar=False, convert_to_sparse_tensor=False)
    return [row.numpy() for row in rows]


def _cross_encoder(folder: Path, pairs: list[tuple[str, str]]) -> Arrays:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu")
    return list(model.predict(pairs, show_progress_bar=False))


def _transformers(auto_class: str, folder: Path, texts: list[str]) -> Arrays:
    """Each text alone: no padding is in the way of the right answer."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = _load(auto_class, folder)
    rows = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            outputs = model(**inputs)
        rows.append((outputs.logits if "logits" in outputs else outputs.last_hidden_state)[0].numpy())
    return rows


def _load(auto_class: str, folder: Path) -> Any:
    import transformers

    model_class = getattr(transformers, auto_class)
    model, report = model_class.from_pretrained(
        folder, output_loading_info=True, trust_remote_code=True, dtype="float32"
    )
    trouble = {key: report[key] for key in ("missing_keys", "mismatched_keys") if report[key]}
    assert not trouble, trouble
    return model.eval()


def _model2vec(folder: Path, texts: list[str]) -> Arrays:
    """model2vec `StaticModel.encode`: 512 tokens, the unknown ones left out, weighted mean, normalised (as 0.10)."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    weights = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    unknown = tokenizer.token_to_id("[UNK]")
    rows = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        ids = np.array([token for token in encoding.ids[:512] if token != unknown], np.int64)
        mapped = weights["mapping"][ids] if "mapping" in weights else ids
        vectors = weights["embeddings"][mapped]
        if "weights" in weights:
            vectors = vectors * weights["weights"][ids][:, None]
        row = vectors.mean(axis=0) if len(ids) else np.zeros(vectors.shape[1])
        rows.append((row / (np.linalg.norm(row) + 1e-32)).astype(np.float32))
    return rows


class LateInteraction:
    """PyLate's ColBERT, and the original one, which PyLate reads too.

    Equal to PyLate 1.6 to the last bit on the checkpoints here. A word of the skip list that the vocabulary
    does not have stands for the unknown token there: then every unknown token of a document is skipped.
    """

    def __init__(self, folder: Path):
        import torch
        from safetensors.torch import load_file
        from transformers import AutoTokenizer, BertModel

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.layers: list[tuple[Any, Any]] = []
        if (folder / "artifact.metadata").exists():
            stated = read_json(folder / "artifact.metadata")
            weights = load_file(folder / "model.safetensors")
            self.layers = [(weights.pop("linear.weight"), None)]
            stated = {
                "query_prefix": stated["query_token_id"], "document_prefix": stated["doc_token_id"],
                "query_length": stated["query_maxlen"], "document_length": stated["doc_maxlen"],
                "attend_to_expansion_tokens": stated["attend_to_mask_tokens"], "do_query_expansion": True,
                "skiplist_words": list(string.punctuation),
            }  # fmt: skip
        else:
            stated = read_json(folder / "config_sentence_transformers.json")
            for module in read_json(folder / "modules.json")[1:]:
                weights = load_file(folder / module["path"] / "model.safetensors")
                residual = read_json(folder / module["path"] / "config.json")["use_residual"]
                identity = torch.eye(len(weights["linear.weight"]))
                self.layers.append(
                    (weights["linear.weight"], weights.get("residual.weight", identity) if residual else None)
                )
        self.model = BertModel.from_pretrained(folder).eval()
        self.stated = stated
        convert = self.tokenizer.convert_tokens_to_ids
        self.skipped = {convert(word) for word in stated["skiplist_words"]}
        self.markers = {True: convert(stated["query_prefix"]), False: convert(stated["document_prefix"])}

    def encode(self, text: str, *, is_query: bool) -> np.ndarray:
        """Normalised rows of one text."""
        import torch

        expand = is_query and self.stated["do_query_expansion"]
        length = self.stated["query_length" if is_query else "document_length"]
        content = self.tokenizer(text, truncation=True, max_length=length - 1)["input_ids"]
        token_ids = [content[0], self.markers[is_query], *content[1:]]
        mask = [1] * len(token_ids)
        if expand:
            token_ids += [self.tokenizer.mask_token_id] * (length - len(token_ids))
            mask += [int(self.stated["attend_to_expansion_tokens"])] * (length - len(mask))
        kept = [is_query or token not in self.skipped for token in token_ids]
        with torch.inference_mode():
            rows = self.model(
                input_ids=torch.tensor([token_ids]), attention_mask=torch.tensor([mask])
            ).last_hidden_state[0]
            for weight, residual in self.layers:
                rows = rows @ weight.T + (0 if residual is None else rows @ residual.T)
            rows = torch.nn.functional.normalize(rows[torch.tensor(kept)], dim=1)
        return rows.numpy()

    def score(self, query: str, document: str) -> np.ndarray:
        queries, documents = self.encode(query, is_query=True), self.encode(document, is_query=False)
        return (queries @ documents.T).max(axis=1).sum()


def _late_interaction(folder: Path, inputs: list[Any]) -> Arrays:
    model = LateInteraction(folder)
    return [
        model.encode(item, is_query=False) if isinstance(item, str) else np.asarray(model.score(*item))
        for item in inputs
    ]


def _qwen3_reranker(folder: Path, pairs: list[tuple[str, str]]) -> Arrays:
    """The model card's code: the template around the pair, the pair's own tokens cut, softmax over no and yes."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = _load("AutoModelForCausalLM", folder)
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    prefix, suffix = (
        tokenizer.encode(text, add_special_tokens=False) for text in (RERANKER_PREFIX, RERANKER_SUFFIX)
    )
    rows = []
    for query, document in pairs:
        body = f"<Instruct>: {RERANKER_INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"
        room = 8192 - len(prefix) - len(suffix)
        ids = [*prefix, *tokenizer(body, truncation=True, max_length=room)["input_ids"], *suffix]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        rows.append(torch.stack([logits[no], logits[yes]]).log_softmax(0)[1].exp().numpy())
    return rows


def _prm_lm(folder: Path, texts: list[str]) -> Arrays:
    """Math-Shepherd's code: probability of + against - at each step tag."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = _load("AutoModelForCausalLM", folder)
    columns = tokenizer.convert_tokens_to_ids(["+", "-"])
    tag = tokenizer.convert_tokens_to_ids(MATH_STEP_TAG)
    rows = []
    for text in texts:
        input_ids = torch.tensor([tokenizer.encode(text)])
        with torch.inference_mode():
            logits = model(input_ids=input_ids).logits[0][:, columns]
        rows.append(logits.softmax(dim=-1)[:, 0][input_ids[0] == tag].numpy())
    return rows


_LIBRARIES = {
    "SentenceTransformer": _sentence_transformer,
    "SparseEncoder": _sparse_encoder,
    "CrossEncoder": _cross_encoder,
    "model2vec": _model2vec,
    "late_interaction": _late_interaction,
    "qwen3_reranker": _qwen3_reranker,
    "prm_lm": _prm_lm,
}
