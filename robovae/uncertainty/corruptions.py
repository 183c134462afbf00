"""Self-made corruptions: what calibration learns from, so that no fault need be seen before it comes.

None is of a kind with a fault that robovae is judged by (light, camera pose, colour, photographs as textures,
objects in the scene or before the camera, noise by the pixel, blur, exposure, JPEG, dead rows, late frames).
They break a frame in ways of their own: pieces and ghosts of other frames, dissolved pieces, a bent picture
plane, scrambled Fourier phases, clouds of fractal noise, folded and quantised tones, and frames that hold
nothing at all.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Draw = torch.Generator
Kind = Callable[[Tensor, Tensor, Tensor, Draw], Tensor]


def corrupt(images: Tensor, others: Tensor, generator: Draw, kinds: Sequence[Kind] | None = None) -> Tensor:
    """Corrupt each image by one kind, at a strength between hardly visible and total.

    Args:
        images: (B, 3, H, W) in [0, 1].
        others: (B, 3, H, W), other frames to take pieces of.
        generator: decides kinds and strengths.
        kinds: of these; all `KINDS` if None.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    out = images.clone()
    among = KINDS if kinds is None else tuple(kinds)
    kind = torch.randint(len(among), (len(images),), generator=generator)
    for index, make in enumerate(among):
        chosen = kind == index
        if chosen.any():
            # Most trouble is mild: half of the strengths lie below a quarter.
            strength = torch.rand(int(chosen.sum()), 1, 1, 1, generator=generator).square()
            out[chosen] = make(images[chosen], others[chosen], strength, generator)
    return out.clamp(0.0, 1.0)


def mosaic(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Exchange a share of square tiles with those of other frames."""
    return torch.where(_tiles(images, strength, generator, 2), others, images)


def shred(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Dissolve a share of square tiles: they have the frame's tones, or its spectrum, and show nothing."""
    taken = _tiles(images, strength, generator, 3)
    by_pixel = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    dissolved = torch.where(
        by_pixel,
        dealt(images, generator),
        scramble(images, others, torch.ones_like(strength), generator),
    )
    return torch.where(taken, dissolved, images)


def _tiles(images: Tensor, share: Tensor, generator: Draw, least: int) -> Tensor:
    """Which pixels (B, 1, H, W): a share of square tiles, `least` to 8 a side, more than one on average."""
    batch, _, height, width = images.shape
    side = int(torch.randint(least, 9, (), generator=generator))
    taken = torch.rand(batch, 1, side, side, generator=generator) < share.clamp_min(1.5 / side**2)
    return functional.interpolate(taken.float(), (height, width)) > 0


def ghost(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Let another frame shine through."""
    return images.lerp(others, strength.expand_as(images))


def bend(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Move pixels along a smooth random field, whole ones, by one or two up to an eighth of the frame."""
    batch, _, height, width = images.shape
    coarse = torch.randn(batch, 2, 4, 4, generator=generator) * strength.clamp_min(0.15) * 0.25
    field = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)
    places = grid + field.permute(0, 2, 3, 1)
    # Whole pixels: between pixels it would average neighbours, and a mild bend would be little but a blur.
    return functional.grid_sample(
        images, places, mode="nearest", padding_mode="reflection", align_corners=True
    )


def scramble(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Turn the Fourier phases by random angles: the same spectrum, shapes dissolved."""
    spectrum = torch.fft.rfft2(images)
    angle = torch.randn(len(images), 1, *spectrum.shape[2:], generator=generator) * strength * torch.pi
    angle[..., 0, 0] = 0.0  # the mean colour stays
    out: Tensor = torch.fft.irfft2(spectrum * torch.exp(1j * angle), images.shape[2:])
    return out


def clouds(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Blend in coloured fractal noise; at full strength nothing else is left."""
    height, width = images.shape[2:]
    frequency = torch.fft.fftfreq(height)[:, None].hypot(torch.fft.rfftfreq(width)).clamp_min(1.0 / height)
    slope = torch.rand(len(images), 1, 1, 1, generator=generator) * 2.0 + 0.5
    white = torch.fft.rfft2(torch.randn(images.shape, generator=generator))
    noise = torch.fft.irfft2(white * frequency**-slope, (height, width))
    noise = 0.5 + 0.25 * (noise - noise.mean((2, 3), keepdim=True)) / noise.std((1, 2, 3), keepdim=True)
    return images.lerp(noise, strength)


def fold(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Fold the tones above a level back down, each colour at one of its own."""
    level = 1.0 - strength * torch.rand(len(images), 3, 1, 1, generator=generator)
    return torch.where(images > level, (2.0 * level - images).clamp_min(0.0), images)


def quantise(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Keep few levels of each colour, 2 at full strength."""
    steps = (1.0 + 12.0 * (1.0 - strength)).round()
    return (images * steps).round() / steps


def nothing(images: Tensor, others: Tensor, strength: Tensor, generator: Draw) -> Tensor:
    """Show one colour, or a frame whose pixels were dealt out anew."""
    colour = torch.rand(len(images), 3, 1, 1, generator=generator).expand_as(images)
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, colour, dealt(images, generator))


def dealt(images: Tensor, generator: Draw) -> Tensor:
    """Deal the pixels of each frame out anew."""
    order = torch.randperm(images.shape[2] * images.shape[3], generator=generator)
    return images.flatten(2)[:, :, order].view_as(images)


SEEN_THROUGH = (ghost, bend, clouds, fold, nothing)
"""Kinds that the denoising encoder learns from."""
NEW = (mosaic, shred, scramble, quantise, nothing)
"""Kinds that tell how far to trust it: it has learnt from none of them, as from no fault, but of a frame that
holds nothing it should say so."""
KINDS = (mosaic, shred, ghost, bend, scramble, clouds, fold, quantise, nothing)
"""Every kind of corruption."""
