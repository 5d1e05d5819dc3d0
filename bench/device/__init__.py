"""Devices: where launches run and how their time is read."""
