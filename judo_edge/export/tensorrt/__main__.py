"""Entry of the builder's own process: `python -m judo_edge.export.tensorrt`."""

from __future__ import annotations

import sys

from judo_edge.export.tensorrt.worker import main

if __name__ == "__main__":
    sys.exit(main())
