// The transforms of Winograd's minimal filtering F(m x m, r x r); the products between them are BLAS's.
//
//   data_tiles       V = B^T d B   of every tile of an image: a x a pixels, a = m + r - 1, m apart
//   filters          U = G w G^T   of every filter
//   gradient_tiles   Z = G y G^T   of every m x m tile of dy, which are the filters of backward-filter
//   inverse_tiles    A^T M A       of the products of every tile, put in its place in the image
//   inverse_filters  A^T M A       of the products of every filter gradient
//   sum_parts        adds up partial products in a fixed order
//   *_maxima, peak, scales         powers of two that bring both operands into the range of fp16
//
// Mapping  One thread transforms one tile of one channel in registers. Neighbours lie along tiles in NCHW and
//          along channels in NHWC, as do operands in memory: a warp reads and writes them in whole lines.
// Memory   An operand is [point][part][group] matrices of channels x tiles, in either order; see Operand.
// Macros   ELEMENT, STEP (m), TAPS (r), POINTS (the finite ones).

#include "cuda_winograd_tiles.cuh"

template <class X>
__device__ __forceinline__ void transform_tiles(const ELEMENT *image, const Tiles &tiles, void *out,
                                                const Operand &to, const float *scales, int by_tile) {
    const int total = to.parts * to.length, last = tiles.channels_last;
    const int wide = last ? tiles.channels : total, high = last ? total : tiles.channels;
    if (fast() >= wide) return;
    for (int other = slow(); other < high; other += slow_step()) {
        const int channel = last ? fast() : other, tile = last ? other : fast();
        const Window<X::cols> window(image, tiles, channel, tile);
        float d[X::cols * X::cols];
#pragma unroll
        for (int i = 0; i < X::cols; ++i) window.line(i, d + i * X::cols);
        const float scale = scales ? scales[by_tile ? tile : channel] : 1.0f;
        transform<X>(d, out, place(to, channel, tile), to, scale);
    }
}

extern "C" __global__ void __launch_bounds__(128)
data_tiles(const ELEMENT *image, Tiles tiles, void *out, Operand to, const float *scales, int by_tile) {
    transform_tiles<Data>(image, tiles, out, to, scales, by_tile);
}

// Asked for no more than four blocks, ptxas does not spill to make room for more.
extern "C" __global__ void __launch_bounds__(128, 4)
gradient_tiles(const ELEMENT *image, Tiles tiles, void *out, Operand to, const float *scales, int by_tile) {
    transform_tiles<Gradient>(image, tiles, out, to, scales, by_tile);
}

template <int VECTOR>
__device__ __forceinline__ void write_row(ELEMENT *line, const float *y, int count, long long w) {
#pragma unroll
    for (int j = 0; j + VECTOR <= STEP; j += VECTOR) {
        Pack<ELEMENT, VECTOR> pack;
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) pack.at[v] = from_float<ELEMENT>(y[j + v]);
        if (j < count) store_pack(line + j * w, pack);
    }
}

extern "C" __global__ void __launch_bounds__(128)
inverse_tiles(ELEMENT *image, Tiles tiles, const float *products, Operand from, const unsigned *peak) {
    const int total = from.parts * from.length, last = tiles.channels_last, parts = tiles.cols.parts;
    const int wide = last ? tiles.channels : total, high = last ? total : tiles.channels;
    const float factor = unscale(peak);
    if (fast() >= wide) return;
    for (int other = slow(); other < high; other += slow_step()) {
        const int channel = last ? fast() : other, tile = last ? other : fast();
        const Spot spot = locate(tiles, tile);
        if (spot.image >= tiles.images) continue;
        float half_way[STEP * SIZE], y[STEP];
        gather<Inverse>(products, place(from, channel, tile), from.point, half_way);
        const int count = (tiles.cols.size - spot.col + parts - 1) / parts;
        ELEMENT *corner = image + spot.image * tiles.n + channel * tiles.c + spot.col * tiles.w;
#pragma unroll
        for (int i = 0; i < STEP; ++i) {
            const int row = spot.row + i * tiles.rows.parts;
#pragma unroll
            for (int j = 0; j < STEP; ++j) y[j] = factor * dot<Inverse>(j, half_way + i * SIZE, 1);
            if (row >= tiles.rows.size) continue;
            ELEMENT *line = corner + row * tiles.h;
            if (tiles.vector == 4) write_row<4>(line, y, count, 1);
            else if (tiles.vector == 2) write_row<2>(line, y, count, 1);
            else write_row<1>(line, y, count, parts * tiles.w);
        }
    }
}

// ---- filters ----------------------------------------------------------------------------------------------

__device__ __forceinline__ long long tap(const Filters &w, int k, int c, int r, int s) {
    return k * w.k + c * w.c + (w.flip ? TAPS - 1 - r : r) * w.r + (w.flip ? TAPS - 1 - s : s) * w.s;
}

__device__ __forceinline__ long long place(const Filters &w, const Operand &at, int k, int c) {
    const int group = k / w.per_group;
    return group * at.group + (k - group * w.per_group) * at.tile + c * at.channel;
}

// What products sum over: input channels forward, output channels in backward-data.
__device__ __forceinline__ int summed(const Filters &w, int k, int c, int by_output) {
    return by_output ? k : k / w.per_group * w.depth + c;
}

extern "C" __global__ void __launch_bounds__(128)
filters(const ELEMENT *w, Filters shape, void *out, Operand to, const float *scales, int by_output) {
    const int c = fast();
    if (c >= shape.depth) return;
    for (int k = slow(); k < shape.outputs; k += slow_step()) {
        float d[TAPS * TAPS];
#pragma unroll
        for (int r = 0; r < TAPS; ++r)
#pragma unroll
            for (int s = 0; s < TAPS; ++s) d[r * TAPS + s] = to_float(w[tap(shape, k, c, r, s)]);
        const float scale = scales ? scales[summed(shape, k, c, by_output)] : 1.0f;
        transform<Filter>(d, out, place(shape, to, k, c), to, scale);
    }
}

