"""Tests of judo-edge; `tests.tiny` makes the models that they share."""
