"""The optimiser both stages share: Muon on matrices, AdamW on the rest, an average of the weights, a clock.

Muon (Jordan et al., 2024) orthogonalises each matrix's momentum. torch.optim.Muon does one matrix at a time;
here all matrices of one shape are one batch, which at our sizes saves a fifth of an update."""

import os
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.training.captured import Captured

CLIP = 1.0
"""Most norm of a gradient."""


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
    """Muon for matrices, and for convolutions' kernels as matrices of one row per output, batched by shape.
    lr is per root-mean-square element, as for AdamW times 0.2."""

    def __init__(
        self, parameters: list[nn.Parameter], lr: Tensor, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            self.by_shape.setdefault(parameter.shape, []).append(parameter)

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        for parameters in self.by_shape.values():
            gradients = [p.grad for p in parameters if p.grad is not None]
            moments = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
            torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, moments, group["momentum"])
            stacked = torch.stack(nesterov)
            flat = stacked.flatten(2)
            update = orthogonalise(flat) * (0.2 * max(flat.shape[1:]) ** 0.5)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, list((update * -group["lr"]).view_as(stacked).unbind()))


def join_ranks(device: str) -> tuple[str, int]:
    """Under torchrun joins the other ranks, each with its own GPU, worlds and batches. Returns device and
    rank."""
    rank = int(os.environ.get("RANK", "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return device, rank


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """`flat` cut into tensors of the parameters' shapes and strides."""
    parts = flat.split([p.numel() for p in parameters])
    return [part.as_strided(p.shape, p.stride()) for part, p in zip(parts, parameters)]


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon takes it: matrices inside a transformer's blocks, kernels between a stem and a head."""
    if parameter.ndim == 4:
        return ".conv" in name
    return parameter.ndim == 2 and "blocks." in name and "modulation" not in name


def train_psnr(square: Tensor) -> str:
    """Of a picture's mean squared error."""
    return f"train psnr {-10 * square.log10():.2f} dB"


class Training:
    """A model's optimisers, learning rate by the clock, and the moving average that is kept.

    The rate warms up for `warmup` updates, stays, and falls linearly to nothing over the last `cooldown` of
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
        learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in learning if is_hidden(n, p)] if muon_lr else []
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in learning if id(p) not in chosen]
        parameters = self.parameters = [p for _, p in learning]
        device = parameters[0].device
        # Rates are tensors: a captured update reads them anew every time. (0.0 until the first `apply`.)
        rate = torch.zeros((), device=device)
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                rest,
                lr=rate,
                betas=(0.9, 0.98),
                weight_decay=0.01,
                fused=device.type == "cuda",
                capturable=device.type == "cuda",
            )
        ]
        if muon_lr:
            self.optimisers.append(Muon(matrices, lr=rate.clone()))
        self.base = [lr, muon_lr or 0.0]
        self.several = dist.is_initialized()
        self.first = not self.several or dist.get_rank() == 0
        self.progress = 0.0
        # All gradients in one buffer, each in its parameter's memory layout: one all-reduce, one norm.
        self.gradient = torch.zeros(sum(p.numel() for p in parameters), device=device)
        self.gradients = _views(self.gradient, parameters)
        self._agree()
        self.average = [p.detach().clone() for p in parameters]
        self.blend = torch.zeros((), device=device)
        self.captured = Captured(self._update, device.type)

    @torch.no_grad()
    def _agree(self) -> None:
        """Share of the time used, and the weights (whose sums may differ in the last bit): those of rank
        0."""
        self.progress = min(1.0, (time.monotonic() - self.started) / self.seconds)
        if not self.several:
            return
        parameters = self.parameters
        flat = torch.cat(
            [torch.tensor([self.progress], device=parameters[0].device), *(p.flatten() for p in parameters)]
        )
        dist.broadcast(flat, 0)
        self.progress = float(flat[0])
        for parameter, part in zip(parameters, flat[1:].split([p.numel() for p in parameters])):
            parameter.copy_(part.view_as(parameter))

    def backward(self, loss: Tensor) -> None:
        """The loss's gradients, to where `apply` takes them."""
        loss.backward()
        pairs = [(g, p.grad) for g, p in zip(self.gradients, self.parameters) if p.grad is not None]
        torch._foreach_copy_([mine for mine, _ in pairs], [made for _, made in pairs])
        for parameter in self.parameters:
            parameter.grad = None

    def apply(self) -> None:
        """Average the ranks' gradients, clip, update the weights and their average."""
        factor = min(1.0, (self.updates + 1) / self.warmup) * min(1.0, (1 - self.progress) / self.cooldown)
        for optimiser, base in zip(self.optimisers, self.base):
            optimiser.param_groups[0]["lr"].fill_(base * factor)
        self.blend.fill_(1 - min(0.999, (self.updates + 1) / (self.updates + 20)))
        if self.several:
            dist.all_reduce(self.gradient)
        self.captured()
        self.updates += 1
        if not self.several or self.updates % 20 == 0:
            self._agree()

    @torch.no_grad()
    def _update(self) -> None:
        if self.several:
            self.gradient /= dist.get_world_size()
        self.gradient *= (CLIP / (self.gradient.norm() + 1e-6)).clamp(max=1.0)
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        for optimiser in self.optimisers:
            optimiser.step()
        for parameter in self.parameters:
            parameter.grad = None
        change = torch._foreach_sub(list[Tensor](self.parameters), self.average)
        torch._foreach_mul_(change, self.blend)
        torch._foreach_add_(self.average, change)

    def run(self, step: Callable[[], Tensor], label: str, told: Callable[[Tensor], str] = train_psnr) -> None:
        """Call `step` (one update; returns its errors) until the time is over. Every ten seconds rank 0 says
        where it is and what `told` makes of the errors' mean; one that is not finite stops the run."""
        said, errors = time.monotonic(), []
        while self.progress < 1:
            errors.append(step())
            if time.monotonic() - said > 10:
                mean = torch.stack(errors).mean(0)
                if self.first:
                    print(f"{label} {self.progress:4.0%} update {self.updates} {told(mean)}", flush=True)
                if not mean.isfinite().all():
                    raise SystemExit("the loss is not finite: stopping")
                said, errors = time.monotonic(), []

    def averaged(self) -> dict[str, Tensor]:
        """The moving average as a state dict, bfloat16; what is frozen as it is."""
        average = {id(p): mean for p, mean in zip(self.parameters, self.average)}
        named = self.model.named_parameters()
        return {n: average.get(id(p), p.detach()).to(torch.bfloat16).contiguous() for n, p in named}
