"""Every kind of checkpoint, exported and verified; what the manifest says of it."""

import pytest
from numpy.testing import assert_allclose
from tests.checkpoints.vocabularies import byte_bpe
from tests.export import architectures, tiny_kinds
from tests.export.tiny import edit_json, write_json

from embedge import EdgeModel, PoolingParams
from embedge.errors import ExportError
from embedge.manifest import load_manifest, load_probes
from embedge.verify import verify
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec


def exported(folder, **options):
    bundle = export(ExportSpec(model=str(folder), output=folder.parent / "out", **options))
    manifest = load_manifest(bundle)
    gate = 1e-4 if manifest.architecture.startswith("Qwen") else 1e-5
    assert manifest.variants["fp32"].fidelity.max_abs_diff <= gate
    assert manifest.variants["fp32"].fidelity.num_texts >= 50
    assert load_probes(bundle).probes
    (report,) = verify(bundle, device="cpu")
    assert report.passed
    return bundle, manifest


@pytest.mark.parametrize(
    ("names", "config", "tasks", "activation"),
    [
        (("relevance",), {}, ("score", "classify"), "sigmoid"),
        (("relevance",), {"problem_type": "regression"}, ("score", "classify"), "identity"),
        (("a", "b", "c"), {}, ("classify",), "softmax"),
        (("a", "b"), {"problem_type": "single_label_classification"}, ("classify",), "softmax"),
        (("a", "b"), {"problem_type": "multi_label_classification"}, ("classify",), "sigmoid"),
    ],
)
def test_bert_classifiers(tmp_path, names, config, tasks, activation):
    _, manifest = exported(tiny_kinds.bert_classifier(tmp_path / "m", *names, **config))
    assert manifest.tasks == tasks
    assert manifest.head.labels == names
    assert manifest.head.activation == activation
    assert manifest.head.problem_type == config.get("problem_type")
    assert manifest.graph.pooled == "logits"
    assert manifest.embedding_size is None


@pytest.mark.parametrize("place", ["config", "nested", "sentence-transformers"])
def test_the_score_activation_is_the_checkpoints_own(tmp_path, place):
    folder = tiny_kinds.bert_classifier(tmp_path / "m", "relevance")
    name = "torch.nn.modules.linear.Identity"
    if place == "config":
        edit_json(folder / "config.json", sbert_ce_default_activation_function=name)
    elif place == "nested":
        edit_json(folder / "config.json", sentence_transformers={"activation_fn": name})
    else:
        tiny_kinds.modules(folder)
        logits = {"method": "forward", "method_output_name": "logits"}
        write_json(
            folder / "sentence_bert_config.json",
            {
                "transformer_task": "sequence-classification",
                "modality_config": {"text": logits},
                "module_output_name": "scores",
            },
        )
        write_json(
            folder / "config_sentence_transformers.json",
            {"activation_fn": name, "model_type": "CrossEncoder"},
        )
    _, manifest = exported(folder)
    assert manifest.head.score_activation == "identity"
    assert manifest.head.activation == "sigmoid"


def test_logit_bias_is_subtracted(tmp_path):
    folder = tiny_kinds.bert_classifier(tmp_path / "m", "relevance", logit_bias=2.5)
    _, manifest = exported(folder)
    assert manifest.head.logit_bias == 2.5


def test_token_classifier(tmp_path):
    _, manifest = exported(tiny_kinds.token_classifier(tmp_path / "m"))
    assert manifest.tasks == ("token_classify",)
    assert manifest.pooling.modes == ("ALL",)
    assert manifest.graph.token == "logits"
    assert manifest.head.activation == "softmax"


def test_modernbert_with_mean_pooling(tmp_path):
    _, manifest = exported(tiny_kinds.modernbert_classifier(tmp_path / "m"))
    assert manifest.tasks == ("classify",)


def test_roberta_pairs(tmp_path):
    _, manifest = exported(tiny_kinds.roberta_pairs(tmp_path / "m"))
    assert manifest.tasks == ("score", "classify")
    assert manifest.max_seq_len == 64


def test_qwen3_embedder(tmp_path):
    _, manifest = exported(tiny_kinds.qwen3_embedder(tmp_path / "m"))
    assert manifest.pooling.modes == ("LAST",)
    assert manifest.tokenizer.padding_side == "right"  # causal attention sees nothing after a text
    assert len(manifest.tokenizer.suffix_ids) == 1
    assert manifest.prompts["query"].startswith("Instruct")


