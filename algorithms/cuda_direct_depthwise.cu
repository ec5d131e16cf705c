// Depthwise convolution: every channel by itself, without tiles, as fast as memory delivers.
//   Forward and backward-data: a thread computes STRIP results below one another, lanes lie side by side in
//   memory. An input row is read once for all the results that it meets; the filter is in registers. Where
//   rows (NHWC: channels) are whole packs, they are read and written in packs of up to 16 bytes.
//   Filter gradient: a block sums the same strips, SHORT high, of one channel (NHWC: 32); its sums are one
//   part of the gradient.
#include "cuda_direct.cuh"

constexpr int STRIP = 8, SHORT = 4;
constexpr int BLOCK = 128, ACROSS = 4;  // of packs: threads of a block, columns of a thread in NHWC

// Where a strip begins: image, channel, first row and column.
struct Place {
    int n, channel, row, col;
};

// Strips are numbered along memory: (image, channel, strip, column), in NHWC (image, strip, column, channel).
__device__ __forceinline__ Place place_of(unsigned index, int channels, int strips, int columns) {
    const unsigned inner = NHWC ? channels : columns, first = index / inner;
    const unsigned middle = NHWC ? columns : strips, second = first / middle;
    const unsigned outer = NHWC ? strips : channels, n = second / outer;
    const int a = index % inner, b = first % middle, c = second % outer;
    return NHWC ? Place{int(n), a, c * STRIP, b} : Place{int(n), c, b * STRIP, a};
}

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
    const Place at = place_of(index, channels, s.pixel_tiles, columns);
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

// ---- packs -----------------------------------------------------------------------------------------------

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

// In NHWC the filters of a pack's channels have to find room in registers.
template <int FILTER, int PACK>
constexpr bool FITS = NHWC ? PACK == 2 || (PACK == 4 && FILTER == 3 && sizeof(Scalar) == 2)
                           : PACK * sizeof(Scalar) <= 16;

// Blocks that a multiprocessor holds.
template <int FILTER>
constexpr int BLOCKS = sizeof(Real) == 8 ? 2 : (FILTER == 3 ? 4 : 3) + !NHWC;

// Copy a pack to shared memory, or clear it there, without waiting.
template <int COUNT>
__device__ __forceinline__ void copy_pack(Side<COUNT> *to, const Scalar *from, bool real) {
#ifdef __CUDA_ARCH__
    const unsigned place = __cvta_generic_to_shared(to), size = real ? sizeof(*to) : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(place), "l"(from), "n"(sizeof(*to)),
                 "r"(size)
                 : "memory");
#else
    *to = {};
    if (real)
        *to = *reinterpret_cast<const Side<COUNT> *>(from);
#endif
}

// AHEAD rows of the input as a thread sees them, still as they are stored. NCHW, in registers: whole packs of
// pixels and what lies beside them; the padding is half the filter.
template <int FILTER, int STEP, int PACK, int AHEAD, bool CHANNELS_LAST = NHWC>
struct Lines {
    static constexpr int LEFT = FILTER / 2, MIDDLE = PACK * STEP;
    static constexpr int RIGHT = FILTER - LEFT > STEP ? FILTER - LEFT - STEP : 0;
    Scalar left[AHEAD][LEFT], right[AHEAD][RIGHT ? RIGHT : 1];
    Side<PACK> middle[AHEAD][STEP];

    __device__ __forceinline__ void load(int slot, const Scalar *x, bool inside, int v, int wide, int) {
#pragma unroll
        for (int j = 0; j < LEFT; ++j)
            left[slot][j] = inside && v + j >= 0 ? x[j] : Scalar(0);
#pragma unroll
        for (int j = 0; j < STEP; ++j) {
            middle[slot][j] = {};
            if (inside && v + LEFT + j * PACK < wide)
                middle[slot][j] = *reinterpret_cast<const Side<PACK> *>(x + LEFT + j * PACK);
        }
#pragma unroll
        for (int j = 0; j < RIGHT; ++j)
            right[slot][j] = inside && v + LEFT + MIDDLE + j < wide ? x[LEFT + MIDDLE + j] : Scalar(0);
    }
    // sm_100 would widen bfloat16 as soon as it is here, and keep twice the registers.
    __device__ __forceinline__ void wait(int slot) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
        for (auto &pack : middle[slot])
            for (unsigned &word : pack.words)
                asm volatile("" : "+r"(word));
#endif
    }
    __device__ __forceinline__ void get(int slot, int j, Real (&value)[1]) const {
        value[0] = widen(j < LEFT            ? left[slot][j]
                         : j < LEFT + MIDDLE ? middle[slot][(j - LEFT) / PACK].get((j - LEFT) % PACK)
                                             : right[slot][j - LEFT - MIDDLE]);
    }
};

