// Depthwise convolution with FILTER x FILTER taps and STEP pixels of the input from result to result, as fast
// as memory delivers. A thread slides down a strip of columns: a row of the input is read once, some rows before
// it is needed, and added to all the results that it meets; the filter is in registers. Neighbours in memory
// (columns, in NHWC channels) are read and written in packs of up to 16 bytes.
#pragma once

#include "cuda_direct_lines.cuh"

// Blocks that a multiprocessor holds.
template <int FILTER>
constexpr int BLOCKS = sizeof(Real) == 8 ? 2 : (FILTER == 3 ? 4 : 3) + !NHWC;

// A pack is 16 bytes at most; in NHWC the filters of its channels have to find room in registers.
template <int FILTER, int PACK>
constexpr bool FITS = NHWC ? PACK == 2 || (PACK == 4 && FILTER == 3 && sizeof(Scalar) == 2)
                           : PACK * sizeof(Scalar) <= 16;

// Where a strip begins: image, channel, first row and column.
struct Place {
    int n, channel, row, col;
};

// Strips are numbered along memory: (image, channel, strip, column), in NHWC (image, strip, column, channel).
__device__ __forceinline__ Place place_of(unsigned index, int channels, int strips, int columns,
                                          int height) {
    const unsigned inner = NHWC ? channels : columns, first = index / inner;
    const unsigned middle = NHWC ? columns : strips, second = first / middle;
    const unsigned outer = NHWC ? strips : channels, n = second / outer;
    const int a = index % inner, b = first % middle, c = second % outer;
    return NHWC ? Place{int(n), a, c * height, b} : Place{int(n), c, b * height, a};
}

// Write COLS results side by side.
template <int PACK, int COLS, int CHANNELS>
__device__ __forceinline__ void write(Scalar *y, const Real (&sum)[COLS][CHANNELS], int pixel) {
    Pack<Scalar, PACK> pack;
#pragma unroll
    for (int q = 0; q < COLS; ++q) {
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c)
            pack.at[NHWC ? c : q] = narrow<Scalar>(sum[q][c]);
        if (NHWC || q == COLS - 1)
            store_pack(y + (NHWC ? q * pixel : 0), pack);
    }
}

// What a thread of packs computes: COLS results side by side of CHANNELS channels, and so down its strip.
// LIVE rows of results are being summed; after PERIOD rows of the input all have their first places again.
template <int FILTER, int STEP, int PACK>
struct Part {
    static constexpr int CHANNELS = NHWC ? PACK : 1, COLS = NHWC ? ACROSS : PACK;
    static constexpr int LIVE = (FILTER + STEP - 1) / STEP, CYCLE = LIVE * STEP;
    static constexpr int PERIOD = NHWC || (FILTER > 3 && sizeof(Scalar) > 2) ? CYCLE : 2 * CYCLE;

    // Bytes of a row of the input as it waits, and those there are: shared memory of a block (NHWC), or
    // registers of a thread that do not hold filters and sums.
    static constexpr int ROW = NHWC ? sizeof(Side<PACK>) * ((COLS - 1) * STEP + FILTER) * BLOCK
                                    : sizeof(Side<PACK>) * STEP + sizeof(Real) * FILTER;
    static constexpr int FREE = 65536 / (BLOCKS<FILTER> * BLOCK) - 20;
    static constexpr int ROOM = NHWC ? 40 << 10 : 4 * FREE - sizeof(Real) * (FILTER * FILTER + LIVE * COLS);

    // Rows that are read before the first is needed: what is on its way keeps memory busy.
    static constexpr int ahead(int rows) {
        return rows == 1 || (PERIOD % rows == 0 && rows * ROW <= ROOM) ? rows : ahead(rows - 1);
    }
};

// `count` strips of `height` rows. Rows (NHWC: channels, a filter each) are multiples of PACK.
template <int FILTER, int STEP, int PACK>
__device__ __forceinline__ void packs(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s,
                                      unsigned count, int height) {
    using T = Part<FILTER, STEP, PACK>;
    constexpr int CHANNELS = T::CHANNELS, COLS = T::COLS, PERIOD = T::PERIOD, AHEAD = T::ahead(PERIOD);
    constexpr int TAPS = FILTER * FILTER;
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    if (index >= count)
        return;
    const int high = s.rows.x, wide = s.cols.x, down = s.rows.y, across = s.cols.y, all = s.groups * s.k;
    Place at = place_of(index, all / CHANNELS, s.pixel_tiles, (across + COLS - 1) / COLS, height);
    at.channel *= CHANNELS, at.col = min(at.col * COLS, across - COLS);  // the last two may share columns
    const int h = at.row * STEP - s.rows.pad, v = at.col * STEP - s.cols.pad;
    const int rows = (min(height, down - at.row) - 1) * STEP + FILTER;  // of `in`
    const Steps from(s.groups, high * wide), to(all, down * across);
    const Scalar *x = in + at.n * from.image + (long long)(at.channel / s.k) * from.channel;
    x += ((long long)h * wide + v) * from.pixel;
    const int x_row = wide * from.pixel, y_row = across * to.pixel;
    Scalar *y = out + at.n * to.image + (long long)at.channel * to.channel;
    y += ((long long)at.row * across + at.col) * to.pixel;

    Lines<FILTER, STEP, PACK, AHEAD> lines(View{h, rows, high, v, wide, from.pixel});
#pragma unroll
    for (int i = 0; i < AHEAD; ++i, x += x_row)
        lines.load(i, x, i);
    const auto *f = reinterpret_cast<const Side<CHANNELS> *>(w + (long long)at.channel * TAPS);
    Side<CHANNELS> stored[TAPS];
#pragma unroll
    for (int i = 0; i < TAPS; ++i)
        stored[i] = f[i];
    Real weight[TAPS][CHANNELS], sum[T::LIVE][COLS][CHANNELS] = {};
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap)
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            const int one = c * TAPS + tap, other = c * TAPS + TAPS - 1 - tap;
            const Scalar value = stored[one / CHANNELS].get(one % CHANNELS);
            weight[tap][c] = widen(s.flip ? stored[other / CHANNELS].get(other % CHANNELS) : value);
        }
#pragma unroll 1
    for (int first = 0; first < rows; first += PERIOD)
#pragma unroll
        for (int i = 0; i < PERIOD; ++i, x += x_row) {
            if (i && first + i >= rows)
                break;
            lines.wait(i % AHEAD);
#pragma unroll
            for (int j = 0; j < (COLS - 1) * STEP + FILTER; ++j) {
                Real value[CHANNELS];
                lines.get(i % AHEAD, j, value);
#pragma unroll
                for (int c = 0; c < CHANNELS; ++c)
#pragma unroll
                    for (int l = 0; l < T::LIVE; ++l)
#pragma unroll
                        for (int q = 0; q < COLS; ++q) {
                            const int row = (i + PERIOD - l * STEP) % T::CYCLE, col = j - q * STEP;
                            if (row >= FILTER || col < 0 || col >= FILTER)
                                continue;
                            const Real term = weight[row * FILTER + col][c] * value[c];
                            sum[l][q][c] = row || col ? sum[l][q][c] + term : term;
                        }
            }
            lines.load(i % AHEAD, x, first + i + AHEAD);
#pragma unroll
            for (int l = 0; l < T::LIVE; ++l)
                if ((i + PERIOD - l * STEP) % T::CYCLE == FILTER - 1 && first + i >= FILTER - 1) {
                    write<PACK>(y, sum[l], to.pixel);
                    y += y_row;
                }
        }
}

