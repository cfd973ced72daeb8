"""The metadata lives in pyproject.toml; this file serves tools that still ask for a setup.py."""

import setuptools

setuptools.setup()
