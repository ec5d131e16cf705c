// Forward and backward-data convolution with few result channels a group, without workspace: a matrix product
// would waste its tile. Neighbouring results share their inputs (forward: stride 1; no dilation left in a
// phase).
//   A thread sums a patch of TALL rows of results, of P neighbours each, in M channels; where x has a stride,
//   neighbours along it belong to U = 2 (or TALL) phases, so that one number of dy meets all of them.
//   A block brings a summed channel of an input region with its halo, and its filters, to one half of shared
//   memory while it multiplies the other half. Tables, made once, say where they lie. Its threads are `across`
//   x `down` x `images`, the rest idle.
#include "cuda_direct.cuh"

constexpr int SLIDERS = 128;                         // threads of a block
constexpr int TALL = 2, MOST = 4;                    // MOST channels of results
constexpr int P = sizeof(Real) == 8 ? 4 : 8;         // pixels side by side
constexpr int AT_ONCE = 4, QUADS = P / 4;            // taps; fours that a thread's pixels take
constexpr bool ASYNC = sizeof(Scalar) == sizeof(Real);  // numbers need not be widened on their way

// What a launch adds to Shape. Numbers: `pitch` from one row of the region to the next, `part` fours of a row
// (see `place`), `filters` and `plane` of a channel at most, in the latter those of the region; `chunk` channels
// until sums are put aside.
struct Region {
    int across, down, images, col_tiles, row_tiles, image_tiles, channel_tiles;
    int pitch, part, filters, plane, chunk;
};

using Short = unsigned short;

// ---- axes ------------------------------------------------------------------------------------------------

// Results first + i * every of an axis read pixels i * step + low + t, t < taps, and multiply them with stored
// taps tap + t * tap_step.
struct Line {
    int first, every, step, low, taps, tap, tap_step;
};

// COUNT lines that lie beside each other: phases COUNT * `pair` + i where there is a stride, else every COUNT-th
// result. They read `span` pixels from `low` on.
template <int COUNT>
struct Lines {
    Line at[COUNT];
    int low, span, step;
    bool phases;

    // Blocks of phases.
    static __device__ __forceinline__ int pairs(const Axis &a, bool gradient) {
        return gradient && a.stride > 1 ? (min(a.stride, a.x) + COUNT - 1) / COUNT : 1;
    }

    __device__ __forceinline__ void set(const Axis &a, int flip, bool gradient, int pair) {
        phases = gradient && a.stride > 1;
        step = phases ? 1 : COUNT;
        low = NOWHERE;
        int high = -NOWHERE;
        for (int i = 0; i < COUNT; ++i) {
            const int phase = phases ? COUNT * pair + i : 0;
            const bool real = phase < (phases ? min(a.stride, a.x) : 1);
            const Walk w = gradient ? backward(a, flip, real ? phase : 0) : forward(a, flip);
            at[i] = {phases ? phase : i, phases ? a.stride : COUNT, step, w.start + (phases ? 0 : i),
                     real ? w.taps : 0, w.tap, w.tap_step};
            if (!real)
                at[i].first = NOWHERE;
            if (at[i].taps) {
                low = min(low, at[i].low);
                high = max(high, at[i].low + at[i].taps);
            }
        }
        span = max(0, high - low);
    }
};

// What a block computes; in shared memory, where it takes no registers.
template <bool BACKWARD, int U>
struct Work {
    Lines<TALL> rows;
    Lines<U> cols;
    int m0, col0, row0, n0, group;

    __device__ __forceinline__ void set(const Shape &s, const Region &g, unsigned block) {
        const int row_pairs = Lines<TALL>::pairs(s.rows, BACKWARD), col_pairs = Lines<U>::pairs(s.cols, BACKWARD);
        rows.set(s.rows, s.flip, BACKWARD, block % row_pairs);
        block /= row_pairs;
        cols.set(s.cols, s.flip, BACKWARD, block % col_pairs);
        block /= col_pairs;
        m0 = block % g.channel_tiles * MOST;
        block /= g.channel_tiles;
        col0 = block % g.col_tiles * g.across * P;
        block /= g.col_tiles;
        row0 = block % g.row_tiles * g.down;
        block /= g.row_tiles;
        n0 = block % g.image_tiles * g.images;
        group = block / g.image_tiles;
    }
};

// ---- shared memory ---------------------------------------------------------------------------------------

