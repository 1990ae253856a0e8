"""Draw a function's outputs on noisy copies of images, batches filled across images."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_BLOCK = 256  # noisy copies drawn at once; part of the stream's definition, not the batch size


def noise_streams(images: Tensor, seeds: Sequence[int] | None) -> list[torch.Generator]:
    """Open one stream of noise per image, on the images' device.

    The same seed gives the same noise on one device, and other noise on another kind of device.

    Args:
        images: (B, C, H, W).
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        B generators.
    """
    numbers = range(len(images)) if seeds is None else seeds
    return [torch.Generator(images.device).manual_seed(seed) for seed in numbers]


def noisy_outputs(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    streams: Sequence[torch.Generator],
    *,
    sigma: float,
    count: int,
    batch_size: int,
) -> Iterator[Tensor]:
    """Evaluate a function on noisy copies of every image.

    Every call has `batch_size` rows; a batch goes on with the next image where one is done, and
    only the very last one is filled up. No noise is used twice. What an image gets depends on its
    stream and `count`, not on the batch size nor on the other images.

    Args:
        function: (batch_size, C, H, W) to (batch_size, K), row by row.
        images: (B, C, H, W).
        streams: One generator per image, on the images' device; they move on.
        sigma: Standard deviation of the noise.
        count: Copies of every image.
        batch_size: Rows per call.

    Yields:
        (count, K) outputs on the CPU, image by image.
    """
    copies: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
    held: list[Tensor] = []
    batches = _noisy_batches(images, streams, sigma, count, batch_size)
    for points, rows in batches:
        copies.append(_start_copy(function(points)[:rows]))
        if len(copies) > 1:  # the device works on the next batch while this one is treated
            held.append(_end_copy(*copies.popleft()))
            yield from _whole_images(held, count)
    while copies:
        held.append(_end_copy(*copies.popleft()))
        yield from _whole_images(held, count)


def add_noise(out: Tensor, image: Tensor, stream: torch.Generator, sigma: float) -> None:
    """Fill rows with an image plus fresh noise N(0, sigma^2).

    Args:
        out: (R, C, H, W) to be filled.
        image: (C, H, W).
        stream: The image's generator.
        sigma: Standard deviation.
    """
    noise = torch.empty_like(out).normal_(generator=stream)
    torch.add(image, noise, alpha=sigma, out=out)


def _noisy_batches(
    images: Tensor, streams: Sequence[torch.Generator], sigma: float, count: int, batch_size: int
) -> Iterator[tuple[Tensor, int]]:
    # Noise comes in blocks of a fixed size, since what a generator gives depends on the size.
    points = images.new_empty(batch_size, *images.shape[1:])
    filled = 0
    for image, stream in zip(images, streams, strict=True):
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            noise = points.new_empty(size, *image.shape).normal_(generator=stream)
            while len(noise):
                part = noise[: batch_size - filled]
                end = filled + len(part)
                torch.add(image, part, alpha=sigma, out=points[filled:end])
                noise, filled = noise[len(part) :], end
                if filled == batch_size:
                    yield points, filled
                    filled = 0
    if filled:
        points[filled:] = points[filled - 1].clone()
        yield points, filled


def _start_copy(outputs: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if not outputs.is_cuda:
        return outputs.cpu(), None
    host = outputs.to("cpu", non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    return host, done


def _end_copy(host: Tensor, done: torch.cuda.Event | None) -> Tensor:
    if done is not None:
        done.synchronize()
    return host


def _whole_images(held: list[Tensor], count: int) -> Iterator[Tensor]:
    # Take all whole images from the held rows; the rest stays.
    if sum(map(len, held)) < count:
        return
    rows = torch.cat(held)
    held.clear()
    while len(rows) >= count:
        yield rows[:count]
        rows = rows[count:]
    held.append(rows)
