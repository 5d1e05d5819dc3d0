"""Now beside a stored baseline, and a figure over time."""
