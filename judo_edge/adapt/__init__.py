"""Training stages: drawn parts and defects, the small JUDO-nano, and adapters for it. Needs torch."""
