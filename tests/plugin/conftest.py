"""A pytest session in miniature whose model is a FakeModel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import altair  # noqa: F401
import lm_eval.models.huggingface  # noqa: F401
import pytest
import vl_convert  # noqa: F401

# An in-process session forgets what it imported; compiled modules and lm_eval's models cannot be imported twice.
import pytest_llmsafety.outputs  # noqa: F401
import safety_tasks.harness.evaluation  # noqa: F401

with suppress(ImportError):
    import bitsandbytes  # noqa: F401

CONFTEST = """
from pytest_llmsafety.testing import FakeModel

def pytest_llmsafety_load_model(config, model):
    return FakeModel({arguments})
"""


@pytest.fixture
def session(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run pytest with FakeModel(**fake) as the model under test, in the order in which its tests are written."""

    def run(*arguments: str, fake: str = "", model: str = "fake") -> pytest.RunResult:
        pytester.makeconftest(CONFTEST.format(arguments=fake))
        given = [f"--llm-model={model}"] if model else []
        return pytester.runpytest_inprocess("-p", "no:randomly", *given, *arguments)

    return run


SMALL = ("--llm-points=5", "--llm-directions=2")