// Four neighbours in shared memory.
__device__ __forceinline__ void four(Real *to, const Real *from) {
    constexpr int V = 16 / sizeof(Real);
#pragma unroll
    for (int i = 0; i < 4; i += V) {
        const Pack<Real, V> pack = load_pack<V>(from + i);
#pragma unroll
        for (int l = 0; l < V; ++l)
            to[i + l] = pack.at[l];
    }
}

// Where column j of a row of the region is: fours that threads side by side read together lie side by side.
__device__ __forceinline__ int place(int j, int part) {
    const int quad = j / 4;
    return (quad % QUADS * part + quad / QUADS) * 4 + j % 4;
}

// Begin to bring numbers of a channel: where they come from (-1: they are 0) and go to, a table says.
template <class To, class Where>
__device__ __forceinline__ void bring_all(const int *table, int entries, const Scalar *from, To *to, Where where) {
    for (int e = threadIdx.x; e < entries; e += SLIDERS) {
        const int at = table[e];
        if constexpr (ASYNC)
            copy_async(to + where(e), from + at, at >= 0);
        else
            to[where(e)] = widen(at >= 0 ? from[at] : Scalar(0));
    }
}

// ---- products --------------------------------------------------------------------------------------------

template <int M, int U>
using Sums = Real[M][P * U];

// T taps of one row of the filters.
template <int T, int M, int U>
__device__ __forceinline__ void multiply(Sums<M, U> &sum, const Real (&window)[P + 4], const Real *filter) {
    Real weight[(T * U * M + 3) / 4 * 4];
#pragma unroll
    for (int i = 0; i < T * U * M; i += 4)
        four(weight + i, filter + i);
#pragma unroll
    for (int t = 0; t < T; ++t)
#pragma unroll
        for (int u = 0; u < U; ++u)
#pragma unroll
            for (int m = 0; m < M; ++m)
#pragma unroll
                for (int j = 0; j < P; ++j)
                    sum[m][j * U + u] += weight[(t * U + u) * M + m] * window[j + t];
}

// One row of the region from some column on, for those rows of results that it has taps for.
template <int T, int M, int U>
__device__ __forceinline__ void add_taps(Sums<M, U> (&sum)[TALL], const Real *row, int part, int quad,
                                         const Real *filters, const int (&filter)[TALL]) {
    Real window[P + 4];
#pragma unroll
    for (int d = 0; d <= QUADS; ++d)
        four(window + 4 * d, row + place(4 * (quad + d), part));
    const Real *first = filters + filter[0] + quad * 4 * U * M, *second = filters + filter[1] + quad * 4 * U * M;
    if (filter[0] >= 0 && filter[1] >= 0) {  // in one piece: what the second needs is read during the first
        multiply<T, M, U>(sum[0], window, first);
        multiply<T, M, U>(sum[1], window, second);
    } else if (filter[0] >= 0) {
        multiply<T, M, U>(sum[0], window, first);
    } else if (filter[1] >= 0) {
        multiply<T, M, U>(sum[1], window, second);
    }
}

template <int M, int U>
__device__ __forceinline__ void add_row(Sums<M, U> (&sum)[TALL], const Real *row, int part, int taps,
                                        const Real *filters, const int (&filter)[TALL]) {
#pragma unroll 1
    for (int quad = 0, left = taps; left > 0; ++quad, left -= AT_ONCE) {
        if (left >= 4)
            add_taps<4, M, U>(sum, row, part, quad, filters, filter);
        else if (left == 3)
            add_taps<3, M, U>(sum, row, part, quad, filters, filter);
        else if (left == 2)
            add_taps<2, M, U>(sum, row, part, quad, filters, filter);
        else
            add_taps<1, M, U>(sum, row, part, quad, filters, filter);
    }
}

// ---- the block -------------------------------------------------------------------------------------------

// Where filters lie: of every row of taps, for both phases of rows after one another, columns of taps, of
// these phases, of these channels.
template <bool BACKWARD, int M, int U>
__device__ __forceinline__ void list_filters(int *table, int entries, int each, const Shape &s,
                                             const Work<BACKWARD, U> &work) {
    const int outputs = BACKWARD ? s.c : s.k, begun = work.rows.at[0].taps;
    for (int e = threadIdx.x; e < entries; e += SLIDERS) {
        const int row = e / each, i = e % each, t = i / (U * M), u = i / M % U, m = i % M;
        const int h = row >= begun, r = row - h * begun;
        const Line &down = work.rows.at[h], &across = work.cols.at[u];
        const int j = t + work.cols.low - across.low;
        const int tap = (down.tap + r * down.tap_step) * s.cols.taps + across.tap + j * across.tap_step;
        const bool real = unsigned(j) < unsigned(across.taps) && work.m0 + m < outputs;
        table[e] = real ? m * s.row_step + tap * (NHWC ? s.c : 1) : -1;
    }
}

