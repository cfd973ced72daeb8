"""Evaluation: networks over whole data sets, and what is measured of their predictions."""
