"""Options of environments: the keys of a scenario's `env` beside its id, each checked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from antiphon.base.kinds import Options
from antiphon.base.problems import DocumentError
from antiphon.envs.signal import Description, Signal

Episode = Literal["stream", "example"]
Sampling = Literal["epochs", "with_replacement"]


class EnvOptions(Options):
    """Options of an environment: a subclass has a field for each key, with its type, bounds and default.

    `antiphon show ID` prints the docstring below each field. To check several fields together, use a
    `pydantic.model_validator` that raises a ScenarioError whose line begins with the key.

    Raises:
        ScenarioError: An unknown or missing key, or an invalid value; the line names key, value and fix.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except DocumentError as error:  # of several types of a value the line names the key alone
            raise error.at(("env", *error.path[:1])) from None

    @classmethod
    def rows(cls) -> list[tuple[str, str, str]]:
        """Return name, meaning and default of each key, as text."""
        rows = []
        for key, field in cls.model_fields.items():
            default = "none" if field.default is None else str(field.default).lower()
            text = " ".join((field.description or "").split()).removesuffix(".")
            rows.append((key, text[:1].lower() + text[1:], "required" if field.is_required() else default))
        return rows


class HeldOptions(EnvOptions):
    hold: int = Field(1, ge=1)
    """Number of steps for which each example is shown."""
    episode: Episode = "stream"
    """`stream`: never ends; `example`: each example is an episode."""
    sampling: Sampling = "epochs"
    """`epochs`: every example once per epoch, in a new order; `with_replacement`: every example independently."""

    def described(self, signals: dict[str, Signal], counts: dict[str, int]) -> Description:
        stream = self.episode == "stream"
        return Description(
            signals=signals,
            hold=self.hold,
            episode_steps=None if stream else self.hold,
            endless=stream,
            example_counts=counts,
            is_stream=True,
            sampling=self.sampling,
        )
