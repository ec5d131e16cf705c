// Depthwise convolution: every channel by itself, without tiles.
//   Forward and backward-data: a thread computes STRIP results below one another, lanes lie side by side in
//   memory. Where rows (NHWC: channels) are whole packs, the usual filters have kernels of cuda_direct_window.cuh.
//   Filter gradient: a block sums such strips, SHORT high, of one channel (NHWC: 32); its sums are one part of
//   the gradient.
#include "cuda_direct_window.cuh"

constexpr int STRIP = 8, SHORT = 4;

// FILTER x FILTER taps and STEP pixels of the input from result to result (BACKWARD: one filter a channel);
// anything if 0.
template <bool BACKWARD, int FILTER, int STEP>
__device__ __forceinline__ void strips(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s,
                                       unsigned count) {
    unsigned block = blockIdx.x;
    Walk rows, cols;
    walk<BACKWARD>(s, block, rows, cols);
    const unsigned index = block * THREADS + threadIdx.x;
    const int columns = BACKWARD ? (s.cols.x + s.cols.stride - 1) / s.cols.stride : s.cols.y;
    const int all = s.groups * s.k, channels = BACKWARD ? s.groups : all;  // of y; of the result
    const Place at = place_of(index, channels, s.pixel_tiles, columns, STRIP);
    if (index >= count || at.col >= cols.count)
        return;
    const Steps from(BACKWARD ? all : s.groups, rows.size * cols.size);
    const int h = at.row * rows.step + rows.start, v = at.col * cols.step + cols.start;
    const int f_row = rows.tap_step * s.cols.taps, f_col = cols.tap_step;
    const long long x_row = (long long)cols.size * from.pixel;

    Real sum[STRIP] = {};
#pragma unroll 1
    for (int m = 0; m < (BACKWARD && !FILTER ? s.k : 1); ++m) {
        const int channel = BACKWARD ? at.channel * s.k + m : at.channel / s.k;
        const Scalar *x = in + at.n * from.image + (long long)channel * from.channel;
        x += ((long long)h * cols.size + v) * from.pixel;
        const Scalar *f =
            w + (long long)(BACKWARD ? channel : at.channel) * s.filter + rows.tap * s.cols.taps + cols.tap;
        if constexpr (FILTER > 0) {
            Real weight[FILTER][FILTER];
#pragma unroll
            for (int r = 0; r < FILTER; ++r)
#pragma unroll
                for (int c = 0; c < FILTER; ++c)
                    weight[r][c] = widen(f[r * f_row + c * f_col]);
#pragma unroll
            for (int i = 0; i < (STRIP - 1) * STEP + FILTER; ++i, x += x_row) {
                const bool inside = unsigned(h + i) < unsigned(rows.size);
#pragma unroll
                for (int c = 0; c < FILTER; ++c) {
                    const bool meets = inside && unsigned(v + c) < unsigned(cols.size);
                    const Real value = widen(meets ? x[c * from.pixel] : Scalar(0));
#pragma unroll
                    for (int p = 0; p < STRIP; ++p)
                        if (i - p * STEP >= 0 && i - p * STEP < FILTER)
                            sum[p] += weight[i - p * STEP][c] * value;
                }
            }
        } else {
            for (int r = 0; r < rows.taps; ++r)
                for (int c = 0; c < cols.taps; ++c) {
                    const Real weight = widen(f[r * f_row + c * f_col]);
                    const int col = c * cols.dilation;
                    const bool beside = unsigned(v + col) < unsigned(cols.size);
#pragma unroll
                    for (int p = 0; p < STRIP; ++p) {
                        const int row = p * rows.step + r * rows.dilation;
                        const bool meets = beside && unsigned(h + row) < unsigned(rows.size);
                        sum[p] += weight * widen(meets ? x[row * x_row + col * from.pixel] : Scalar(0));
                    }
                }
        }
    }
    const int wide = BACKWARD ? s.cols.x : s.cols.y;
    const Steps to(channels, (BACKWARD ? s.rows.x : s.rows.y) * wide);
    Scalar *y = out + at.n * to.image + (long long)at.channel * to.channel;
    y += ((long long)(rows.first + at.row * rows.every) * wide + cols.first + at.col * cols.every) * to.pixel;
    const long long y_row = (long long)rows.every * wide * to.pixel;
#pragma unroll
    for (int p = 0; p < STRIP; ++p, y += y_row)
        if (at.row + p < rows.count)
            *y = narrow<Scalar>(sum[p]);
}

