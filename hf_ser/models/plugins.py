"""Imports the user's own parts of a saved model; in this package there are none."""
