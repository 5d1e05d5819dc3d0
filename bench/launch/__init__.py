"""Starts workers and sees them through."""
