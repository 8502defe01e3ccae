"""Trojan Noise: a hands-on lab for backdoors in diffusion models."""

__version__ = "0.1.0"