// The gradient of LANES channels' filters (FILTER 0: of one tap of them), from one part of all strips.
template <int FILTER, int STEP>
__device__ __forceinline__ void gradient(const Scalar *x, const Scalar *dy, Scalar *out, Real *partial,
                                         const Shape &s, int parts) {
    constexpr int LANES = NHWC ? 32 : 1, WALKERS = THREADS / LANES, SIDE = FILTER ? FILTER : 1;
    __shared__ Real sums[THREADS];
    const int channels = s.groups * s.k, blocks = (channels + LANES - 1) / LANES, thread = threadIdx.x;
    unsigned block = blockIdx.x;
    const int tap = FILTER ? 0 : block % s.filter;
    block /= FILTER ? 1 : s.filter;
    const int part = block / blocks, channel = block % blocks * LANES + thread % LANES;
    const int tap_row = s.flip && !FILTER ? s.rows.taps - 1 - tap / s.cols.taps : tap / s.cols.taps;
    const int tap_col = s.flip && !FILTER ? s.cols.taps - 1 - tap % s.cols.taps : tap % s.cols.taps;
    const int top = tap_row * s.rows.dilation - s.rows.pad, left = tap_col * s.cols.dilation - s.cols.pad;
    const Steps from(s.groups, s.rows.x * s.cols.x), by(channels, s.rows.y * s.cols.y);
    const unsigned count = s.n * s.pixel_tiles * s.cols.y;
    const long long y_row = (long long)s.cols.y * by.pixel;
    const long long x_row = (long long)s.cols.x * from.pixel * (FILTER ? 1 : s.rows.stride);

    Real sum[SIDE][SIDE] = {};
#pragma unroll 1
    for (unsigned at = part * WALKERS + thread / LANES; at < count && channel < channels;
         at += parts * WALKERS) {
        const unsigned line = at / s.cols.y, n = line / s.pixel_tiles;
        const int q = at % s.cols.y, p0 = line % s.pixel_tiles * SHORT;
        const int h = p0 * s.rows.stride + top, v = q * s.cols.stride + left;
        const Scalar *g = dy + n * by.image + (long long)channel * by.channel;
        g += ((long long)p0 * s.cols.y + q) * by.pixel;
        const Scalar *in = x + n * from.image + (long long)(channel / s.k) * from.channel;
        in += ((long long)h * s.cols.x + v) * from.pixel;
        Real grads[SHORT];
#pragma unroll
        for (int p = 0; p < SHORT; ++p, g += y_row)
            grads[p] = widen(p0 + p < s.rows.y ? *g : Scalar(0));
#pragma unroll
        for (int i = 0; i < (FILTER ? (SHORT - 1) * STEP + SIDE : SHORT); ++i, in += x_row) {
            const bool inside = unsigned(h + (FILTER ? i : i * s.rows.stride)) < unsigned(s.rows.x);
#pragma unroll
            for (int c = 0; c < SIDE; ++c) {
                const bool meets = inside && unsigned(v + c) < unsigned(s.cols.x);
                const Real value = widen(meets ? in[c * from.pixel] : Scalar(0));
#pragma unroll
                for (int p = 0; p < SHORT; ++p) {
                    const int r = FILTER ? i - p * STEP : i - p;
                    if (r >= 0 && r < SIDE)
                        sum[r][c] += grads[p] * value;
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < SIDE; ++r)
#pragma unroll
        for (int c = 0; c < SIDE; ++c) {
            sums[thread] = sum[r][c];
            __syncthreads();
            for (int half = THREADS / 2; half >= LANES; half /= 2) {
                if (thread < half)
                    sums[thread] += sums[thread + half];
                __syncthreads();
            }
            if (thread < LANES && channel < channels) {
                const int place = s.flip ? (SIDE - 1 - r) * SIDE + SIDE - 1 - c : r * SIDE + c;
                const long long at = (long long)channel * s.filter + (FILTER ? place : tap);
                if (partial)
                    partial[(long long)part * channels * s.filter + at] = sums[thread];
                else
                    out[at] = narrow<Scalar>(sums[thread]);
            }
            __syncthreads();
        }
}

#define STRIPS \
    const Scalar *__restrict__ in, const Scalar *__restrict__ w, Scalar *out, const Shape s, unsigned count
#define GRADIENT                                                                                            \
    const Scalar *__restrict__ x, const Scalar *__restrict__ dy, Scalar *out, Real *partial, const Shape s, \
        int parts
#define PACKS(F, U, P) if constexpr (FITS<F, P>) packs<F, U, P>(in, w, out, s, count, height)

// clang-format off: one line a kernel
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) packs_3_1_by2(STRIPS, int height) { PACKS(3, 1, 2); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) packs_3_1_by4(STRIPS, int height) { PACKS(3, 1, 4); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) packs_3_1_by8(STRIPS, int height) { PACKS(3, 1, 8); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) packs_3_2_by2(STRIPS, int height) { PACKS(3, 2, 2); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) packs_3_2_by4(STRIPS, int height) { PACKS(3, 2, 4); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) packs_3_2_by8(STRIPS, int height) { PACKS(3, 2, 8); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) packs_5_1_by2(STRIPS, int height) { PACKS(5, 1, 2); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) packs_5_1_by4(STRIPS, int height) { PACKS(5, 1, 4); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) packs_5_1_by8(STRIPS, int height) { PACKS(5, 1, 8); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) packs_5_2_by2(STRIPS, int height) { PACKS(5, 2, 2); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) packs_5_2_by4(STRIPS, int height) { PACKS(5, 2, 4); }
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) packs_5_2_by8(STRIPS, int height) { PACKS(5, 2, 8); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_any(STRIPS) { strips<false, 0, 0>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_3_1(STRIPS) { strips<false, 3, 1>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_3_2(STRIPS) { strips<false, 3, 2>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_5_1(STRIPS) { strips<false, 5, 1>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_5_2(STRIPS) { strips<false, 5, 2>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) backward_any(STRIPS) { strips<true, 0, 0>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) backward_3_1(STRIPS) { strips<true, 3, 1>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) backward_5_1(STRIPS) { strips<true, 5, 1>(in, w, out, s, count); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_any(GRADIENT) { gradient<0, 0>(x, dy, out, partial, s, parts); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_3_1(GRADIENT) { gradient<3, 1>(x, dy, out, partial, s, parts); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_3_2(GRADIENT) { gradient<3, 2>(x, dy, out, partial, s, parts); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_5_1(GRADIENT) { gradient<5, 1>(x, dy, out, partial, s, parts); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_5_2(GRADIENT) { gradient<5, 2>(x, dy, out, partial, s, parts); }
