// Rows of x, as halves in shared memory, for kernels that go down a band of rows of y.
//
// They lie in a ring, one after the other and padded as the image is, and both halves of a number in one word. Some
// warps write them ahead of others that pick the words that taps meet.
#pragma once

#include "cuda_implicit_point.cuh"
#include "cuda_implicit_scale.cuh"

// Along rows or columns: pixels of x and of y.
struct Axis {
    int x, y, taps, pad, stride, dilation;
};

#if SUITED
constexpr int PIXELS = 128; // of a row of y at once
constexpr int AHEAD = 3;    // rows of y that x is there for
constexpr int BATCH = 9;    // numbers that a lane waits for at once

// What a block computes. The shapes of both kernels have the same names.
struct Place {
    int n, first;   // image; filters from this one on
    int begin, end; // rows of y
    int top, reach; // the first row of x that is met; from the first to the last that a row of y meets

    template <class Shape> __device__ __forceinline__ explicit Place(const Shape &s) {
        first = blockIdx.x % s.units * FILTERS;
        const int band = blockIdx.x / s.units % s.bands;
        n = blockIdx.x / s.units / s.bands;
        begin = band * s.height, end = min(begin + s.height, s.rows.y);
        top = begin * s.rows.stride - s.rows.pad, reach = (s.rows.taps - 1) * s.rows.dilation;
    }
};

// Slots in turn.
template <int COUNT> struct Turn {
    int slot = 0, phase = 0;

    __device__ __forceinline__ void next() {
        if (++slot == COUNT)
            slot = 0, phase ^= 1;
    }
};

// The largest magnitude in the rows of a channel that this block meets, of the numbers that a thread looks at.
template <class Shape>
__device__ __forceinline__ unsigned most_of(const float *x, const Shape &s, const Place &place, int c) {
    const int from = max(place.top, 0), last = place.top + (place.end - place.begin - 1) * s.rows.stride + place.reach;
    const int count = (min(last, s.rows.x - 1) - from + 1) * s.cols.x;
    x += (((long long)place.n * s.channels + c) * s.rows.x + from) * s.cols.x;
    unsigned bits = 0;
    const auto look = [&](float value) { bits = max(bits, __float_as_uint(fabsf(value))); };
    if (s.cols.x % 4 == 0) {
#pragma unroll 8
        for (int i = threadIdx.x; i < count / 4; i += THREADS) {
            const float4 value = ((const float4 *)x)[i];
            look(value.x), look(value.y), look(value.z), look(value.w);
        }
    } else {
#pragma unroll 8
        for (int i = threadIdx.x; i < count; i += THREADS)
            look(x[i]);
    }
    return bits;
}

__device__ __forceinline__ unsigned both_halves(float value) {
    const __half high = __float2half_rn(value), low = __float2half_rn(value - __half2float(high));
    return *(const unsigned short *)&high | (unsigned)*(const unsigned short *)&low << 16;
}

// Row `row` of those that the block meets, of one channel, times both factors: by a warp.
template <class Shape>
__device__ __forceinline__ void copy_row(unsigned *ring, const float *x, const Shape &s, const Place &place, int c,
                                         int row, float factor, float scale) {
    const int h = place.top + row;
    const bool inside = h >= 0 && h < s.rows.x;
    x += (((long long)place.n * s.channels + c) * s.rows.x + (inside ? h : 0)) * s.cols.x;
    ring += (c * s.ring + row % s.ring) * s.width;
    for (int first = threadIdx.x % 32; first < s.width; first += 32 * BATCH) {
        float values[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; ++i) {
            const int w = first + 32 * i - s.cols.pad;
            values[i] = inside && w >= 0 && w < s.cols.x ? x[w] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < BATCH; ++i)
            if (first + 32 * i < s.width)
                ring[first + 32 * i] = both_halves(values[i] * factor * scale);
    }
}

// What four warps do: for one row of y after the other copy(c, row) and then describe(slot, row).
template <class Memory, class Shape, class Copy, class Describe>
__device__ __forceinline__ void load_rows(const Memory &at, const Shape &s, const Place &place, Copy copy,
                                          Describe describe) {
    Turn<AHEAD> turn;
    for (int p = place.begin, row = 0, next = 0; p < place.end; ++p, row += s.rows.stride, turn.next()) {
        wait_until_empty(at.emptied(turn.slot), turn.phase);
        next = max(next, row); // rows that strides pass over are not needed
        const int lines = (row + place.reach + 1 - next) * s.channels;
        for (int line = threadIdx.x / 32 % 4; line < lines; line += 4)
            copy(line % s.channels, next + line / s.channels);
        next = row + place.reach + 1;
        describe(turn.slot, row);
        arrive(at.full(turn.slot));
    }
}
#endif
