"""Others' programs on the work that ours do, side by side: ``make peers`` (docs/peers.md)."""
