"""The chunk plan: pure arithmetic of windows and chunks on a raster, apart from Dask and pixels.

A *window* is what a network sees: a square core plus a halo on each side. Windows are anchored to
pixel (0, 0) of the full raster, whatever part of it is analysed. A *chunk* is a whole number of
windows; it is what one task does and what one Zarr shard holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .errors import UsageError


@dataclass(frozen=True)
class Window:
    """What a kernel makes of an image at a time, and how much of the image it looks at for that.

    Plain: a square of `core` pixels, seen with `halo` pixels of context per side. Blended: squares
    of two halos a side are seen, one around each corner of each core, and overlap by what two
    halos are wider than a core. There neighbours fade into each other, so that a network that
    looks at its whole square leaves no seam. Scanned: a square of `scan` pixels is seen from each
    core's first pixel on, moved inwards where it would reach past the raster; see `scanning`.
    """

    core: int
    halo: int
    blended: bool = False
    scan: int = 0

    @classmethod
    def scanning(cls, side: int, overlap: int) -> Window:
        """Squares of `side` px of which neighbours have `overlap` px in common."""
        if not 0 <= overlap < side:
            raise UsageError(
                f"Squares of {side} px can overlap by 0 to {side - 1} px, not by {overlap}. Change "
                f"--overlap."
            )
        # As far as a square at the raster's edge may have to be moved.
        return cls(side - overlap, side, scan=side)

    def __post_init__(self) -> None:
        if self.scan:
            if not 1 <= self.core <= self.scan == self.halo:
                raise UsageError(
                    f"Scanned squares of {self.scan} px need a core of 1 to {self.scan} px and a "
                    f"halo of {self.scan} px; got core {self.core}, halo {self.halo}."
                )
            return
        if self.core < 1 or self.halo < 0 or self.halo > self.core:
            raise UsageError(
                f"A window needs a core of at least 1 px and a halo of 0 to core px; "
                f"got core {self.core}, halo {self.halo}. Change --halo."
            )
        if self.blended and self.core > 2 * self.halo:
            raise UsageError(
                f"Blended windows of twice the halo must cover the core; got core {self.core}, "
                f"halo {self.halo} px. Give --halo {-(-self.core // 2)} or more."
            )

    @property
    def size(self) -> int:
        """Pixels per side that a network is given at once."""
        if self.scan:
            return self.scan
        return 2 * self.halo if self.blended else self.core + 2 * self.halo

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring squares have in common, where each is a result of its own or they
        fade into each other."""
        return self.size - self.core if self.scan or self.blended else 0


@dataclass(frozen=True)
class Chunk:
    """One task's core area: half-open pixel rows and columns of the full raster."""

    index: tuple[int, int]
    """Row and column in the plan's chunk grid; also the shard's key in the Zarr store."""
    row0: int
    col0: int
    row1: int
    col1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.row1 - self.row0, self.col1 - self.col0


@dataclass(frozen=True)
class Plan:
    """How a region of a raster is cut into chunks.

    `region` is (row0, col0, row1, col1) in pixels of the full raster; its upper left corner lies
    on the window grid, and its lower right corner on the window grid or on the raster's edge.
    """

    shape: tuple[int, int]
    """Height and width of the full raster, px."""
    region: tuple[int, int, int, int]
    window: Window
    chunk: int
    """Side of a chunk, px: a whole number of window cores."""

    def __post_init__(self) -> None:
        height, width = self.shape
        row0, col0, row1, col1 = self.region
        core = self.window.core
        if self.chunk < core or self.chunk % core:
            raise ValueError(f"chunk {self.chunk} is not a whole number of {core} px windows")
        if not (0 <= row0 < row1 <= height and 0 <= col0 < col1 <= width):
            raise ValueError(f"region {self.region} lies outside the raster {self.shape}")
        if row0 % core or col0 % core:
            raise ValueError(f"region {self.region} does not start on the {core} px window grid")
        if (row1 % core and row1 != height) or (col1 % core and col1 != width):
            raise ValueError(f"region {self.region} does not end on the {core} px window grid")

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        window: Window,
        chunk: int,
        region: tuple[int, int, int, int] | None = None,
    ) -> Plan:
        """Plan a raster, or the part of it that `region` touches.

        The region is widened to whole windows and `chunk` is rounded up to whole windows.
        """
        core = window.core
        row0, col0, row1, col1 = region or (0, 0, *shape)
        widened = (
            row0 // core * core,
            col0 // core * core,
            min(-(-row1 // core) * core, shape[0]),
            min(-(-col1 // core) * core, shape[1]),
        )
        return cls(shape, widened, window, -(-chunk // core) * core)

    @property
    def region_shape(self) -> tuple[int, int]:
        """Height and width of the analysed region, px."""
        return self.region[2] - self.region[0], self.region[3] - self.region[1]

    @property
    def chunk_grid(self) -> tuple[int, int]:
        """Number of chunks down and across."""
        height, width = self.region_shape
        return -(-height // self.chunk), -(-width // self.chunk)

    def __len__(self) -> int:
        down, across = self.chunk_grid
        return down * across

    def __iter__(self) -> Iterator[Chunk]:
        down, across = self.chunk_grid
        for i in range(down):
            for j in range(across):
                yield self.at(i, j)

    def at(self, i: int, j: int) -> Chunk:
        """The chunk in row `i` and column `j` of the chunk grid."""
        row, col = self.region[0] + i * self.chunk, self.region[1] + j * self.chunk
        row1 = min(row + self.chunk, self.region[2])
        col1 = min(col + self.chunk, self.region[3])
        return Chunk((i, j), row, col, row1, col1)

    def windows_in(self, chunk: Chunk) -> tuple[int, int]:
        """Number of windows down and across that cover a chunk (the last may reach past it)."""
        height, width = chunk.shape
        core = self.window.core
        return -(-height // core), -(-width // core)

    @property
    def window_count(self) -> int:
        """Number of squares that a network is given.

        Blended ones at the edges of a chunk are worked on for the neighbouring chunks again, so
        that chunks need nothing of each other.
        """
        core = self.window.core
        rows, cols = (-(-side // core) for side in self.region_shape)
        if self.window.blended:
            rows, cols = (n + m for n, m in zip((rows, cols), self.chunk_grid, strict=True))
        return rows * cols

    @property
    def overhead(self) -> float:
        """Pixels that kernels see per pixel of the region: halo and padding included."""
        height, width = self.region_shape
        return self.window_count * self.window.size**2 / (height * width)
