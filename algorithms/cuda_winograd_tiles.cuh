// Where kernels of cuda_winograd.cu read and write: tiles of images, filters, and transformed tensors.
#pragma once

#include "gpu.cuh"

#include "cuda_winograd_points.cuh"

// fp32, scaled fp16, or both halves of scaled fp32: as cuBLAS multiplies them, or once each.
enum Form { SINGLE, HALF, SPLIT, PAIR, WOVEN };

struct Axis {
    int size, lead, parts, count;  // pixels after zeros; tiles in each part that dilation interleaves
};

struct Tiles {
    long long n, c, h, w;  // strides of the image
    Axis rows, cols;
    int images, channels;
    int channels_last;
    int vector;  // neighbours along w that one access may write
};

struct Filters {
    long long k, c, r, s;  // strides of w
    int outputs, depth;    // K and C/g
    int per_group;         // K/g
    int flip;
};

// A transformed tensor: its strides, and where halves are put. One sum over (low, high, high) times
// (high', low', high') makes all three products. Where products sum over tiles, parts cut them.
// In transformed filters the output channels lie where else tiles do.
struct Operand {
    long long point, part, group, channel, tile;
    long long high, low, again;
    int depth, length, parts;  // channels of a group, tiles of a part
    int form;
};

// Where an index begins: 32 high halves and 32 low ones may alternate along rows (WOVEN) or down the rows (PAIR).
__device__ __forceinline__ long long along(const Operand &at, int index, long long stride) {
    const bool alternate = at.form == (stride == 1 ? WOVEN : PAIR);
    return (alternate ? index + (index & ~31) : index) * stride;
}

__device__ __forceinline__ void put(void *out, long long index, const Operand &to, float value) {
    if (to.form == SINGLE) {
        ((float *)out)[index] = value;
        return;
    }
    __half *halves = (__half *)out + index;
    const __half high = __float2half_rn(value);
    halves[to.high] = high;
    if (to.form == HALF) return;
    halves[to.low] = __float2half_rn(value - __half2float(high));
    if (to.form == SPLIT) halves[to.again] = high;
}

// X d X^T, times the scale, to all points.
template <class X>
__device__ __forceinline__ void transform(const float *d, void *out, long long index, const Operand &to,
                                          float scale) {
    float half_way[X::rows * X::cols];
    columns<X>(d, half_way);
#pragma unroll
    for (int i = 0; i < X::rows; ++i)
#pragma unroll
        for (int j = 0; j < X::rows; ++j, index += to.point)
            put(out, index, to, scale * dot<X>(j, half_way + i * X::cols, 1));
}

// The products of all points, half way back.
template <class X>
__device__ __forceinline__ void gather(const float *products, long long index, long long point,
                                       float *half_way) {
    float d[SIZE * SIZE];
#pragma unroll
    for (int i = 0; i < SIZE * SIZE; ++i) d[i] = products[index + i * point];
    columns<X>(d, half_way);
}

// 2^n
__device__ __forceinline__ float power(int n) {
    return __uint_as_float((min(max(n, -126), 126) + 127) << 23);
}

// The exponent of what scaled products are too large by: factors stay below 2^15, products below 2^30.
__device__ __forceinline__ int range(unsigned peak) {
    return min(max(30 + 2 * 126 - (int)peak, -126), 126);
}

__device__ __forceinline__ float unscale(const unsigned *peak) {
    return peak ? power(-range(*peak)) : 1.0f;
}

// ---- what a thread works on: neighbouring threads on neighbours in memory ---------------------------------

__device__ __forceinline__ int fast() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int slow() { return blockIdx.y * blockDim.y + threadIdx.y; }
__device__ __forceinline__ int fast_step() { return gridDim.x * blockDim.x; }
__device__ __forceinline__ int slow_step() { return gridDim.y * blockDim.y; }

// ---- tiles of an image ------------------------------------------------------------------------------------

struct Spot {
    int image, row, col;  // the first pixel, which may lie in the padding
};

__device__ __forceinline__ int first_pixel(const Axis &axis, int index) {
    if (axis.parts == 1) return index * STEP - axis.lead;
    return index / axis.parts * STEP * axis.parts + index % axis.parts - axis.lead;
}

