"""The networks that give an image its energy: a small one, and the one of the PureGen repository."""

from torch import Tensor, nn


class LightEnergy(nn.Module):
    """Four convolutions, mean over space, linear: float ``(n, c, h, w)`` in [-1, 1] -> ``(n,)``."""

    def __init__(self, channels: int, filters: int, activation: type[nn.Module]) -> None:
        super().__init__()
        f = filters
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, f, 3, 1, 1),
            activation(),
            nn.Conv2d(f, f, 4, 2, 1),
            activation(),
            nn.Conv2d(f, 2 * f, 4, 2, 1),
            activation(),
            nn.Conv2d(2 * f, 2 * f, 3, 1, 1),
            activation(),
        )
        self.head = nn.Linear(2 * f, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.convolutions(x).mean((2, 3))  # (n, 2 filters)
        energies: Tensor = self.head(pooled).squeeze(1)
        return energies


class ResidualBlock(nn.Module):
    """SNGAN discriminator block without normalization; ``pool`` halves the side, ``first`` skips the first ReLU."""

    def __init__(
        self, inputs: int, outputs: int, activation: type[nn.Module], pool: bool, first: bool = False
    ) -> None:
        super().__init__()
        half: list[nn.Module] = [nn.AvgPool2d(2)] if pool else []
        opening = [] if first else [activation()]
        self.residual = nn.Sequential(
            *opening,
            nn.Conv2d(inputs, outputs, 3, 1, 1),
            activation(),
            nn.Conv2d(outputs, outputs, 3, 1, 1),
            *half,
        )
        if not pool:
            self.shortcut: nn.Module = nn.Identity()
        elif first:
            self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.AvgPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.residual(x)
        shortcut: Tensor = self.shortcut(x)
        return residual + shortcut


class SnganEnergy(nn.Module):
    """The released network: 1,053,824 parameters at 128 filters and 3 channels."""

    def __init__(self, channels: int, filters: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(channels, filters, activation, pool=True, first=True),
            ResidualBlock(filters, filters, activation, pool=True),
            ResidualBlock(filters, filters, activation, pool=False),
            ResidualBlock(filters, filters, activation, pool=False),
            activation(),
        )
        self.head = nn.Linear(filters, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.blocks(x).mean((2, 3))  # (n, filters)
        energies: Tensor = self.head(pooled).squeeze(1)
        return energies
