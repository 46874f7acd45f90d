"""Serve a station with scripted workers in a process of its own: `python -m tests.tools.scripted_hub --run-folder DIR`.

For tests whose client is no Python (node, browser). Prints `ready SOCKET` when it is; ends on SIGTERM.
"""

import argparse
import asyncio
import signal
from pathlib import Path

from tests.station_parts import Script, scripted_config, serving_station


async def serve(run_folder: Path, data: Path, deadline: float, inspect_seconds: float) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = scripted_config(data.parent, data=str(data), deadline=deadline)
    async with serving_station(config, Script(inspect_seconds=inspect_seconds), run_folder):
        print(f"ready {run_folder / 'hub.sock'}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-folder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--deadline", type=float, default=5.0)
    parser.add_argument("--inspect-seconds", type=float, default=0.05)
    found = parser.parse_args()
    asyncio.run(serve(found.run_folder, found.data, found.deadline, found.inspect_seconds))


if __name__ == "__main__":
    main()