@pytest.mark.parametrize("reference", ["torch", "numpy"])
def test_a_decoders_classifier_passes_over_the_padding_tokens_that_end_a_text(reference, tmp_path):
    tokenizer = byte_bpe("qwen-embedding", model_max_length=64)
    assert tokenizer("a fox")["input_ids"][-1] == tokenizer.pad_token_id
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    folder = architectures.make(tmp_path / "m", "qwen2", "classify", **sizes)
    tokenizer.save_pretrained(folder)
    end = tokenizer.pad_token
    texts = [
        "a fox",
        "a",
        f"a fox{end}",
        f"a{end}fox",
        end,
        f"{end}{end}",
        "a longer text beside the others",
    ]
    expected = architectures.answers(folder, "classify", [(text,) for text in texts], "", 64, remote=False)
    bundle = export(ExportSpec(model=str(folder), output=tmp_path / "out", reference=reference))
    with EdgeModel(bundle, device="cpu") as model:
        actual = model.classify(texts, pooling_params=PoolingParams(use_activation=False)).numpy()
    assert_allclose(actual, expected, atol=1e-4)


def test_qwen3_classifier(tmp_path):
    _, manifest = exported(tiny_kinds.qwen3_classifier(tmp_path / "m"))
    assert manifest.tasks == ("classify",)
    assert manifest.graph.hidden == "last_hidden_state"


def test_qwen3_reranker(tmp_path):
    bundle, manifest = exported(tiny_kinds.qwen3_reranker(tmp_path / "m"), task="score", instruction="Judge")
    assert manifest.tasks == ("score",)
    assert manifest.template.prefix.startswith("<|im_start|>system\nJudge whether")
    assert manifest.template.instruction == "Judge"
    assert manifest.head.score_activation == "sigmoid"
    with EdgeModel(bundle, device="cpu") as model:
        assert 0 < float(model.score("a man", "the food").numpy()[0]) < 1


def test_a_reranker_of_sentence_transformers_with_a_chat_template(tmp_path):
    _, manifest = exported(tiny_kinds.logit_score(tmp_path / "m", tiny_kinds.CHAT))
    assert manifest.template.way == "whole"
    assert manifest.template.body == "<|query|>{query}<|end|><|document|>{document}<|end|><|answer|>"


def test_a_chat_template_with_an_instruction_of_its_own(tmp_path):
    template = (
        "<Instruct>: {{ messages[0].content if messages[0].role == 'system' else 'Find it' }}\n"
        "<Query>: {{ messages[-2].content }}\n<Document>: {{ messages[-1].content }}<|end|>"
    )
    _, manifest = exported(tiny_kinds.logit_score(tmp_path / "m", template, false_token_id=None))
    assert manifest.template.body == "<Instruct>: Find it\n<Query>: {query}\n<Document>: {document}<|end|>"
    assert (
        manifest.template.instructed_body
        == "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|end|>"
    )
    assert manifest.template.instruction == ""


def test_a_logit_score_without_a_chat_template_is_refused(tmp_path):
    folder = tiny_kinds.qwen3_reranker(tmp_path / "m")
    tiny_kinds.modules(folder, ("1_LogitScore", "LogitScore"))
    write_json(folder / "1_LogitScore" / "config.json", {"true_token_id": 300})
    with pytest.raises(ExportError, match=r"no chat template.*--yes-token yes"):
        export(ExportSpec(model=str(folder), output=tmp_path / "out"))


def test_a_reranker_with_one_token(tmp_path):
    exported(tiny_kinds.qwen3_reranker(tmp_path / "m"), yes_token="yes")


def test_reward_model(tmp_path):
    _, manifest = exported(tiny_kinds.reward_model(tmp_path / "m"), step_tag="<step>")
    assert manifest.tasks == ("token_classify",)
    assert manifest.pooling.modes == ("STEP",)
    assert manifest.pooling.step_tag_id is not None
    assert manifest.head.labels == ("bad", "good")


@pytest.mark.parametrize("config", [{}, {"pooling_strategy": "sum"}, {"activation_function": "log1p_relu"}])
def test_splade(tmp_path, config):
    bundle, manifest = exported(tiny_kinds.splade(tmp_path / "m", **config))
    assert manifest.sparse
    assert manifest.tasks == ("embed",)
    assert manifest.embedding_size == manifest.vocab_size
    with EdgeModel(bundle, device="cpu") as model:
        assert model.embed_sparse("a man")[0].outputs


