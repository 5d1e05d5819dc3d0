"""vnbench: what an AI node really delivers. The design is in docs/architecture.md."""

__version__ = "0.1.0"
