// im2col and its adjoint in device memory; the matrix products between them are BLAS's.
//
//   lower_planes  columns[c, r, s][pixel] of an image [c][h][w]; threads side by side on pixels
//   lower_rows    columns[pixel][g, r, s, c] of an image [h][w][c]; threads side by side on a row of columns
//   raise_planes, raise_rows  sum columns back into the image: a gather, so nothing is atomic
//   move_rows     swaps the two outer axes of rows of pixels
//   sum_parts     adds up partial filter gradients
//
// Lowering only moves bits, so elements are unsigned integers of their size. Columns that are summed are
// wide: float, or double. Planes make one or more matrices (blockIdx.z) of one or more images side by side;
// rows make one. A matrix has less than 2^31 pixels and less than 2^31 columns. Macros: ELEMENT.

#include "gpu.cuh"

using Wide = Sum<ELEMENT>::type;

template <int BYTES> struct BitsOf;
template <> struct BitsOf<2> {
    using type = unsigned short;
};
template <> struct BitsOf<4> {
    using type = unsigned;
};
template <> struct BitsOf<8> {
    using type = unsigned long long;
};
using Bits = BitsOf<sizeof(ELEMENT)>::type;

// Tap t of output o reads pixel o stride + first + t step.
struct Axis {
    int size, outputs, taps, stride, first, step;
};

struct Shape {
    Axis rows, cols;
    int images, channels, groups;  // images of one matrix
    long long matrix, pitch;  // elements from one matrix of columns to the next, from one row to the next
};

constexpr int THREADS = 256, NOWHERE = -(1 << 30);

__device__ __forceinline__ bool within(int i, int size) { return (unsigned)i < (unsigned)size; }

// ---- images as planes of channels -----------------------------------------------------------------------

constexpr int PAIR = sizeof(Bits) == 2 ? 2 : 1;  // pixels a thread writes at once: four bytes or more
constexpr int GROUPS = 4 / PAIR;

