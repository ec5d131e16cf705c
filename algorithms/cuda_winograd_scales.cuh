// Powers of two that bring both operands of a product into the range of fp16, from the largest values there.
//
// The factors of a product are scaled by opposite powers of two, one pair for every channel (in
// backward-filter: tile) that is summed over, so that a channel which is tiny in one and huge in the other
// meets in the middle. What remains, 2^range, is common to all. Zeros get the scale 0; infinities become NaN.
#pragma once

#include "cuda_winograd_tiles.cuh"

template <class X>
__device__ __forceinline__ void record(unsigned *maxima, int key, unsigned bits) {
    constexpr float factor = bound<X>();
    atomicMax(maxima + key, __float_as_uint(factor * __uint_as_float(bits)));
}

// Bits of absolute values compare like them, and NaN is above all.
__device__ __forceinline__ unsigned magnitude(float value) { return __float_as_uint(fabsf(value)); }

__device__ __forceinline__ unsigned warp_maximum(unsigned bits) {
    for (int lanes = 16; lanes; lanes /= 2) bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, lanes));
    return bits;
}

// The largest magnitude of one pixel in all images, or in one of several slices.
__device__ __forceinline__ unsigned of_pixel(const ELEMENT *image, const Tiles &tiles, int channel, int pixel,
                                             int slice = 0, int slices = 1) {
    unsigned bits = 0;
    image += channel * tiles.c + pixel * tiles.w;
#pragma unroll 16
    for (int i = slice; i < tiles.images; i += slices)
        bits = max(bits, magnitude(to_float(image[i * tiles.n])));
    return bits;
}

template <int WIDE, class Pixels>
__device__ __forceinline__ unsigned of_window(const Pixels &window) {
    unsigned bits = 0;
#pragma unroll 1
    for (int i = 0; i < WIDE; ++i) {
        float d[WIDE];
        window.line(i, d);
#pragma unroll
        for (int j = 0; j < WIDE; ++j) bits = max(bits, magnitude(d[j]));
    }
    return bits;
}

// The same of one tile of a channel.
template <int WIDE>
__device__ __forceinline__ unsigned of_tile(const ELEMENT *image, const Tiles &tiles, int channel,
                                            int tile) {
    if (tiles.vector > 1) return of_window<WIDE>(PairedWindow<WIDE>(image, tiles, channel, tile));
    return of_window<WIDE>(Window<WIDE>(image, tiles, channel, tile));
}

// Of 32 channels and MANY output channels, a warp; one atomic for what a thread has seen or, by output channels,
// the warp: many to one address take long.
constexpr int MANY = 4;

__device__ __forceinline__ void maxima_of_filters(const ELEMENT *w, const Filters &shape, unsigned *maxima,
                                                  int by_output, int unit) {
    const int across = (shape.depth + 31) / 32, c = unit % across * 32 + threadIdx.x % 32;
    const int first = unit / across * MANY, end = min(first + MANY, shape.outputs);
    unsigned best = 0;
    for (int k = first; k < end; ++k) {
        unsigned bits = 0;
        if (c < shape.depth)
            for (int r = 0; r < TAPS; ++r)
                for (int s = 0; s < TAPS; ++s)
                    bits = max(bits, magnitude(to_float(w[tap(shape, k, c, r, s)])));
        if (by_output) {
            bits = warp_maximum(bits);
            if (threadIdx.x % 32 == 0) record<Filter>(maxima, k, bits);
            continue;
        }
        best = max(best, bits);
        const int key = summed(shape, k, c, 0);
        if (c >= shape.depth || k + 1 < end && summed(shape, k + 1, c, 0) == key) continue;
        record<Filter>(maxima, key, best);
        best = 0;
    }
}

// All of a grid of `warps`.
__device__ __forceinline__ void maxima_of_filters(const ELEMENT *w, const Filters &shape, unsigned *maxima,
                                                  int by_output, int warp, int warps) {
    const int units = (shape.depth + 31) / 32 * ((shape.outputs + MANY - 1) / MANY);
    for (int unit = warp; unit < units; unit += warps) maxima_of_filters(w, shape, maxima, by_output, unit);
}

template <class X>
__device__ __forceinline__ void tile_maxima(const ELEMENT *image, const Tiles &tiles, unsigned *maxima) {
    const int rows = tiles.rows.count * tiles.rows.parts, cols = tiles.cols.count * tiles.cols.parts;
    const int total = tiles.images * rows * cols;
    if (tiles.channels_last) {
        for (int tile = slow(); tile < total; tile += slow_step()) {
            unsigned bits = 0;
            for (int i = fast(); i < tiles.channels; i += fast_step())
                bits = max(bits, of_tile<X::cols>(image, tiles, i, tile));
            bits = warp_maximum(bits);
            if (threadIdx.x % 32 == 0) record<X>(maxima, tile, bits);
        }
        return;
    }
    for (int tile = fast(); tile < total; tile += fast_step()) {
        unsigned bits = 0;
        for (int i = slow(); i < tiles.channels; i += slow_step())
            bits = max(bits, of_tile<X::cols>(image, tiles, i, tile));
        record<X>(maxima, tile, bits);
    }
}

// The sum of both factors' exponents, as floats hold them; 0 if the product is 0.
__device__ __forceinline__ unsigned exponents(float left, float right) {
    const unsigned l = __float_as_uint(left) >> 23, r = __float_as_uint(right) >> 23;
    return l && r ? l + r : 0;
}

// Makes scales of the maxima of one key, in place.
__device__ __forceinline__ void scale(float *left, float *right, int total) {
    const int l = __float_as_uint(*left) >> 23, r = __float_as_uint(*right) >> 23;
    const int half = (total + r - l) >> 1;
    *left = l && r ? power(half) : 0.0f;
    *right = l && r ? power(total - half) : 0.0f;
}
