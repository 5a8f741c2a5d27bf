"""The exceptions of the project, as a tree.

SafetyError
├── InvalidInput          what was asked for cannot be done: says the rule and the next command
│   ├── UnknownName       a prompt set, judge, model ... that is not there: lists those that are
│   ├── InvalidSetting    an option outside its range
│   ├── InvalidPrompts    a prompt file that cannot be read as prompts
│   ├── InvalidModel      a model that cannot be loaded, or lacks what a measurement needs
│   │   ├── NotPerturbable    its weights cannot be moved
│   │   └── SameWeights       a target that does not differ from it
│   └── InvalidGate       a gate line that does not parse
├── JudgeFailed           a judge could not do its work: an error of the run, never a verdict
├── MeasurementFailed     what a session could not measure, said without the frames of the failure
├── WeightsChanged        the weights after a measurement are not the weights before it
└── Inconclusive          the interval cannot say (also an AssertionError)
    └── OutOfTime             the session's time was spent before it was measured
"""

from collections.abc import Iterable


class SafetyError(Exception):
    """Root of every error that this project raises on purpose."""


class InvalidInput(SafetyError):
    """What was asked for cannot be done."""


class UnknownName(InvalidInput):
    """A name that is not registered; the message lists the names that are."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        listed = ", ".join(sorted(known))
        super().__init__(f"There is no {kind} {name!r}. There are: {listed}.{' ' + hint if hint else ''}")


class InvalidSetting(InvalidInput):
    """An option has a value outside its range or of the wrong type."""


class InvalidPrompts(InvalidInput):
    """A file cannot be read as a prompt set."""


class InvalidModel(InvalidInput):
    """A model cannot be loaded, or lacks something that the measurement needs."""


class NotPerturbable(InvalidModel):
    """The weights of this model cannot be moved in this process."""


class Diverged(InvalidModel):
    """A fine-tuning ended in weights that are not finite; those that the model came with are back."""


class SameWeights(InvalidModel):
    """A target has the model's own weights: there is no direction to it."""


class InvalidGate(InvalidInput):
    """A gate line does not parse, or names a metric that is not measured."""


class JudgeFailed(SafetyError):
    """A judge could not do its work; nothing is read as safe because of it."""


class MeasurementFailed(SafetyError):
    """Something went wrong while measuring; the message says what."""


class WeightsChanged(SafetyError):
    """The weights after a measurement differ from those before it."""


class Inconclusive(SafetyError, AssertionError):
    """The interval of an estimate neither supports nor excludes the limit."""


class OutOfTime(Inconclusive):
    """The session's time was spent before what was asked for was measured; a test that asks for it is red."""
