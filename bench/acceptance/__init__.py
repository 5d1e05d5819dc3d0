"""Whether a result meets its criteria: a verdict that is a pure function of both."""
