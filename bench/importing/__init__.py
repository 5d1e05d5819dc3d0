"""Results that other programs measured, as rows of ours: pytest-benchmark and SuperBench."""
