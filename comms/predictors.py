"""The kinds of synthetic gradient, by name."""

from __future__ import annotations

from antiphon.comms.convolution import ConvGradient
from antiphon.comms.critics import CriticGradient, SobolevGradient
from antiphon.comms.direct import LinearGradient, MlpGradient
from antiphon.comms.gradient import Example, Predictor
from antiphon.comms.labels import LocalGradient, SobolevLabelGradient

__all__ = [
    "PREDICTORS",
    "ConvGradient",
    "CriticGradient",
    "Example",
    "LinearGradient",
    "LocalGradient",
    "MlpGradient",
    "Predictor",
    "SobolevGradient",
    "SobolevLabelGradient",
]

PREDICTORS: dict[str, type[Predictor]] = {
    "linear": LinearGradient,
    "mlp": MlpGradient,
    "conv": ConvGradient,
    "critic": CriticGradient,
    "sobolev": SobolevGradient,
    "sobolev_label": SobolevLabelGradient,
    "local": LocalGradient,
}