extern "C" __global__ void __launch_bounds__(128)
inverse_filters(ELEMENT *w, Filters shape, const float *products, Operand from, const unsigned *peak) {
    const float factor = unscale(peak);
    const int c = fast();
    if (c >= shape.depth) return;
    for (int k = slow(); k < shape.outputs; k += slow_step()) {
        float half_way[TAPS * SIZE];
        gather<GradientInverse>(products, place(shape, from, k, c), from.point, half_way);
#pragma unroll
        for (int r = 0; r < TAPS; ++r)
#pragma unroll
            for (int s = 0; s < TAPS; ++s) {
                const float gradient = factor * dot<GradientInverse>(s, half_way + r * SIZE, 1);
                w[tap(shape, k, c, r, s)] = from_float<ELEMENT>(gradient);
            }
    }
}

// Adds the other parts to the first one, point by point.
extern "C" __global__ void __launch_bounds__(128) sum_parts(float *products, Operand of) {
    products += blockIdx.y * of.point;
    for (long long i = fast(); i < of.part; i += fast_step()) {
        float sum[8] = {};
        for (int part = 0; part < of.parts; part += 8)
#pragma unroll
            for (int j = 0; j < 8; ++j)
                if (part + j < of.parts) sum[j] += products[(part + j) * of.part + i];
        products[i] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    }
}

// ---- powers of two for fp16 -------------------------------------------------------------------------------
//
// The factors of a product are scaled by opposite powers of two, one pair for every channel (in
// backward-filter: tile) that is summed over, so that a channel which is tiny in one and huge in the other
// meets in the middle. What remains, 2^range, is common to all. Zeros get the scale 0; infinities become NaN.

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

// The largest magnitude of one pixel in all images.
__device__ __forceinline__ unsigned of_pixel(const ELEMENT *image, const Tiles &tiles, int channel,
                                             int pixel) {
    unsigned bits = 0;
    image += channel * tiles.c + pixel * tiles.w;
    for (int i = 0; i < tiles.images; ++i) bits = max(bits, magnitude(to_float(image[i * tiles.n])));
    return bits;
}

// The same of one tile of a channel.
template <int WIDE>
__device__ __forceinline__ unsigned of_tile(const ELEMENT *image, const Tiles &tiles, int channel,
                                            int tile) {
    const Window<WIDE> window(image, tiles, channel, tile);
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

// Bounds on every channel, or on every tile, after the transform; as bits, in an array that has been cleared.
// Where what is looked at lies along warps, these are 32 wide and agree.
extern "C" __global__ void __launch_bounds__(128)
channel_maxima(const ELEMENT *image, Tiles tiles, unsigned *maxima) {
    const int pixels = tiles.rows.size * tiles.cols.size;
    if (tiles.channels_last) {
        for (int channel = fast(); channel < tiles.channels; channel += fast_step()) {
            unsigned bits = 0;
            for (int i = slow(); i < pixels; i += slow_step())
                bits = max(bits, of_pixel(image, tiles, channel, i));
            record<Data>(maxima, channel, bits);
        }
        return;
    }
    for (int channel = slow(); channel < tiles.channels; channel += slow_step()) {
        unsigned bits = 0;
        for (int i = fast(); i < pixels; i += fast_step())
            bits = max(bits, of_pixel(image, tiles, channel, i));
        bits = warp_maximum(bits);
        if (threadIdx.x % 32 == 0) record<Data>(maxima, channel, bits);
    }
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

extern "C" __global__ void __launch_bounds__(128)
data_maxima(const ELEMENT *image, Tiles tiles, unsigned *maxima) {
    tile_maxima<Data>(image, tiles, maxima);
}

extern "C" __global__ void __launch_bounds__(128)
gradient_maxima(const ELEMENT *image, Tiles tiles, unsigned *maxima) {
    tile_maxima<Gradient>(image, tiles, maxima);
}

extern "C" __global__ void __launch_bounds__(128)
filter_maxima(const ELEMENT *w, Filters shape, unsigned *maxima, int by_output) {
    const int c = fast();
    if (c >= shape.depth) return;
    for (int k = slow(); k < shape.outputs; k += slow_step()) {
        unsigned bits = 0;
        for (int r = 0; r < TAPS; ++r)
            for (int s = 0; s < TAPS; ++s)
                bits = max(bits, magnitude(to_float(w[tap(shape, k, c, r, s)])));
        record<Filter>(maxima, summed(shape, k, c, by_output), bits);
    }
}

// The largest sum of both factors' exponents, as floats hold them; stays 0 if all products are 0.
extern "C" __global__ void __launch_bounds__(128)
peak(const unsigned *left, const unsigned *right, unsigned *peak, int count) {
    unsigned best = 0;
    for (int i = fast(); i < count; i += fast_step()) {
        const unsigned l = left[i] >> 23, r = right[i] >> 23;
        if (l && r) best = max(best, l + r);
    }
    if (best) atomicMax(peak, best);
}

// Makes scales of the maxima, in place.
extern "C" __global__ void __launch_bounds__(128)
scales(float *left, float *right, const unsigned *peak, int count) {
    const int total = range(*peak);
    for (int i = fast(); i < count; i += fast_step()) {
        const int l = __float_as_uint(left[i]) >> 23, r = __float_as_uint(right[i]) >> 23;
        const int half = (total + r - l) >> 1;
        left[i] = l && r ? power(half) : 0.0f;
        right[i] = l && r ? power(total - half) : 0.0f;
    }
}