__device__ __forceinline__ Spot locate(const Tiles &tiles, int tile) {
    const unsigned rows = tiles.rows.count * tiles.rows.parts, cols = tiles.cols.count * tiles.cols.parts;
    const unsigned line = tile / cols, image = line / rows;
    const int row = first_pixel(tiles.rows, line - image * rows);
    return {(int)image, row, first_pixel(tiles.cols, tile - line * cols)};
}

// WIDE x WIDE pixels of a channel as fp32, zeros outside of the image and for tiles behind the last one.
template <int WIDE>
struct Window {
    const ELEMENT *image;
    long long height;
    int row, rows, step;
    int offset[WIDE];
    bool inside[WIDE];

    __device__ __forceinline__ Window(const ELEMENT *first, const Tiles &tiles, int channel, int tile) {
        const Spot spot = locate(tiles, tile);
        const bool real = spot.image < tiles.images;
        image = first + (real ? spot.image : 0) * tiles.n + channel * tiles.c;
        height = tiles.h, row = spot.row, rows = tiles.rows.size, step = tiles.rows.parts;
#pragma unroll
        for (int j = 0; j < WIDE; ++j) {
            const int col = spot.col + j * tiles.cols.parts;
            inside[j] = real && col >= 0 && col < tiles.cols.size;
            offset[j] = inside[j] ? col * (int)tiles.w : 0;
        }
    }

    // All loads are made, of the first pixel where there is none, so that many of them are under way.
    __device__ __forceinline__ void line(int i, float *d) const {
        const int at = row + i * step;
        const bool present = at >= 0 && at < rows;
        const ELEMENT *pixels = image + (present ? at * height : 0);
#pragma unroll
        for (int j = 0; j < WIDE; ++j) {
            const float value = to_float(pixels[offset[j]]);
            d[j] = present && inside[j] ? value : 0.0f;
        }
    }
};

// The same where pairs of pixels lie within rows, are aligned, and either inside of the image or outside: what
// neighbouring tiles share is then read fewer times.
template <int WIDE>
struct PairedWindow {
    static constexpr int PAIRS = WIDE / 2 + 1;
    const ELEMENT *image;
    long long height;
    int row, rows, offset[PAIRS];
    bool odd, inside[PAIRS];

    __device__ __forceinline__ PairedWindow(const ELEMENT *first, const Tiles &tiles, int channel, int tile) {
        const Spot spot = locate(tiles, tile);
        const bool real = spot.image < tiles.images;
        image = first + (real ? spot.image : 0) * tiles.n + channel * tiles.c;
        height = tiles.h, row = spot.row, rows = tiles.rows.size, odd = tiles.cols.lead & 1;
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) {
            const int col = spot.col - odd + 2 * j;
            inside[j] = real && col >= 0 && col < tiles.cols.size && (odd || 2 * j < WIDE);
            offset[j] = inside[j] ? col : 0;
        }
    }

    __device__ __forceinline__ void line(int i, float *d) const {
        const int at = row + i;
        const bool present = at >= 0 && at < rows;
        const ELEMENT *pixels = image + (present ? at * height : 0);
        float values[2 * PAIRS];
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) {
            const Pack<ELEMENT, 2> pack = load_pack<2>(pixels + offset[j]);
            const bool there = present && inside[j];
            values[2 * j] = there ? to_float(pack.at[0]) : 0.0f;
            values[2 * j + 1] = there ? to_float(pack.at[1]) : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < WIDE; ++j) d[j] = odd ? values[j + 1] : values[j];
    }
};

__device__ __forceinline__ long long place(const Operand &at, int channel, int tile) {
    const int group = channel / at.depth, part = tile / at.length;
    return part * at.part + group * at.group + along(at, channel - group * at.depth, at.channel) +
           along(at, tile - part * at.length, at.tile);
}

// ---- filters ----------------------------------------------------------------------------------------------

__device__ __forceinline__ long long tap(const Filters &w, int k, int c, int r, int s) {
    return k * w.k + c * w.c + (w.flip ? TAPS - 1 - r : r) * w.r + (w.flip ? TAPS - 1 - s : s) * w.s;
}

__device__ __forceinline__ long long place(const Filters &w, const Operand &at, int k, int c) {
    const int group = k / w.per_group;
    return group * at.group + along(at, k - group * w.per_group, at.tile) + along(at, c, at.channel);
}

// What products sum over: input channels forward, output channels in backward-data.
__device__ __forceinline__ int summed(const Filters &w, int k, int c, int by_output) {
    return by_output ? k : k / w.per_group * w.depth + c;
}
