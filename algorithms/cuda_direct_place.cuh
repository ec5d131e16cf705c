// Where a block of an implicit matrix product has its results, and which taps they need.
#pragma once

#include "cuda_direct.cuh"

struct Pixel {
    int n, row, col;
};

// The results of one block: channels of a group from m0 on, and `pixels` pixels.
struct Place {
    Walk rows, cols;
    int group, m0, pixels;
    int n0, image0, row0, col0;  // the first pixel; image0 counts within a set of `images`

    __device__ __forceinline__ Place(const Shape &s, int tile_m, int tile_n) {
        unsigned block = blockIdx.x;
        m0 = block % s.row_tiles * tile_m;
        block /= s.row_tiles;
        walk<BACKWARD>(s, block, rows, cols);
        group = block / s.pixel_tiles;
        const long long first = (long long)(block % s.pixel_tiles) * tile_n;
        const long long left = (long long)s.n * rows.count * cols.count - first;
        pixels = left < tile_n ? left : tile_n;
        const long long line = first / cols.count, set = line / s.images;
        col0 = first - line * cols.count;
        image0 = line - set * s.images;
        row0 = set % rows.count;
        n0 = set / rows.count * s.images;
    }

    // Pixels are numbered along a row, through `images` images, then down the rows: few rows a tile.
    __device__ __forceinline__ Pixel pixel(const Shape &s, unsigned index) const {
        const unsigned col = col0 + index, image = image0 + col / cols.count, row = row0 + image / s.images;
        return {int(n0 + row / rows.count * s.images + image % s.images), int(row % rows.count),
                int(col % cols.count)};
    }

    // Leave out the taps that meet only padding from all pixels of the tile.
    __device__ __forceinline__ void skip(const Shape &s) {
        const Pixel last = pixel(s, pixels - 1);
        const bool same = last.n - n0 < s.images;
        trim(rows, same ? row0 : 0, same ? last.row : rows.count - 1);
        trim(cols, 0, cols.count - 1);
    }

    static __device__ __forceinline__ void trim(Walk &w, int low, int high) {
        const int begin = max(0, -floor_div(w.start + high * w.step, w.dilation));
        const int end = min(w.taps, floor_div(w.size - 1 - w.start - low * w.step, w.dilation) + 1);
        w.taps = max(0, end - begin);
        w.start += begin * w.dilation;
        w.tap += begin * w.tap_step;
    }

    static __device__ __forceinline__ int floor_div(int a, int b) { return a / b - (a % b < 0); }
};
