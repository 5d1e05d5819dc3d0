"""What the machine was doing while it was measured."""
