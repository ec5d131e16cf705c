// Where a block of an implicit matrix product has its results, and which taps they need.
#pragma once

#include "cuda_direct.cuh"

struct Pixel {
    int n, row, col;
};

// The results of one block: channels of a group from m0 on, and `pixels` pixels.
struct Place {
    Walk rows, cols;
    int group, m0, pixels, run, runs;  // columns that follow one another; such runs in a row
    int n0, image0, row0, run0, col0;  // the first pixel; image0 counts within a set of `images`

    __device__ __forceinline__ Place(const Shape &s, unsigned block, int tile_m, int tile_n) {
        m0 = block % s.row_tiles * tile_m;
        block /= s.row_tiles;
        // Phases of columns share lines of the result; those of rows that take longest come first.
        const unsigned col_phases = BACKWARD && !s.cells ? phases(s.cols) : 1;
        const unsigned row_phases = BACKWARD && !s.cells ? phases(s.rows) : 1;
        cols = BACKWARD ? backward(s.cols, s.flip, s.cells ? 0 : phase(s.cols, block % col_phases))
                        : forward(s.cols, s.flip);
        block /= col_phases;
        const unsigned tile = block % s.pixel_tiles;
        block /= s.pixel_tiles;
        rows = BACKWARD ? backward(s.rows, s.flip, s.cells ? 0 : phase(s.rows, block % row_phases))
                        : forward(s.rows, s.flip);
        group = block / row_phases;
        run = s.run ? s.run : cols.count;
        runs = (cols.count + run - 1) / run;
        const long long first = (long long)tile * tile_n;
        const long long left = (long long)s.n * rows.count * runs * run - first;
        pixels = left < tile_n ? left : tile_n;
        const long long line = first / run, set = line / s.images, row = set / runs;
        col0 = first - line * run;
        image0 = line - set * s.images;
        run0 = set - row * runs;
        row0 = row % rows.count;
        n0 = row / rows.count * s.images;
    }

    // Pixels are numbered along a run, through `images` images, then along the row and down the rows: a tile
    // sees few rows, and few columns if runs are short. The last run of a row may reach beyond it.
    __device__ __forceinline__ Pixel pixel(const Shape &s, unsigned index) const {
        const unsigned col = col0 + index, image = image0 + col / run, piece = run0 + image / s.images;
        const unsigned row = row0 + piece / runs;
        return {int(n0 + row / rows.count * s.images + image % s.images), int(row % rows.count),
                int(piece % runs * run + col % run)};
    }

    __device__ __forceinline__ bool holds(const Pixel &p, int index) const {
        return index < pixels && p.col < cols.count;
    }

    // Leave out the taps that meet only padding from all pixels of the tile.
    __device__ __forceinline__ void skip(const Shape &s) {
        const Pixel last = pixel(s, pixels - 1);
        const bool set = last.n - n0 < s.images, row = set && last.row == row0;
        trim(rows, set ? row0 : 0, set ? last.row : rows.count - 1);
        trim(cols, row ? run0 * run : 0,
             row ? min(last.col / run * run + run, cols.count) - 1 : cols.count - 1);
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
