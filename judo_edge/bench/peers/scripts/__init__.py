"""Scripts that a rival's own Python runs by path; none imports judo_edge, which need not be installed there."""
