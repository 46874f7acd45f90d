"""Parity: does a bundle still say what its reference says? Measures both on the same items and asks the gates."""