@pytest.mark.parametrize("config", [{}, {"attend_to_expansion_tokens": True}, {"do_query_expansion": False}])
def test_pylate(tmp_path, config):
    _, manifest = exported(tiny_kinds.pylate(tmp_path / "m", **config))
    late = manifest.late_interaction
    assert manifest.tasks == ("token_embed",)
    assert manifest.embedding_size == 128
    assert (late.query_len, late.document_len) == (16, 40)
    assert late.query_marker_id != late.document_marker_id
    assert len(late.skip_token_ids) == 3
    assert late.expand_query == config.get("do_query_expansion", True)
    assert late.attend_to_expansion == config.get("attend_to_expansion_tokens", False)


def test_original_colbert(tmp_path):
    _, manifest = exported(tiny_kinds.original_colbert(tmp_path / "m"))
    assert manifest.embedding_size == 16
    assert manifest.late_interaction.expand_query
    assert len(manifest.late_interaction.skip_token_ids) == 32


def test_static_embedding(tmp_path):
    _, manifest = exported(tiny_kinds.static(tmp_path / "m"), matryoshka=(8, 16))
    assert manifest.tasks == ("embed", "token_embed")
    assert manifest.tokenizer.prefix_ids == ()
    assert manifest.normalize
    assert manifest.matryoshka == (8, 16)


def test_model2vec(tmp_path):
    bundle, manifest = exported(tiny_kinds.model2vec(tmp_path / "m"))
    assert manifest.max_seq_len == 512
    with EdgeModel(bundle, device="cpu") as model:
        known, mixed = model.embed(["man food", "man 漢 food"]).numpy()
    assert (known == mixed).all()  # the unknown token counts for nothing


def test_matryoshka_of_any_size(tmp_path):
    folder = tiny_kinds.qwen3_embedder(tmp_path / "m")
    edit_json(folder / "config.json", is_matryoshka=True)
    _, manifest = exported(folder)
    assert manifest.matryoshka is True


def no_labels(folder):
    config = tiny_kinds.read_config(folder)
    write_json(folder / "config.json", {key: value for key, value in config.items() if "label" not in key})


def odd_labels(folder):
    edit_json(folder / "config.json", id2label={"0": "a", "2": "b"})


def foreign_activation(folder):
    edit_json(folder / "config.json", sbert_ce_default_activation_function="os.system")


def unknown_activation(folder):
    edit_json(
        folder / "config.json", sbert_ce_default_activation_function="torch.nn.modules.activation.Softplus"
    )


def unknown_problem(folder):
    edit_json(folder / "config.json", problem_type="ranking")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_labels, "labels are missing.*--labels"),
        (odd_labels, "keys 0, 2; expected 0 to 1"),
        (foreign_activation, "'os.system' of the scores is not one"),
        (unknown_activation, "Softplus' of the scores is not one.*Identity, Sigmoid, Softmax"),
        (unknown_problem, "problem_type.*ranking"),
    ],
)
def test_classifiers_that_are_refused(tmp_path, spoil, message):
    folder = tiny_kinds.bert_classifier(tmp_path / "m", "a", "b")
    spoil(folder)
    with pytest.raises(ExportError, match=message):
        export(ExportSpec(model=str(folder), output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stated", "label"),
    [
        ({"num_labels": 1}, "LABEL_0"),
        ({"id2label": {"0": None}}, "LABEL_0"),
        ({"id2label": {"1": "relevant"}}, "relevant"),
        ({"id2label": {"1": None}}, "LABEL_0"),
    ],
)
def test_a_reranker_needs_no_name_for_its_score(tmp_path, stated, label):
    folder = tiny_kinds.bert_classifier(tmp_path / "m", "relevance")
    config = {
        key: value
        for key, value in tiny_kinds.read_config(folder).items()
        if key not in ("id2label", "label2id")
    }
    write_json(folder / "config.json", config | stated)
    _, manifest = exported(folder, variants=("fp32",))
    assert manifest.head.labels == (label,)
    assert manifest.tasks[0] == "score"


def test_labels_may_be_given(tmp_path):
    folder = tiny_kinds.bert_classifier(tmp_path / "m", "a", "b")
    no_labels(folder)
    _, manifest = exported(folder, labels=("cold", "warm"))
    assert manifest.head.labels == ("cold", "warm")


def test_a_word_that_is_no_token_is_refused(tmp_path):
    folder = tiny_kinds.qwen3_reranker(tmp_path / "m")
    with pytest.raises(ExportError, match=r"'absolutely' is .* tokens of this vocabulary"):
        export(ExportSpec(model=str(folder), output=tmp_path / "out", yes_token="absolutely"))
