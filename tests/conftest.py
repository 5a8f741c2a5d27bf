"""Small real models, and the tools that several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from safety_tasks.models import LoadedModel

hypothesis.settings.register_profile("project", deadline=None)  # shared machines are slow at times
hypothesis.settings.load_profile("project")

pytest_plugins = ["pytester"]

TEMPLATE = (
    "<s>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHARED = Path(__file__).parents[2] / "shared"


LONG = ("test_tutorial.py", "test_notebook.py", "test_transformers_serve.py", "test_workers.py", "test_benchmarks.py")
"""Files with tests that take many seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long ones, so that no worker waits for another at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No hub, no twins of our options from the outside, no progress bars of others, no journal in the checkout."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "LLMSAFETY_MODEL",
        "LLMSAFETY_GATES",
        "LLMSAFETY_GATE",
        "LLMSAFETY_PROMPTS_DIR",
        "PYTEST_XDIST_TESTRUNUID",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    yield


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens with a chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["I'm sorry, but I cannot help. Here is a plan for that thing."] * 10, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="session")
def build_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LoadedModel]:
    """A function that builds a random Llama of 90 k parameters: the same for the same seed."""

    def build(*, tied: bool = True, dtype: torch.dtype = torch.float32, seed: int = 0) -> LoadedModel:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        return LoadedModel(LlamaForCausalLM(config).to(dtype).eval(), tokenizer)

    return build


@pytest.fixture(scope="session")
def model_folder(build_model: Callable[..., LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama saved as a user would have it."""
    folder = tmp_path_factory.mktemp("models") / "random-llama"
    model, tokenizer = build_model()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def shared() -> Path:
    """Public data beside the checkout; tests that need it skip elsewhere."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside this checkout")
    return SHARED
