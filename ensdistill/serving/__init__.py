"""Predictions over HTTP: batches of requests, limits, the API's description, and a page."""
