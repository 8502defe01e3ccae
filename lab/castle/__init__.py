"""What data poisoning does to class-conditional diffusion models, for worse and for better (arXiv:2311.02373)."""
