"""Adam (Kingma & Ba 2015) by torch's own fused kernel, without the optimiser class around it.

`torch.optim.Adam` imports torch's compiler at its first step: three seconds at the start of every run, for nothing
that a run uses.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.adam import adam

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam with L2 regularisation, step for step what `torch.optim.Adam` computes.

    Args:
        parameters: those to be optimised; one without a gradient stays as it is.
        weight_decay: added to the gradient, times the parameter.
        fused: whether the device has the kernel that takes all parameters at once.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, lr: float, weight_decay: float, fused: bool):
        self.parameters = list(parameters)
        self.lr, self.weight_decay, self.fused = lr, weight_decay, fused
        self.state: dict[int, dict[str, torch.Tensor]] = {}

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        used = [number for number, parameter in enumerate(self.parameters) if parameter.grad is not None]
        states = [self.state.get(number) or self._begin(number) for number in used]
        with torch.no_grad():
            adam(
                [self.parameters[number] for number in used],
                [self.parameters[number].grad for number in used],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=self.fused,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=self.lr,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                maximize=False,
            )

    def _begin(self, number: int) -> dict[str, torch.Tensor]:
        parameter = self.parameters[number]
        self.state[number] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device if self.fused else None),
            "exp_avg": torch.zeros_like(parameter, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
        }
        return self.state[number]

    def state_dict(self) -> dict[str, Any]:
        """`state` as in torch's: by the number of the parameter."""
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of this class or of `torch.optim.Adam`; the tensors are copied to where the parameters are."""
        self.state = {}
        for number, tensors in state["state"].items():
            for name, tensor in self._begin(number).items():
                tensor.copy_(tensors[name])
