"""Starts a station's processes, watches them, starts them again, and stops them in order.

Knows processes by role and name only: what a hub or a camera does is theirs.
"""
