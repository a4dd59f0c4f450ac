"""How pictures are compared. All take float pictures [B, 3, H, W] in 0..1 and give one value per picture,
[B]. EVALUATION.md says which figure uses which."""

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(made: Tensor, true: Tensor) -> Tensor:
    """Peak signal to noise in dB, at most 45: a picture that stands still has no say beyond that."""
    return -10 * (made - true).square().mean((1, 2, 3)).clamp(min=10**-4.5).log10()


def masked_psnr(made: Tensor, true: Tensor, mask: Tensor) -> float:
    """dB over the pixels of mask, bool [B, H, W], of all pictures together, at most 45; nan where it is
    empty."""
    error = (made - true).square().mean(1)[mask]
    return float(-10 * error.mean().clamp(min=10**-4.5).log10()) if error.numel() else float("nan")


def ssim(made: Tensor, true: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004): 11x11 Gaussian window of sigma 1.5, on the channels'
    mean."""
    x, y = made.mean(1, keepdim=True), true.mean(1, keepdim=True)
    offsets = torch.arange(11, device=x.device) - 5.0
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    line = line / line.sum()

    def blur(a: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(a, line.view(1, 1, 11, 1)), line.view(1, 1, 1, 11))

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.mean((1, 2, 3))


def gradient_energy(pictures: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, right and down: how sharp a picture is."""
    right = pictures[..., 1:] - pictures[..., :-1]
    down = pictures[..., 1:, :] - pictures[..., :-1, :]
    return right.square().mean((1, 2, 3)) + down.square().mean((1, 2, 3))


def flip(made: Tensor, true: Tensor) -> Tensor:
    """FLIP (Andersson et al., 2020), mean over the picture, 0 is equal; nan where flip-evaluator is not
    installed. It takes most of a second a picture."""
    if not find_spec("flip_evaluator"):
        return torch.full((len(made),), float("nan"))
    import flip_evaluator

    pairs = [(t.permute(1, 2, 0).numpy(), m.permute(1, 2, 0).numpy()) for t, m in zip(true, made)]
    return torch.tensor([flip_evaluator.evaluate(t, m, "LDR", applyMagma=False)[1] for t, m in pairs])
