"""Sequences of modules against sentence-transformers: in the graph, and in the SDK where it pools by another mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints import CHECKPOINTS, make
from tests.checkpoints.embedders import bert
from tests.checkpoints.reference import answers
from tests.checkpoints.saving import build, dense, edit_json, read_json, saved, scramble
from tests.checkpoints.vocabularies import byte_bpe, word_piece
from tests.installed import SENTENCE_TRANSFORMERS_6
from tests.parity.asked import PAIRS, TEXTS, load

from embedge import EdgeModel, ExportError, PoolerConfig, PoolingParams
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

pytestmark = pytest.mark.skipif(
    not SENTENCE_TRANSFORMERS_6,
    reason="sentence-transformers before 6 lacks residual Dense, Normalize of tokens and weights beside a prompt",
)

ATOL = 1e-5
RAW = PoolingParams(normalize=False)
SOME = TEXTS[::4]
SIZE = 32
PROMPTS = {"query": "find the words for: ", "document": "words: "}

# P: mean, Pc: first token, Pcm: both. D24, R24: Dense of the embedding, the second with a residual; d24, r24 and n: of
# rows of tokens. N: Normalize, L: LayerNorm, X: Dropout. a>M reads the feature a, M>a writes it.
SEQUENCES = [
    "P", "P N", "Pc N", "Pcm N", "P N D24", "P D24 N", "P D24 N D16", "P D40 N D24 N", "Pcm D24 N", "Pcm N D24 L",
    "P L", "P L N", "P N L", "P L D24 N", "P D24 L N", "P X N X D24", "P N N", "P R32", "P R24 N", "P N R24 R16",
    "d24 P", "d24 P N", "d24 n P", "n P", "n P N D24", "d24 n P D16 N", "d40 d24 P", "r24 Pc N", "r32 n Pcm D16",
    "P d24", "P n", "P N d24 n", "Pc d24 P N", "P D24 N Pc",
    "P D24>other", "P N>other", "P N>other other>D24", "P D24>other other>N", "d24>other P", "d24>other other>n P N",
]  # fmt: skip


def parse(sequence: str, seed: int = 0) -> list[Any]:
    """Modules of sentence-transformers by their short names."""
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize, Pooling

    sizes = {"token_embeddings": SIZE}
    modules = []
    for index, word in enumerate(sequence.split()):
        reads, _, rest = word.rpartition(">") if word[-1].isdigit() or word[-1] in "NnL" else ("", "", word)
        rest, _, writes = rest.partition(">")
        kind, number = rest[0], rest[1:]
        default = "token_embeddings" if kind in "dnr" else "sentence_embedding"
        names = {"module_input_name": reads or default}
        # a module that reads another feature writes back to its own kind's
        names["module_output_name"] = writes or default
        if kind == "P":
            modes = {"": "mean", "c": "cls", "cm": ("cls", "mean")}[number]
            modules.append(Pooling(sizes["token_embeddings"], modes))
            sizes["sentence_embedding"] = modules[-1].get_embedding_dimension()
        elif kind in "DdRr":
            given = sizes[names["module_input_name"]]
            options = {"use_residual": True} if kind in "Rr" else {}
            modules.append(dense(seed + index, given, int(number), **names, **options))
            sizes[names["module_output_name"]] = int(number)
        elif kind in "Nn":
            modules.append(Normalize(**names))
            sizes[names["module_output_name"]] = sizes[names["module_input_name"]]
        else:
            size = sizes["sentence_embedding"]
            modules.append(scramble(LayerNorm(size), seed + index) if kind == "L" else Dropout(0.5))
    return modules


def save_modules(
    folder: Path, first: Any, modules: list[Any], kind: str = "SentenceTransformer", **settings
) -> Path:
    """Let sentence-transformers save them behind a small BERT, or behind a Transformer that is given."""
    import sentence_transformers
    from sentence_transformers.sentence_transformer.modules import Transformer

    tokenizer = word_piece()
    with saved(first or bert(5, tokenizer), tokenizer) as source:
        made = getattr(sentence_transformers, kind)(
            modules=[Transformer(source), *modules], device="cpu", **settings
        )
        made.save_pretrained(str(folder), create_model_card=False)
    return folder


def exported_to(folder: Path, checkpoint: Path) -> Path:
    return export(ExportSpec(model=str(checkpoint), output=folder / "bundle"))


def embeds_as(reference: Any, model: EdgeModel, **prompt: str) -> None:
    expected = reference.encode(SOME, show_progress_bar=False, batch_size=1, **prompt)
    assert_allclose(model.embed(SOME, **prompt).numpy(), expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_sequence_of_modules(tmp_path, sequence) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    checkpoint = save_modules(tmp_path / "m", None, parse(sequence))
    bundle = exported_to(tmp_path, checkpoint)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    expected = reference.encode(SOME, output_value="token_embeddings", batch_size=1, show_progress_bar=False)
    with load(bundle) as model:
        embeds_as(reference, model)
        ends_normalized = sequence.split()[-1] == "N"
        assert model.manifest.normalize or not ends_normalized
        raw = model.embed(SOME, pooling_params=RAW).numpy()
        if model.manifest.normalize:
            unit = model.embed(SOME).numpy()
            assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=ATOL, rtol=0)
        tokens = model.encode(SOME, RAW, pooling_task="token_embed").numpy()
    for ours, theirs in zip(tokens, expected, strict=True):
        assert_allclose(ours, theirs.numpy(), atol=ATOL, rtol=0)
    if "Pcm" in sequence:
        return  # one mode alone does not fit what follows
    for module in reference:
        if isinstance(module, Pooling):
            module.pooling_mode = "weightedmean"
    with load(bundle, pooler_config=PoolerConfig(pooling_type="WEIGHTEDMEAN")) as model:
        embeds_as(reference, model)


NAMES = [
    "dense-other",
    "dense-residual",
    "layer-norm",
    "normalize-dense",
    "dense-normalize-dense",
    "pooler-output",
]


@pytest.mark.parametrize("name", [*NAMES, "truncate-dim", "weightedmean-prompt"])
def test_embedders_whose_files_state_more(exported, name) -> None:
    checkpoint, bundle = exported(name)
    with load(bundle) as model:
        expected = np.stack(answers(name, checkpoint, TEXTS))
        assert_allclose(model.embed(TEXTS).numpy(), expected, atol=ATOL, rtol=0)


def test_a_checkpoint_that_cuts_does_not_normalise_again_and_a_call_does(exported) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported("truncate-dim")
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    unit = reference.encode(SOME, normalize_embeddings=True)
    with load(bundle) as model:
        lengths = np.linalg.norm(model.embed(SOME).numpy(), axis=1)
        assert lengths.max() < 0.95
        for params in (PoolingParams(dimensions=16), PoolingParams(normalize=True)):
            actual = model.embed(SOME, pooling_params=params).numpy()
            assert_allclose(actual, unit, atol=ATOL, rtol=0)
        whole = model.embed(SOME, pooling_params=PoolingParams(dimensions=32)).numpy()
        assert_allclose(whole, reference.encode(SOME, truncate_dim=32), atol=ATOL, rtol=0)
        tokens = model.encode(SOME[:1], RAW, pooling_task="token_embed")[0].outputs.data
        assert tokens.shape[1] == 32
        scores = model.score(SOME[0], SOME[1:4]).numpy()
    rows = reference.encode(SOME[:4])
    assert_allclose(scores, reference.similarity(rows[0], rows[1:])[0], atol=ATOL, rtol=0)


@pytest.mark.parametrize("mode", ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"])
def test_every_pooling_leaves_a_prompt_out_as_the_library_does(exported, mode) -> None:
    from sentence_transformers import SentenceTransformer

    names = {"lasttoken": "LAST", "mean_sqrt_len_tokens": "MEAN_SQRT_LEN"}
    checkpoint, bundle = exported("weightedmean-prompt")
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    reference[1].pooling_mode = mode
    config = PoolerConfig(pooling_type=names.get(mode, mode.upper()))
    with load(bundle, pooler_config=config) as model:
        for name in PROMPTS:
            embeds_as(reference, model, prompt_name=name)


def test_modules_before_and_after_a_pooling_that_leaves_a_prompt_out(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    modules = parse("d24 n P L D16 N")
    modules[2].include_prompt = False
    checkpoint = save_modules(tmp_path / "m", None, modules, prompts=PROMPTS)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    with load(exported_to(tmp_path, checkpoint)) as model:
        for name in PROMPTS:
            embeds_as(reference, model, prompt_name=name)


@pytest.mark.parametrize("family", ["Roberta", "Albert", "MPNet"])
def test_the_pooler_of_a_family(tmp_path, family) -> None:
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    tokenizer = word_piece()
    config = {"embedding_size": 16} if family == "Albert" else {}
    with saved(build(f"{family}Model", f"{family}Config", tokenizer, 3, **config), tokenizer) as source:
        first = Transformer(
            source,
            module_output_name="sentence_embedding",
            modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
        )
        following = [dense(4, 32, 24)]
        made = SentenceTransformer(modules=[first, *following], device="cpu")
        made.save_pretrained(str(tmp_path / "m"), create_model_card=False)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "m").model_type == family.lower()
    reference = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    with load(exported_to(tmp_path, tmp_path / "m")) as model:
        embeds_as(reference, model)


@pytest.mark.parametrize(
    ("activation", "sequence"),
    [("Sigmoid", "P D1"), ("Identity", "P L D1"), ("Softmax", "Pc D3"), ("Identity", "Pcm D24 N D3")],
)
def test_a_cross_encoder_of_modules(tmp_path, activation, sequence) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    modules = parse(sequence)
    modules[-1].module_output_name = "scores"
    function = torch.nn.Softmax(dim=-1) if activation == "Softmax" else getattr(torch.nn, activation)()
    checkpoint = save_modules(tmp_path / "m", None, modules, "CrossEncoder", activation_fn=function)
    assert activation in read_json(checkpoint / "config_sentence_transformers.json")["activation_fn"]
    reference = CrossEncoder(str(checkpoint), device="cpu", activation_fn=function)
    pairs = PAIRS[::4]
    expected = reference.predict(pairs, show_progress_bar=False, batch_size=1)
    with load(exported_to(tmp_path, checkpoint)) as model:
        if expected.ndim == 1:
            assert model.manifest.tasks == ("score", "classify")
            queries, documents = map(list, zip(*pairs, strict=True))
            assert_allclose(model.score(queries, documents).numpy(), expected, atol=ATOL, rtol=0)
            best = model.rerank(pairs[0][0], documents)[0]
            assert best.score == max(result.score for result in model.rerank(pairs[0][0], documents))
        else:
            assert model.manifest.tasks == ("classify",)
            asked = [{"text": query, "text_pair": document} for query, document in pairs]
            assert_allclose(model.classify(asked).numpy(), expected, atol=ATOL, rtol=0)


def test_a_cross_encoder_of_modules_on_a_decoder(tmp_path) -> None:
    from sentence_transformers import CrossEncoder
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tests.checkpoints.classifiers import qwen3

    tokenizer = byte_bpe("qwen-embedding")
    with saved(qwen3("Qwen3Model", 3, tokenizer), tokenizer) as source:
        first = Transformer(source)
        size = first.get_embedding_dimension()
        modules = [first, Pooling(size, "lasttoken"), dense(3, size, 1, module_output_name="scores")]
        CrossEncoder(modules=modules, device="cpu").save_pretrained(
            str(tmp_path / "m"), create_model_card=False
        )
    pairs = PAIRS[::8]
    expected = CrossEncoder(str(tmp_path / "m"), device="cpu").predict(pairs, batch_size=1)
    with load(exported_to(tmp_path, tmp_path / "m")) as model:
        actual = model.score(*map(list, zip(*pairs, strict=True))).numpy()
    assert_allclose(actual, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sequence", ["N", "D24", "N D24", "L D24 N", "R24 X N"])
def test_modules_after_a_table(tmp_path, sequence) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = word_piece().backend_tokenizer
    tokenizer.no_truncation()
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(tokenizer.get_vocab_size(), SIZE, generator=generator)
    table = StaticEmbedding(tokenizer, embedding_weights=weights)
    made = SentenceTransformer(modules=[table, *parse(f"P {sequence}")[1:]], device="cpu")
    made.save_pretrained(str(tmp_path / "m"), create_model_card=False)
    reference = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    with load(exported_to(tmp_path, tmp_path / "m")) as model:
        embeds_as(reference, model)


def test_a_text_of_nothing_but_a_prompt(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tests.checkpoints.classifiers import qwen3

    tokenizer = byte_bpe("qwen")
    with saved(qwen3("Qwen3Model", 3, tokenizer), tokenizer) as source:
        first = Transformer(source)
        pool = Pooling(first.get_embedding_dimension(), "mean", include_prompt=False)
        made = SentenceTransformer(modules=[first, pool], device="cpu", prompts=PROMPTS)
        made.save_pretrained(str(tmp_path / "m"), create_model_card=False)
    reference = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    bundle = exported_to(tmp_path, tmp_path / "m")
    names = {"cls": "CLS", "lasttoken": "LAST", "mean": "MEAN", "weightedmean": "WEIGHTEDMEAN"}
    texts = ["", "a fox"]
    for mode, name in names.items():
        reference[1].pooling_mode = mode
        expected = reference.encode(texts, prompt_name="query", batch_size=1)
        with load(bundle, pooler_config=PoolerConfig(pooling_type=name)) as model:
            actual = model.embed(texts, prompt_name="query").numpy()
        assert_allclose(actual, expected, atol=1e-4, rtol=0)
    assert not np.any(expected[0])


def late_scores(checkpoint: Path) -> tuple[list[str], list[str], list[float]]:
    from sentence_transformers import MultiVectorEncoder

    reference = MultiVectorEncoder(str(checkpoint), device="cpu")
    queries, documents = map(list, zip(*PAIRS[:16], strict=True))
    asked = reference.encode_query(queries, batch_size=1, show_progress_bar=False)
    answered = reference.encode_document(documents, batch_size=1, show_progress_bar=False)
    expected = [
        float(np.asarray(reference.similarity([query], [document]))[0, 0])
        for query, document in zip(asked, answered, strict=True)
    ]
    return queries, documents, expected


def test_late_interaction_with_residual_dense_modules(exported) -> None:
    checkpoint, bundle = exported("colbert-residual")
    queries, documents, expected = late_scores(checkpoint)
    with load(bundle) as model:
        assert any(module.use_residual for module in model.manifest.modules)
        assert_allclose(model.score(queries, documents).numpy(), expected, atol=1e-4, rtol=0)


def saved_again(name: str, folder: Path) -> Path:
    """A checkpoint of PyLate as MultiVectorEncoder saves it."""
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(make(name, folder / "pylate")), device="cpu")
    model.save_pretrained(str(folder / "m"), create_model_card=False)
    return folder / "m"


@pytest.mark.parametrize("name", ["colbert", "colbert-attend", "colbert-plain-query", "colbert-residual"])
def test_late_interaction_as_sentence_transformers_saves_it(tmp_path, name) -> None:
    checkpoint = saved_again(name, tmp_path)
    queries, documents, expected = late_scores(checkpoint)
    with load(exported_to(tmp_path, checkpoint)) as model:
        assert model.manifest.late_interaction.skip_token_ids
        assert_allclose(model.score(queries, documents).numpy(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "min", "length": 32}},
            "strategy 'min'",
        ),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [5]}, "keep_only_token_ids"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": ["query", "document"]}, "of documents alone"),
        ("3_Normalize/config.json", {"module_output_name": "other"}, "not normalised"),
        ("config_sentence_transformers.json", {"prompts": {"query": "find this: "}}, "more than one token"),
    ],
)
def test_late_interaction_that_is_not_exported_is_refused(tmp_path, file, changes, message) -> None:
    checkpoint = saved_again("colbert", tmp_path)
    edit_json(checkpoint / file, **changes)
    with pytest.raises(ExportError, match=message):
        exported_to(tmp_path, checkpoint)


def test_every_recipe_is_there() -> None:
    assert {*NAMES, "truncate-dim", "weightedmean-prompt"} <= set(CHECKPOINTS)
