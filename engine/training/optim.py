"""The optimiser both stages share: Muon on matrices, AdamW on the rest, an average of the weights, a clock.

Muon (Jordan et al., 2024) orthogonalises each matrix's momentum. torch.optim.Muon does one matrix at a time;
here all matrices of one shape are one batch, which at our sizes saves a fifth of an update."""

import os
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration on [N, rows, columns]: singular values towards 1."""
    x = matrices.to(torch.bfloat16)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon for 2-D parameters, batched by shape. lr is per root-mean-square element, as for AdamW times
    0.2."""

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            self.by_shape.setdefault(parameter.shape, []).append(parameter)

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        for shape, parameters in self.by_shape.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            moments = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
            torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, moments, group["momentum"])
            update = orthogonalise(torch.stack(nesterov)) * (0.2 * max(shape) ** 0.5)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, list(update.unbind()), alpha=-group["lr"])


def join_ranks(device: str) -> tuple[str, int]:
    """Under torchrun joins the other ranks, each with its own GPU, worlds and batches. Returns device and
    rank."""
    rank = int(os.environ.get("RANK", "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return device, rank


class Training:
    """A model's optimisers, learning rate by the clock, and the moving average that is kept.

    The rate warms up for `warmup` updates, stays, and falls linearly to a tenth over the last `cooldown` of
    the time. With several ranks gradients are averaged, and rank 0's clock and weights are everybody's."""

    def __init__(
        self,
        model: nn.Module,
        seconds: float,
        lr: float,
        muon_lr: float | None,
        warmup: int = 200,
        cooldown: float = 0.4,
    ):
        self.model, self.seconds, self.warmup, self.cooldown = model, seconds, warmup, cooldown
        self.started = time.monotonic()
        self.updates = 0
        inside = [
            p for n, p in model.named_parameters() if p.ndim == 2 and "blocks." in n and "modulation" not in n
        ]
        matrices = inside if muon_lr else []
        chosen = {id(p) for p in matrices}
        rest = [p for p in model.parameters() if id(p) not in chosen]
        fused = next(model.parameters()).is_cuda
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=fused)
        ]
        if muon_lr:
            self.optimisers.append(Muon(matrices, lr=muon_lr))
        self.base = [o.param_groups[0]["lr"] for o in self.optimisers]
        self.several = dist.is_initialized()
        self.first = not self.several or dist.get_rank() == 0
        self.progress = 0.0
        self._agree()
        self.average = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def _agree(self) -> None:
        """Share of the time used, and the weights (whose sums may differ in the last bit): those of rank
        0."""
        self.progress = min(1.0, (time.monotonic() - self.started) / self.seconds)
        if not self.several:
            return
        parameters = list(self.model.parameters())
        flat = torch.cat(
            [torch.tensor([self.progress], device=parameters[0].device), *(p.flatten() for p in parameters)]
        )
        dist.broadcast(flat, 0)
        self.progress = float(flat[0])
        for parameter, part in zip(parameters, flat[1:].split([p.numel() for p in parameters])):
            parameter.copy_(part.view_as(parameter))

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            assert parameter.grad is not None
            parameter.grad.copy_(part.view_as(parameter))  # in place: it keeps its memory layout

    def apply(self, clip: float = 1.0) -> None:
        """Clip the gradients, update, average."""
        parameters = list(self.model.parameters())
        if self.several:
            self._average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
        factor = min(1.0, (self.updates + 1) / self.warmup) * min(
            1.0, 0.1 + 0.9 * (1 - self.progress) / self.cooldown
        )
        for optimiser, base in zip(self.optimisers, self.base):
            optimiser.param_groups[0]["lr"] = base * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(0.999, (self.updates + 1) / (self.updates + 20))
        torch._foreach_lerp_(self.average, list[Tensor](parameters), 1 - decay)
        self.updates += 1
        if not self.several or self.updates % 20 == 0:
            self._agree()

    def run(self, step: Callable[[], Tensor], label: str) -> None:
        """Call `step` (one update; returns a picture's mean squared error) until the time is over. Every ten
        seconds rank 0 says where it is; an error that is not finite stops the run."""
        said, errors = time.monotonic(), []
        while self.progress < 1:
            errors.append(step())
            if time.monotonic() - said > 10:
                psnr = -10 * torch.stack(errors).mean().log10()
                if self.first:
                    print(
                        f"{label} {self.progress:4.0%} update {self.updates} train psnr {psnr:.2f} dB",
                        flush=True,
                    )
                if not psnr.isfinite():
                    raise SystemExit("the loss is not finite: stopping")
                said, errors = time.monotonic(), []

    def averaged(self) -> dict[str, Tensor]:
        """The moving average as a state dict, bfloat16."""
        names = [name for name, _ in self.model.named_parameters()]
        return {name: value.to(torch.bfloat16).contiguous() for name, value in zip(names, self.average)}
