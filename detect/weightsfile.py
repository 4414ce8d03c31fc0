"""A weights file: the network's tensors, its name, and how its input is normalised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from detect.errors import WeightsError
from detect.models import Network, build_model, model_names
from detect.normalise import Kind, Normalisation
from detect.tensors import read_tensors, write_tensors

_FORMAT = 1


@dataclass(frozen=True)
class Weights:
    """What a weights file holds.

    Attributes
    ----------
    network : str
        A name of `detect.models.model_names`.
    normalisation : Normalisation
        Of the input; its channels are the network's.
    tensors : mapping of str to Tensor
        Parameters and buffers.
    card : mapping
        How they came about: recipe, scores on the held-out part, data, step, epoch.
    """

    network: str
    normalisation: Normalisation
    tensors: Mapping[str, Tensor]
    card: Mapping[str, Any]

    def build(self, path: Path) -> Network:
        """Build the network with these weights; `path` is for messages.

        Raises
        ------
        WeightsError
            The tensors are not those of the network.
        """
        network = build_model(self.network, self.normalisation.channels)
        try:
            network.load_state_dict(dict(self.tensors))
        except RuntimeError:
            raise WeightsError(
                path, f"its tensors are not those of the network {self.network!r}; train it again"
            ) from None
        return network


def write_weights(path: Path, weights: Weights) -> None:
    """Write a weights file, whole or not at all."""
    details = {
        "format": _FORMAT,
        "network": weights.network,
        "normalisation": asdict(weights.normalisation),
        "card": dict(weights.card),
    }
    write_tensors(path, weights.tensors, details)


def average_weights(paths: Sequence[Path]) -> Weights:
    """Average weights of one network, tensor by tensor (M. Wortsman et al., ICML 2022).

    For weights that lie on one path of training or were fine-tuned from the same ones; the mean
    of others is worse than either. Counters are the first one's.

    Parameters
    ----------
    paths : sequence of Path
        Weights files, at least one.

    Returns
    -------
    Weights
        Its card lists the cards of all.

    Raises
    ------
    WeightsError
        A file cannot be used, or differs in network or normalisation from the first one.
    """
    read = [read_weights(path) for path in paths]
    first = read[0]
    for path, weights in zip(paths, read, strict=True):
        weights.build(path)
        same = weights.network == first.network and weights.normalisation == first.normalisation
        if not same:
            raise WeightsError(
                path,
                f"is not of the network and the normalisation of {paths[0]}; take weights "
                "that were trained from one another",
            )
    tensors = {
        name: torch.stack([weights.tensors[name] for weights in read]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in first.tensors.items()
    }
    card = {"mean_of": [dict(weights.card) for weights in read]}
    return Weights(first.network, first.normalisation, tensors, card)


def read_weights(path: Path) -> Weights:
    """Read a weights file.

    Raises
    ------
    WeightsError
        The file is absent, no safetensors file, of another program or version, of a network
        that this version does not have, or holds numbers that are not finite.
    """
    tensors, details = read_tensors(path)
    try:
        if details["format"] != _FORMAT:
            raise WeightsError(
                path, f"has format {details['format']!r:.40}; this version reads {_FORMAT}"
            )
        rule = details["normalisation"]
        weights = Weights(
            network=details["network"],
            normalisation=Normalisation(rule["kind"], tuple(rule["mean"]), tuple(rule["std"])),
            tensors=tensors,
            card=details["card"],
        )
        _require_usable(weights.normalisation)
    except (KeyError, TypeError, ValueError):
        raise WeightsError(
            path, "is no weights file; give best.safetensors or last.safetensors of a run"
        ) from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(path, f"{name} is not finite; train it again, with a lower rate")
    if weights.network not in model_names():
        raise WeightsError(
            path, f"is of the network {weights.network!r:.80}, which is unknown here"
        )
    return weights


def _require_usable(rule: Normalisation) -> None:
    """Raise ValueError, or TypeError, unless every frame can be normalised with the rule."""
    fits = rule.kind in get_args(Kind) and 0 < len(rule.mean) == len(rule.std)
    if not (fits and all(map(math.isfinite, (*rule.mean, *rule.std))) and min(rule.std) > 0):
        raise ValueError("no usable normalisation")
