"""Sweeps: runs over methods, settings, teachers and seeds, and tables over their results."""
