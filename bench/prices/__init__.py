"""What work costs in energy and money."""
