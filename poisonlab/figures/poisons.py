"""What a poison changes: its spectrum."""

import plotly.express as px
import plotly.graph_objects as go
import torch
from torch import Tensor

from poisonlab.figures.style import SEQUENTIAL, layout


def mean_spectrum(clean: Tensor, poisoned: Tensor) -> Tensor:
    """Log magnitude of the difference's Fourier transform, averaged over images and channels: ``(h, w)``.

    Args:
        clean, poisoned: uint8 ``(n, c, h, w)``.
    """
    difference = (poisoned.float() - clean.float()) / 255
    magnitude = torch.fft.fftshift(torch.fft.fft2(difference).abs(), dim=(-2, -1))
    return torch.log10(magnitude.mean((0, 1)) + 1e-4)


def spectrum(clean: Tensor, poisoned: Tensor) -> go.Figure:
    """The averaged spectrum with zero frequency in the middle."""
    values = mean_spectrum(clean, poisoned)
    h, w = values.shape
    figure = px.imshow(
        values.numpy(),
        x=[i - w // 2 for i in range(w)],
        y=[i - h // 2 for i in range(h)],
        color_continuous_scale=SEQUENTIAL,
        labels={"x": "horizontal", "y": "vertical", "color": "log10 magnitude"},
    )
    figure.update_coloraxes(colorbar={"title": "log10"})
    return layout(figure, "horizontal frequency (cycles per image)", "vertical frequency", 380)
