"""Rendering: what is shown, never what is computed."""
