"""Measures how fast parts are judged, stage by stage, and beside the rivals that run the same checkpoint."""
