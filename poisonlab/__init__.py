"""PoisonLab: attacks on training data and defenses against them, measured on real images."""

__version__ = "0.1.0"
