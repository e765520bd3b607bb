"""Engines: what trains one run, or many side by side, step by step."""