// NHWC, in shared memory, since registers hold the filters: a pack of channels of every pixel. A thread reads
// only what it has copied itself.
template <int FILTER, int STEP, int PACK, int AHEAD>
struct Lines<FILTER, STEP, PACK, AHEAD, true> {
    static constexpr int WIDTH = (ACROSS - 1) * STEP + FILTER;
    Side<PACK> (*at)[WIDTH][BLOCK];

    __device__ __forceinline__ Lines() {
        __shared__ Side<PACK> ring[AHEAD][WIDTH][BLOCK];
        at = ring;
    }
    __device__ __forceinline__ void load(int slot, const Scalar *x, bool inside, int v, int wide, int pixel) {
#pragma unroll
        for (int j = 0; j < WIDTH; ++j)
            copy_pack(&at[slot][j][threadIdx.x], x + j * pixel, inside && unsigned(v + j) < unsigned(wide));
#ifdef __CUDA_ARCH__
        asm volatile("cp.async.commit_group;" ::: "memory");
#endif
    }
    // Until the first of the AHEAD rows that were loaded last is here.
    __device__ __forceinline__ void wait(int) const {
#ifdef __CUDA_ARCH__
        asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 1) : "memory");
#endif
    }
    __device__ __forceinline__ void get(int slot, int j, Real (&value)[PACK]) const {
        const Side<PACK> pack = at[slot][j][threadIdx.x];
#pragma unroll
        for (int c = 0; c < PACK; ++c)
            value[c] = widen(pack.get(c));
    }
};

// What a thread of packs computes: COLS results side by side of CHANNELS channels, and so down its strip.
// LIVE rows of results are being summed; after PERIOD rows of the input all have their first places again.
template <int FILTER, int STEP, int PACK>
struct Part {
    static constexpr int CHANNELS = NHWC ? PACK : 1, COLS = NHWC ? ACROSS : PACK;
    static constexpr int LIVE = (FILTER + STEP - 1) / STEP, CYCLE = LIVE * STEP;
    static constexpr int PERIOD = NHWC ? CYCLE : 2 * CYCLE;

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

// The same as strips, for whole packs (NCHW: rows are multiples of PACK; NHWC: channels are, a filter each).
template <bool BACKWARD, int FILTER, int STEP, int PACK>
__device__ __forceinline__ void packs(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s,
                                      unsigned count) {
    using T = Part<FILTER, STEP, PACK>;
    constexpr int CHANNELS = T::CHANNELS, COLS = T::COLS, PERIOD = T::PERIOD, AHEAD = T::ahead(PERIOD);
    constexpr int TAPS = FILTER * FILTER;
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    if (index >= count)
        return;
    const int high = BACKWARD ? s.rows.y : s.rows.x, wide = BACKWARD ? s.cols.y : s.cols.x;    // of `in`
    const int down = BACKWARD ? s.rows.x : s.rows.y, across = BACKWARD ? s.cols.x : s.cols.y;  // of `out`
    const int all = s.groups * s.k;
    Place at = place_of(index, all / CHANNELS, s.pixel_tiles, (across + COLS - 1) / COLS);
    at.channel *= CHANNELS, at.col = min(at.col * COLS, across - COLS);  // the last two may share columns
    const int h = at.row * STEP - (BACKWARD ? FILTER - 1 - s.rows.pad : s.rows.pad);
    const int v = at.col * STEP - (BACKWARD ? FILTER - 1 - s.cols.pad : s.cols.pad);
    const int rows = (min(STRIP, down - at.row) - 1) * STEP + FILTER;  // of `in`
    const Steps from(BACKWARD ? all : s.groups, high * wide), to(all, down * across);
    const Scalar *x = in + at.n * from.image + (long long)(at.channel / s.k) * from.channel;
    x += ((long long)h * wide + v) * from.pixel;
    const int x_row = wide * from.pixel, y_row = across * to.pixel;
    Scalar *y = out + at.n * to.image + (long long)at.channel * to.channel;
    y += ((long long)at.row * across + at.col) * to.pixel;

    Lines<FILTER, STEP, PACK, AHEAD> lines;
#pragma unroll
    for (int i = 0; i < AHEAD; ++i, x += x_row)
        lines.load(i, x, i < rows && unsigned(h + i) < unsigned(high), v, wide, from.pixel);
    const auto *f = reinterpret_cast<const Side<CHANNELS> *>(w + (long long)at.channel * TAPS);
    Side<CHANNELS> stored[TAPS];
#pragma unroll
    for (int i = 0; i < TAPS; ++i)
        stored[i] = f[i];
    const bool turned = BACKWARD != bool(s.flip);
    Real weight[TAPS][CHANNELS], sum[T::LIVE][COLS][CHANNELS] = {};
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap)
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            const int one = c * TAPS + tap, other = c * TAPS + TAPS - 1 - tap;
            const Scalar value = stored[one / CHANNELS].get(one % CHANNELS);
            weight[tap][c] = widen(turned ? stored[other / CHANNELS].get(other % CHANNELS) : value);
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
            const int next = first + i + AHEAD;
            lines.load(i % AHEAD, x, next < rows && unsigned(h + next) < unsigned(high), v, wide, from.pixel);
#pragma unroll
            for (int l = 0; l < T::LIVE; ++l)
                if ((i + PERIOD - l * STEP) % T::CYCLE == FILTER - 1 && first + i >= FILTER - 1) {
                    write<PACK>(y, sum[l], to.pixel);
                    y += y_row;
                }
        }
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

extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_any(STRIPS) {
    strips<false, 0, 0>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_3_1(STRIPS) {
    strips<false, 3, 1>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_3_2(STRIPS) {
    strips<false, 3, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_5_1(STRIPS) {
    strips<false, 5, 1>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_5_2(STRIPS) {
    strips<false, 5, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) backward_any(STRIPS) {
    strips<true, 0, 0>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) backward_3_1(STRIPS) {
    strips<true, 3, 1>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) backward_5_1(STRIPS) {
    strips<true, 5, 1>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) forward_3_1_by2(STRIPS) {
    if constexpr (FITS<3, 2>)
        packs<false, 3, 1, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) forward_3_1_by4(STRIPS) {
    if constexpr (FITS<3, 4>)
        packs<false, 3, 1, 4>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) forward_3_1_by8(STRIPS) {
    if constexpr (FITS<3, 8>)
        packs<false, 3, 1, 8>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) forward_3_2_by2(STRIPS) {
    if constexpr (FITS<3, 2>)
        packs<false, 3, 2, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) forward_3_2_by4(STRIPS) {
    if constexpr (FITS<3, 4>)
        packs<false, 3, 2, 4>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) forward_3_2_by8(STRIPS) {
    if constexpr (FITS<3, 8>)
        packs<false, 3, 2, 8>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) forward_5_1_by2(STRIPS) {
    if constexpr (FITS<5, 2>)
        packs<false, 5, 1, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) forward_5_1_by4(STRIPS) {
    if constexpr (FITS<5, 4>)
        packs<false, 5, 1, 4>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) forward_5_1_by8(STRIPS) {
    if constexpr (FITS<5, 8>)
        packs<false, 5, 1, 8>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) forward_5_2_by2(STRIPS) {
    if constexpr (FITS<5, 2>)
        packs<false, 5, 2, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) forward_5_2_by4(STRIPS) {
    if constexpr (FITS<5, 4>)
        packs<false, 5, 2, 4>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) forward_5_2_by8(STRIPS) {
    if constexpr (FITS<5, 8>)
        packs<false, 5, 2, 8>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) backward_3_1_by2(STRIPS) {
    if constexpr (FITS<3, 2>)
        packs<true, 3, 1, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) backward_3_1_by4(STRIPS) {
    if constexpr (FITS<3, 4>)
        packs<true, 3, 1, 4>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<3>) backward_3_1_by8(STRIPS) {
    if constexpr (FITS<3, 8>)
        packs<true, 3, 1, 8>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) backward_5_1_by2(STRIPS) {
    if constexpr (FITS<5, 2>)
        packs<true, 5, 1, 2>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) backward_5_1_by4(STRIPS) {
    if constexpr (FITS<5, 4>)
        packs<true, 5, 1, 4>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS<5>) backward_5_1_by8(STRIPS) {
    if constexpr (FITS<5, 8>)
        packs<true, 5, 1, 8>(in, w, out, s, count);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_any(GRADIENT) {
    gradient<0, 0>(x, dy, out, partial, s, parts);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_3_1(GRADIENT) {
    gradient<3, 1>(x, dy, out, partial, s, parts);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_3_2(GRADIENT) {
    gradient<3, 2>(x, dy, out, partial, s, parts);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_5_1(GRADIENT) {
    gradient<5, 1>(x, dy, out, partial, s, parts);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient_5_2(GRADIENT) {
    gradient<5, 2>(x, dy, out, partial, s, parts);
}