// Where pixels lie: of every image, row and column.
template <bool BACKWARD, int U>
__device__ __forceinline__ void list_pixels(int *table, Short *places, int entries, int height, int width,
                                            const Shape &s, const Region &g, const Steps &from,
                                            const Work<BACKWARD, U> &work) {
    const int read_high = BACKWARD ? s.rows.y : s.rows.x, read_wide = BACKWARD ? s.cols.y : s.cols.x;
    for (int e = threadIdx.x; e < entries; e += SLIDERS) {
        const int j = e % width, line = e / width, i = line % height, z = line / height;
        const int h = work.row0 * work.rows.step + work.rows.low + i, v = work.col0 + work.cols.low + j;
        const bool real = unsigned(h) < unsigned(read_high) && unsigned(v) < unsigned(read_wide);
        const int at = int(z * from.image) + (h * read_wide + v) * from.pixel;
        table[e] = real && work.n0 + z < s.n ? at : -1;
        places[e] = line * g.pitch + place(j, g.part);
    }
}

// Write neighbours in fours, `left` of them, or add them to what is there.
template <int COUNT>
__device__ __forceinline__ void put_line(Scalar *to, const Real (&sums)[COUNT], int left, bool more) {
#pragma unroll
    for (int j = 0; j < COUNT; j += 4)
        put(to + j, Pack<Real, 4>{{sums[j], sums[j + 1], sums[j + 2], sums[j + 3]}}, left - j, true, more);
}

// The same one by one, where they do not lie beside each other.
template <int U>
__device__ __forceinline__ void scatter(Scalar *line, int step, const Real (&sums)[P * U], int col, int wide,
                                        const Lines<U> &cols, bool more) {
#pragma unroll
    for (int j = 0; j < P * U; ++j) {
        const int at = cols.at[j % U].first + (col + j / U) * cols.at[j % U].every;
        put(line + at * (long long)step, Pack<Real, 1>{{sums[j]}}, at < wide, false, more);
    }
}

// Write the sums of a thread, or add them to what is there.
template <bool BACKWARD, int M, int U>
__device__ __forceinline__ void put_sums(Scalar *out, const Sums<M, U> (&sum)[TALL], const Shape &s,
                                         const Region &g, const Work<BACKWARD, U> &work, bool more) {
    const int slot = late(threadIdx.x), outputs = BACKWARD ? s.c : s.k;
    const int x = slot % g.across, y = slot / g.across % g.down, n = work.n0 + slot / g.across / g.down;
    const int high = BACKWARD ? s.rows.x : s.rows.y, wide = BACKWARD ? s.cols.x : s.cols.y;
    const Steps to(s.groups * outputs, high * wide);
    if (slot >= g.across * g.down * g.images || n >= s.n)
        return;
    const int col = work.col0 + x * P, left = outputs - work.m0;
    Scalar *image = out + n * to.image + (work.group * outputs + work.m0) * (long long)to.channel;
#pragma unroll
    for (int h = 0; h < TALL; ++h) {
        const int row = work.rows.at[h].first + (work.row0 + y) * work.rows.at[h].every;
#pragma unroll
        for (int m = 0; m < M; ++m) {
            if (row >= high || m >= left)
                continue;
            Scalar *line = opaque(image + m * (long long)to.channel + row * (long long)wide * to.pixel);
            if (s.wide_out)
                put_line(line + col * U, sum[h][m], wide - col * U, more);
            else
                scatter<U>(line, to.pixel, sum[h][m], col, wide, work.cols, more);
        }
    }
}

