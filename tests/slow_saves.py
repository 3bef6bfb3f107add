"""main.py, with checkpoints that take SLOW_SAVES seconds longer before they are complete."""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from orbax.checkpoint._src.path import atomicity

import main

finalize = atomicity.AtomicRenameTemporaryPath.finalize


async def slow_finalize(self, *args, **kwargs):
    await asyncio.sleep(float(os.environ["SLOW_SAVES"]))
    await finalize(self, *args, **kwargs)


atomicity.AtomicRenameTemporaryPath.finalize = slow_finalize

if __name__ == "__main__":
    main.run()
