"""Whether everything that an evaluation will look at can be decoded, before there is anything to lose."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.frames import decode_frames
from posmlp_jax.data.decoding.images import decode, looks_whole
from posmlp_jax.data.decoding.moments import Moment, decode_moment
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import BrokenExampleError, DataError

# Images are decoded for so many seconds; what is left then is only looked at.
DECODE_SECONDS = 10.0
_CHUNK = 32
_ONE_FRAME = FrameSampling("dense", 1, fps=30.0)
_NAMED = 10


def check_decodable(
    source: Source,
    *,
    threads: int,
    decode_seconds: float = DECODE_SECONDS,
    process_index: int = 0,
    process_count: int = 1,
    report: Callable[[str], None] = print,
) -> None:
    """Looks at every image or video of a source that is evaluated, and finds those that would end the evaluation.

    Images are decoded while `decode_seconds` last. Of the others the header is read, and whether the file ends as its
    format says; only what does not look whole is decoded. Of each video one frame is decoded, which is enough, since
    good frames take the places of others, and of a film the last frame that somebody has annotated
    (`Source.to_check`). A bar shows on a terminal when it takes more than a second.

    Args:
      source: the images or videos. Of one whose first image is not encoded, nothing is looked at.
      threads: that work at once, at least one.
      decode_seconds: see above.
      process_index: which of `process_count` JAX processes this is; each looks at its share.
      process_count: how many there are.
      report: takes a line that says what was looked at, and how fast.

    Raises:
      DataError: for what cannot be decoded or read: how many, and the first ten by name.
    """
    indices = source.to_check()[process_index::process_count]
    if not len(indices) or (not isinstance(source.read(indices[0])[0], bytes) and source.kind == "image"):
        return
    start = time.perf_counter()
    check = _Check(source, start + decode_seconds)
    chunks = [indices[first : first + _CHUNK] for first in range(0, len(indices), _CHUNK)]
    wrong, only_looked_at = [], 0
    executor = ThreadPoolExecutor(max(threads, 1))
    bar = tqdm(
        desc=f"checking evaluation {source.kind}s",
        total=len(indices),
        unit=f" {source.kind}s",
        unit_scale=True,
        delay=1,
        leave=False,
        disable=None if process_index == 0 else True,
    )
    try:
        for chunk, (reasons, looked) in zip(chunks, executor.map(check, chunks), strict=True):
            wrong += reasons
            only_looked_at += looked
            bar.update(len(chunk))
    finally:
        # Ctrl-C waits for what is under way, and not for all.
        executor.shutdown(cancel_futures=True)
        bar.close()
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise DataError(
            f"{len(wrong)} of the {len(indices)} evaluation {source.kind}s cannot be decoded, and an accuracy over the "
            f"others would be another one; mend or delete: {'; '.join(wrong[:_NAMED])}{more} ({source.description})"
        )
    seconds = time.perf_counter() - start
    how = f"; of {only_looked_at} only the header and the end of the file" if only_looked_at else ""
    rate = len(indices) / max(seconds, 1e-9)
    report(f"checked {len(indices)} evaluation {source.kind}s in {seconds:.1f} s ({rate:.0f}/s){how}")


class _Check:
    """Looks at some examples: why those that cannot be decoded cannot, and how many were not decoded.

    Args:
      source: the examples.
      deadline: until when images are decoded, in seconds of `time.perf_counter`.
    """

    def __init__(self, source: Source, deadline: float):
        self._source, self._deadline = source, deadline

    def __call__(self, indices: Sequence[int]) -> tuple[list[str], int]:
        reasons, only_looked_at = [], 0
        for index in indices:
            try:
                only_looked_at += not self._decode(index)
            except BrokenExampleError as error:
                reasons.append(f"{self._source.example_id(index)}: {' '.join(str(error).split())}")
            except DataError as error:  # Names the file itself.
                reasons.append(" ".join(str(error).split()))
        return reasons, only_looked_at

    def _decode(self, index: int) -> bool:
        """Whether the example was decoded, and not only looked at."""
        encoded, _ = self._source[index]
        if isinstance(encoded, Moment):
            decode_moment(encoded, _ONE_FRAME)
            return True
        if self._source.kind == "video":
            decode_frames(encoded, [0])
            return True
        if time.perf_counter() > self._deadline and looks_whole(encoded):
            return False
        decode(encoded)
        return True