template <bool BACKWARD, int M, int U>
__device__ __forceinline__ void thin(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s,
                                     const Region &g) {
    extern __shared__ int4 memory[];
    __shared__ Work<BACKWARD, U> work;
    if (threadIdx.x == 0)
        work.set(s, g, blockIdx.x);
    __syncthreads();
    const int reduced = BACKWARD ? s.k : s.c, span = work.rows.span, taps = work.cols.span;
    const Steps from(s.groups * reduced, BACKWARD ? s.rows.y * s.cols.y : s.rows.x * s.cols.x);
    const int height = (g.down - 1) * work.rows.step + span, each = (taps * U * M + 3) / 4 * 4;
    const int second = work.rows.phases ? work.rows.at[0].taps : 0;  // row of filters
    const int numbers = g.images * height * (g.across * P + taps - 1);
    const int weights = (second + work.rows.at[TALL - 1].taps) * each;

    Real *filters = reinterpret_cast<Real *>(memory), *region = filters + 2 * g.filters;
    int *of_filters = reinterpret_cast<int *>(region + 2 * g.plane), *of_region = of_filters + weights;
    Short *places = reinterpret_cast<Short *>(of_region + numbers);
    list_filters<BACKWARD, M, U>(of_filters, weights, each, s, work);
    list_pixels<BACKWARD, U>(of_region, places, numbers, height, g.across * P + taps - 1, s, g, from, work);
    __syncthreads();

    const Scalar *pixel = in + work.n0 * from.image + (long long)work.group * reduced * from.channel;
    const Scalar *weight = w + (long long)work.group * s.k * s.c * s.filter + (long long)work.m0 * s.row_step;
    const auto bring = [&](int half) {
        bring_all(of_filters, weights, weight, filters + half * g.filters, [](int e) { return e; });
        bring_all(of_region, numbers, pixel, region + half * g.plane, [&](int e) { return places[e]; });
        weight += s.term_step;
        pixel += from.channel;
    };
    int slot = threadIdx.x;
    slot = slot < g.across * g.down * g.images ? slot : 0;
    const int x = slot % g.across, y = slot / g.across % g.down, z = slot / g.across / g.down;
    const int patch = (z * height + y * work.rows.step) * g.pitch + 4 * x;
    int low[TALL], met[TALL];
#pragma unroll
    for (int h = 0; h < TALL; ++h) {
        low[h] = uniform(work.rows.low - work.rows.at[h].low);
        met[h] = uniform(work.rows.at[h].taps);
    }

    bring(0);
    for (int c = 0; c < reduced;) {
        alignas(16) Sums<M, U> sum[TALL] = {};
        const bool more = c > 0;
        const int stop = min(reduced, c + g.chunk);
        for (; c < stop; ++c) {
            const int half = c % 2;
            copied();
            __syncthreads();
            if (c + 1 < reduced)
                bring(1 - half);
#pragma unroll 1
            for (int i = 0; i < span; ++i) {
                int filter[TALL];
#pragma unroll
                for (int h = 0; h < TALL; ++h) {
                    const int r = i + low[h];
                    filter[h] = unsigned(r) < unsigned(met[h]) ? (r + h * second) * each : -1;
                }
                add_row<M, U>(sum, region + half * g.plane + patch + i * g.pitch, g.part, taps,
                              filters + half * g.filters, filter);
            }
        }
        put_sums<BACKWARD, M, U>(out, sum, s, g, work, more);
    }
}

// Blocks that a multiprocessor holds, by the registers that sums take.
template <int M, int U>
constexpr int BLOCKS = sizeof(Real) == 8 ? 2 : M * U <= 3 ? 5 : M * U == 4 ? 4 : M * U == 6 ? 3 : 2;

#define ARGUMENTS \
    const Scalar *__restrict__ in, const Scalar *__restrict__ w, Scalar *out, const Shape s, const Region g

extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<1, 1>) forward_1(ARGUMENTS) {
    thin<false, 1, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<2, 1>) forward_2(ARGUMENTS) {
    thin<false, 2, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<3, 1>) forward_3(ARGUMENTS) {
    thin<false, 3, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<4, 1>) forward_4(ARGUMENTS) {
    thin<false, 4, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<1, 1>) backward_1(ARGUMENTS) {
    thin<true, 1, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<2, 1>) backward_2(ARGUMENTS) {
    thin<true, 2, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<3, 1>) backward_3(ARGUMENTS) {
    thin<true, 3, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<4, 1>) backward_4(ARGUMENTS) {
    thin<true, 4, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<1, 2>) strided_1(ARGUMENTS) {
    thin<true, 1, 2>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<2, 2>) strided_2(ARGUMENTS) {
    thin<true, 2, 2>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<3, 2>) strided_3(ARGUMENTS) {
    thin<true, 3, 2>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(SLIDERS, BLOCKS<4, 2>) strided_4(ARGUMENTS) {
    thin<true, 4, 2>(in, w, out, s, g);
}