// A thread takes COUNT pairs of pixels, a block apart, and goes through all taps of some channels.
template <int COUNT>
__device__ __forceinline__ void copy_planes(const Bits *x, Bits *columns, const Shape &shape) {
    const Axis &rows = shape.rows, &cols = shape.cols;
    const unsigned pixel = (blockIdx.x * COUNT * THREADS + threadIdx.x) * PAIR;
    const unsigned total = shape.images * rows.outputs * cols.outputs;
    const int plane = rows.size * cols.size;
    const long long down = (long long)rows.step * cols.size;
    const Bits *from[COUNT][PAIR];  // the row of the first tap
    int h[COUNT][PAIR], w[COUNT][PAIR];
    bool real[COUNT];
#pragma unroll
    for (int g = 0; g < COUNT; ++g) {
        real[g] = pixel + g * THREADS * PAIR < total;
#pragma unroll
        for (int i = 0; i < PAIR; ++i) {
            const unsigned at = pixel + g * THREADS * PAIR + i, line = at / cols.outputs;
            const unsigned image = line / rows.outputs;
            h[g][i] = at < total ? (int)(line - image * rows.outputs) * rows.stride + rows.first : NOWHERE;
            w[g][i] = (int)(at - line * cols.outputs) * cols.stride + cols.first;
            from[g][i] = x + (long long)image * shape.channels * plane + (long long)h[g][i] * cols.size;
        }
    }
    columns += pixel;
    for (int c = blockIdx.y; c < shape.channels; c += gridDim.y) {
        Bits *to = columns + (long long)c * rows.taps * cols.taps * shape.pitch;
        long long offset = (long long)c * plane;
        for (int r = 0; r < rows.taps; ++r, offset += down) {
            const Bits *line[COUNT][PAIR];
            int width[COUNT][PAIR];  // of the line, which is empty outside of the image
#pragma unroll
            for (int g = 0; g < COUNT; ++g)
#pragma unroll
                for (int i = 0; i < PAIR; ++i) {
                    line[g][i] = opaque(from[g][i] + offset);
                    width[g][i] = within(h[g][i] + r * rows.step, rows.size) ? cols.size : 0;
                }
#pragma unroll 1
            for (int s = 0, shift = 0; s < cols.taps; ++s, shift += cols.step, to += shape.pitch) {
                Bits *const column = opaque(to);
                Pack<Bits, PAIR> pack[COUNT];
#pragma unroll
                for (int g = 0; g < COUNT; ++g)
#pragma unroll
                    for (int i = 0; i < PAIR; ++i) {
                        const int col = w[g][i] + shift;
                        pack[g].at[i] = within(col, width[g][i]) ? line[g][i][col] : 0;
                    }
#pragma unroll
                for (int g = 0; g < COUNT; ++g)
                    if (real[g]) store_pack(column + g * THREADS * PAIR, pack[g]);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    lower_planes(const Bits *__restrict__ x, Bits *__restrict__ columns, Shape shape, int count) {
    x += (long long)blockIdx.z * shape.images * shape.channels * shape.rows.size * shape.cols.size;
    columns += blockIdx.z * shape.matrix;
    if (count == 1) copy_planes<1>(x, columns, shape);
    else copy_planes<GROUPS>(x, columns, shape);
}

// The output whose tap reads the pixel `distance` + first + t step, or -1.
template <bool STRIDED> __device__ __forceinline__ int output_of(const Axis &axis, int distance) {
    const int o = STRIDED ? distance / axis.stride : distance;
    return distance >= 0 && o < axis.outputs && (!STRIDED || o * axis.stride == distance) ? o : -1;
}

constexpr int CHANNELS = 8;  // of one thread: as many loads in flight

// Sums COUNT channels of one pixel.
template <bool STRIDED, int COUNT>
__device__ __forceinline__ void sum_pixel(const Wide *columns, ELEMENT *x, const Shape &shape, int h, int w) {
    const Axis &rows = shape.rows, &cols = shape.cols;
    const long long apart = rows.taps * cols.taps * shape.pitch;
    Wide sums[COUNT] = {};
    for (int r = 0; r < rows.taps; ++r) {
        const int p = output_of<STRIDED>(rows, h - rows.first - r * rows.step);
        if (p < 0) continue;
#pragma unroll 1
        for (int s = 0; s < cols.taps; ++s) {
            const int q = output_of<STRIDED>(cols, w - cols.first - s * cols.step);
            if (q < 0) continue;
            const Wide *from = columns + (r * cols.taps + s) * shape.pitch + p * cols.outputs + q;
            Wide values[COUNT];
#pragma unroll
            for (int k = 0; k < COUNT; ++k, from += apart) values[k] = *from;
#pragma unroll
            for (int k = 0; k < COUNT; ++k) sums[k] += values[k];
        }
    }
    const int plane = rows.size * cols.size;
#pragma unroll
    for (int k = 0; k < COUNT; ++k) x[(long long)k * plane] = narrow<ELEMENT>(sums[k]);
}

template <bool STRIDED>
__device__ __forceinline__ void sum_planes(const Wide *columns, ELEMENT *x, const Shape &shape) {
    const Axis &rows = shape.rows, &cols = shape.cols;
    const int plane = rows.size * cols.size, taps = rows.taps * cols.taps;
    const unsigned pixel = blockIdx.x * THREADS + threadIdx.x;
    if (pixel >= (unsigned)(shape.images * plane)) return;
    const int image = pixel / plane, at = pixel - image * plane, h = at / cols.size, w = at - h * cols.size;
    columns += (long long)image * rows.outputs * cols.outputs;
    x += (long long)image * shape.channels * plane + at;
    for (int c = blockIdx.y * CHANNELS; c < shape.channels; c += gridDim.y * CHANNELS) {
        const Wide *from = columns + (long long)c * taps * shape.pitch;
        ELEMENT *to = x + (long long)c * plane;
        if (c + CHANNELS <= shape.channels) {
            sum_pixel<STRIDED, CHANNELS>(from, to, shape, h, w);
            continue;
        }
#pragma unroll 1
        for (int k = c; k < shape.channels; ++k, from += taps * shape.pitch, to += plane)
            sum_pixel<STRIDED, 1>(from, to, shape, h, w);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    raise_planes(const Wide *__restrict__ columns, ELEMENT *__restrict__ x, Shape shape) {
    columns += blockIdx.z * shape.matrix;
    x += (long long)blockIdx.z * shape.images * shape.channels * shape.rows.size * shape.cols.size;
    if (shape.rows.stride == 1 && shape.cols.stride == 1) sum_planes<false>(columns, x, shape);
    else sum_planes<true>(columns, x, shape);
}

// ---- images as rows of channels -------------------------------------------------------------------------

constexpr int RUN = 32, BATCH = 4;  // pixels of one thread, in one row of y; loads in flight

// A thread keeps its place in the row of columns, and so its tap and channel, and goes from pixel to pixel.
template <class Vector>
__device__ __forceinline__ void copy_rows(const Vector *x, Vector *columns, const Shape &shape) {
    const Axis &rows = shape.rows, &cols = shape.cols;
    const int all = shape.channels * (int)sizeof(Bits) / (int)sizeof(Vector), depth = all / shape.groups;
    const int length = all * rows.taps * cols.taps, e = blockIdx.y * blockDim.x + threadIdx.x;
    const int runs = (cols.outputs + RUN - 1) / RUN, run = blockIdx.x * blockDim.y + threadIdx.y;
    const int output = run / runs, image = output / rows.outputs, q = (run - output * runs) * RUN;
    if (e >= length || image >= shape.images) return;
    const int tap = e / depth, line = tap / cols.taps, group = line / rows.taps;
    const int p = output - image * rows.outputs, r = line - group * rows.taps, s = tap - line * cols.taps;
    const int h = p * rows.stride + rows.first + r * rows.step;
    int w = q * cols.stride + cols.first + s * cols.step;
    const int width = within(h, rows.size) ? cols.size : 0;
    const long long step = (long long)cols.stride * all;
    const Vector *from =
        x + (((long long)image * rows.size + h) * cols.size + w) * all + group * depth + e - tap * depth;
    Vector *to = columns + ((long long)output * cols.outputs + q) * length + e;
    for (int left = min(cols.outputs - q, RUN); left > 0; left -= BATCH) {
        const Vector *const source = opaque(from);
        Vector *const target = opaque(to);
        Vector values[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; ++i, w += cols.stride)
            values[i] = within(w, width) ? source[i * step] : Vector{};
#pragma unroll
        for (int i = 0; i < BATCH; ++i)
            if (i < left) target[(long long)i * length] = values[i];
        from += BATCH * step;
        to += (long long)BATCH * length;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    lower_rows(const void *__restrict__ x, void *__restrict__ columns, Shape shape, int vector) {
    if (vector == 16) copy_rows((const uint4 *)x, (uint4 *)columns, shape);
    else if (vector == 8) copy_rows((const uint2 *)x, (uint2 *)columns, shape);
    else if (vector == 4) copy_rows((const unsigned *)x, (unsigned *)columns, shape);
    else copy_rows((const unsigned short *)x, (unsigned short *)columns, shape);
}

template <bool STRIDED, int COUNT>
__device__ __forceinline__ void sum_rows(const Wide *columns, ELEMENT *x, const Shape &shape) {
    const Axis &rows = shape.rows, &cols = shape.cols;
    const int depth = shape.channels / shape.groups, length = shape.channels * rows.taps * cols.taps;
    const unsigned pixel = blockIdx.x * blockDim.y + threadIdx.y;
    if (pixel >= (unsigned)(shape.images * rows.size * cols.size)) return;
    const int line = (int)pixel / cols.size, image = line / rows.size;
    const int h = line - image * rows.size, w = (int)pixel - line * cols.size;
    for (int c = threadIdx.x * COUNT; c < shape.channels; c += blockDim.x * COUNT) {
        const int g = c / depth;
        const Wide *place = columns + (long long)g * rows.taps * cols.taps * depth + c - g * depth;
        Wide sums[COUNT] = {};
        for (int r = 0; r < rows.taps; ++r) {
            const int p = output_of<STRIDED>(rows, h - rows.first - r * rows.step);
            if (p < 0) continue;
#pragma unroll 1
            for (int s = 0; s < cols.taps; ++s) {
                const int q = output_of<STRIDED>(cols, w - cols.first - s * cols.step);
                if (q < 0) continue;
                const long long output = ((long long)image * rows.outputs + p) * cols.outputs + q;
                const auto values = load_pack<COUNT>(place + output * length + (r * cols.taps + s) * depth);
#pragma unroll
                for (int i = 0; i < COUNT; ++i) sums[i] += values.at[i];
            }
        }
        Pack<ELEMENT, COUNT> pack;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) pack.at[i] = narrow<ELEMENT>(sums[i]);
        store_pack(x + (long long)pixel * shape.channels + c, pack);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    raise_rows(const Wide *__restrict__ columns, ELEMENT *__restrict__ x, Shape shape, int vectors) {
    constexpr int COUNT = 16 / sizeof(Wide);
    const bool strided = shape.rows.stride > 1 || shape.cols.stride > 1;
    if (strided && vectors) sum_rows<true, COUNT>(columns, x, shape);
    else if (strided) sum_rows<true, 1>(columns, x, shape);
    else if (vectors) sum_rows<false, COUNT>(columns, x, shape);
    else sum_rows<false, 1>(columns, x, shape);
}

// ---- around the products --------------------------------------------------------------------------------

// Row (a, b) of `length` elements from a source_a + b source_b to a target_a + b target_b; one block a row.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    move_rows(const Bits *__restrict__ source, Bits *__restrict__ target, int count_b, int length,
              long long source_a, long long source_b, long long target_a, long long target_b) {
    const int a = blockIdx.x / count_b, b = blockIdx.x - a * count_b;
    source += a * source_a + b * source_b;
    target += a * target_a + b * target_b;
    for (int i = threadIdx.x; i < length; i += blockDim.x) target[i] = source[i];
}

// Sums in double: exact enough for any number of parts, in an order that is always the same.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    sum_parts(const Wide *__restrict__ parts, ELEMENT *__restrict__ out, long long size, int count) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) {
        double sum = 0;
#pragma unroll 4
        for (int part = 0; part < count; ++part) sum += parts[part * size + i];
        out[i] = narrow<ELEMENT>((Wide)sum);
    }
}
