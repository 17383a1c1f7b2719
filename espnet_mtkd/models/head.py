"""From a pooled vector to the logits of the emotions."""

from __future__ import annotations

import torch


class LinearHead(torch.nn.Sequential):
    """Linear projection and linear classifier, nothing between: the paper's head.

    Args:
        input_size: size P of the pooled vector.
        num_classes: number of emotions C.
        projector_size: size of the projection; default 256, the paper's. 0 leaves it out.
        dropout: before the classifier; default 0.
    """

    def __init__(
        self, input_size: int, num_classes: int, projector_size: int = 256, dropout: float = 0.0
    ) -> None:
        layers: list[torch.nn.Module] = []
        if projector_size > 0:
            layers.append(torch.nn.Linear(input_size, projector_size))
        layers += [
            torch.nn.Dropout(dropout),
            torch.nn.Linear(projector_size or input_size, num_classes),
        ]
        super().__init__(*layers)


class MLPHead(torch.nn.Sequential):
    """One hidden layer with a rectifier, which can tell languages apart where emotion needs it.

    Args:
        input_size: size P of the pooled vector.
        num_classes: number of emotions C.
        hidden_size: size of the hidden layer; default 128.
        dropout: on the input and on the hidden layer; default 0.2.
    """

    def __init__(
        self, input_size: int, num_classes: int, hidden_size: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__(
            torch.nn.Dropout(dropout),
            torch.nn.Linear(input_size, hidden_size),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden_size, num_classes),
        )
