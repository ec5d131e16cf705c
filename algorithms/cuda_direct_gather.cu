// Forward and backward-data convolution as one implicit matrix product (filters x pixels), without workspace.
//   A block computes one M x N tile: M result channels of a group, N pixels. Each step brings DEPTH terms of
//   the reduction through registers into one half of shared memory while the other half is multiplied. Where
//   they lie comes from a table of taps in shared memory: nothing is divided inside the loop.
//   BACKWARD    0: in is x, out is y. 1: in is dy, out is dx.
//   BY_CHANNEL  0: a step is 8 (channel, tap) pairs, tap fastest, as NCHW filters lie (or, packed, channel
//                  fastest); a thread loads them for one pixel
//               1: a step is 8 channels of one tap, loaded as vectors (NHWC, channels a multiple of 4)
#include "cuda_direct_place.cuh"

// Steps until float sums are put into `out`.
constexpr int CHUNK = sizeof(Scalar) == 4 ? 1024 / DEPTH : 1 << 30;

// Where a (channel, tap) pair lies relative to a pixel, and in a filter.
struct alignas(16) Tap {
    int offset, row, col, weight;
};

// Neighbouring channels on their way to shared memory: as words, since taking them apart would wait for them.
template <int COUNT>
struct alignas(COUNT * sizeof(Scalar)) Side {
    unsigned words[COUNT * sizeof(Scalar) / 4];
    __device__ __forceinline__ Scalar get(int i) const { return reinterpret_cast<const Scalar *>(words)[i]; }
};
template <>
struct Side<1> {
    Scalar at[1];
    __device__ __forceinline__ Scalar get(int) const { return at[0]; }
};

// The order of the reduction, and the table of its terms: it repeats after `repeat` channels and is read up
// to DEPTH beyond; the last step has a copy of its own, from `last` on, in which what is beyond the reduction
// meets nothing. BY_CHANNEL it holds the taps alone.
struct Order {
    int count, repeat, period, steps, last;

    __device__ __forceinline__ Order(const Shape &s, const Place &place) {
        const int reduced = BACKWARD ? s.k : s.c;
        count = uniform(place.rows.taps * place.cols.taps);
        repeat = BY_CHANNEL ? 1 : uniform(s.packed ? reduced : (DEPTH + count - 1) / max(1, count));
        period = count * repeat;
        steps = BY_CHANNEL ? (reduced + DEPTH - 1) / DEPTH * count : (count * reduced + DEPTH - 1) / DEPTH;
        last = BY_CHANNEL ? period : period + DEPTH;
    }

    __device__ __forceinline__ int entries() const { return last + (BY_CHANNEL ? 0 : DEPTH); }

    __device__ __forceinline__ Tap tap(int e, const Shape &s, const Place &place) const {
        const int reduced = BACKWARD ? s.k : s.c, before = (steps - 1) * DEPTH;  // the last step
        const int entry = e < last ? e : e - last + before % period;
        const int tap = s.packed ? entry / reduced : entry % count;
        const int channel = s.packed ? entry % reduced : entry / count;
        const int i = tap / place.cols.taps, j = tap % place.cols.taps;
        const int row = i * place.rows.dilation, col = j * place.cols.dilation;
        const int stored_row = place.rows.tap + i * place.rows.tap_step;
        const int stored = stored_row * s.cols.taps + place.cols.tap + j * place.cols.tap_step;
        const Steps from(s.groups * reduced, place.rows.size * place.cols.size);
        if (e >= last && e - last + before >= count * reduced)
            return {0, NOWHERE, 0, 0};
        return {(row * place.cols.size + col) * from.pixel + channel * from.channel, row, col,
                stored * (NHWC ? s.c : 1) + channel * s.term_step};
    }
};

// Where the first of a tile's results of a pixel lies in the output.
__device__ __forceinline__ long long result(const Pixel &p, const Shape &s, const Place &place) {
    const Axis &rows = s.rows, &cols = s.cols;
    const int outputs = BACKWARD ? s.c : s.k, wide = BACKWARD ? cols.x : cols.y;
    const Steps to(s.groups * outputs, (BACKWARD ? rows.x : rows.y) * wide);
    const long long row = place.rows.first + p.row * place.rows.every;
    const long long pixel = row * wide + place.cols.first + p.col * place.cols.every;
    return p.n * to.image + pixel * to.pixel + (long long)(place.group * outputs + place.m0) * to.channel;
}

// Write a tile, or add it to what is there.
template <class T>
__device__ __forceinline__ void write(Scalar *out, const Real (&sum)[T::ROWS][T::COLS],
                                      const long long *where, const Shape &s, bool add) {
    const int thread = late(threadIdx.x);
    const int outputs = (BACKWARD ? s.c : s.k) - late(blockIdx.x) % s.row_tiles * T::M;
    const long long channel = NHWC ? 1 : BACKWARD ? s.rows.x * s.cols.x : s.rows.y * s.cols.y;
    if constexpr (NHWC) {
#pragma unroll
        for (int j = 0; j < T::COLS; ++j)
#pragma unroll
            for (int i = 0; i < T::ROWS; i += T::VA) {
                Pack<Real, T::VA> results;
#pragma unroll
                for (int l = 0; l < T::VA; ++l)
                    results.at[l] = sum[i + l][j];
                const long long at = where[T::col(j, thread)];
                if (at >= 0)
                    put(out + at + T::row(i, thread), results, outputs - T::row(i, thread), s.wide_out, add);
            }
    } else {
#pragma unroll
        for (int j = 0; j < T::COLS; j += T::VB)
            if (s.wide_out) {
                const long long at = where[T::col(j, thread)];
#pragma unroll
                for (int i = 0; i < T::ROWS; ++i)
                    if (at >= 0 && T::row(i, thread) < outputs)
                        put(out + at + T::row(i, thread) * channel, load_pack<T::VB>(&sum[i][j]), T::VB, true,
                            add);
            } else {
#pragma unroll
                for (int l = 0; l < T::VB; ++l) {
                    const long long at = where[T::col(j + l, thread)];
#pragma unroll
                    for (int i = 0; i < T::ROWS; ++i)
                        if (at >= 0 && T::row(i, thread) < outputs)
                            put(out + at + T::row(i, thread) * channel, load_pack<1>(&sum[i][j + l]), 1,
                                false, add);
                }
            }
    }
}

template <class T>
__device__ __forceinline__ void gather(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s) {
    extern __shared__ int4 memory[];
    Stage<T> *stages = reinterpret_cast<Stage<T> *>(memory);
    long long *where = reinterpret_cast<long long *>(stages + 2);  // of each pixel's result in `out`, or -1
    Tap *taps = reinterpret_cast<Tap *>(where + T::N);
    const int thread = threadIdx.x;
    Place place(s, T::M, T::N);
    if (place.pixels <= 0)
        return;
    place.skip(s);
    const int reduced = BACKWARD ? s.k : s.c, outputs = BACKWARD ? s.c : s.k;  // channels
    const int high = place.rows.size, wide = place.cols.size;
    const Steps from(s.groups * reduced, high * wide);

    const Order order(s, place);
    const int count = order.count, period = order.period, steps = order.steps, last = order.last;
    for (int e = thread; count && e < order.entries(); e += THREADS)
        taps[e] = order.tap(e, s, place);
    if (thread < T::N)
        where[thread] = thread < place.pixels ? result(place.pixel(s, thread), s, place) : -1;
    __syncthreads();

    // What this thread moves in a step: of one pixel T::B terms from kb; of T::A filters from ma the term ka.
    constexpr int PARTS = DEPTH / T::B, SIDE = !BY_CHANNEL ? 1 : sizeof(Scalar) == 8 || T::B == 2 ? 2 : 4;
    const int mine = BY_CHANNEL ? thread / PARTS : thread % T::N;
    const int kb = (BY_CHANNEL ? thread % PARTS : thread / T::N) * T::B;
    const int ka = NHWC && BACKWARD ? thread / 32 : thread % DEPTH;
    const int ma = NHWC && BACKWARD ? thread % 32 : thread / DEPTH;
    const Pixel p = place.pixel(s, mine);
    const int h = mine < place.pixels ? p.row * place.rows.step + place.rows.start : -2 * NOWHERE;
    const int v = p.col * place.cols.step + place.cols.start;
    const Scalar *x = in + p.n * from.image + (long long)place.group * reduced * from.channel;
    x += ((long long)h * wide + v) * from.pixel + (BY_CHANNEL ? kb : 0);
    const Scalar *f =
        w + (long long)place.group * s.k * s.c * s.filter + (long long)(place.m0 + ma) * s.row_step;
    f += BY_CHANNEL ? ka * s.term_step : 0;
    const int rows_left = outputs - place.m0 - ma;
    const int x_step = order.repeat * from.channel, f_step = order.repeat * s.term_step;

    Scalar a[T::A];
    Side<SIDE> b[T::B / SIDE];
    int t = !BY_CHANNEL && steps == 1 ? last : 0;  // position in the table
    int left = BY_CHANNEL ? reduced : steps - 1;   // channels or further steps to load
    auto load = [&] {
        if constexpr (BY_CHANNEL) {
            const Tap tap = taps[t];
            const bool meets =
                unsigned(h + tap.row) < unsigned(high) && unsigned(v + tap.col) < unsigned(wide);
#pragma unroll
            for (int j = 0; j < T::B; j += SIDE) {
                b[j / SIDE] = {};
                if (meets && kb + j < left)
                    b[j / SIDE] = *reinterpret_cast<const Side<SIDE> *>(x + tap.offset + j);
            }
            const Scalar *filters = f + tap.weight;
#pragma unroll
            for (int i = 0; i < T::A; ++i, filters += 32LL * s.row_step)
                a[i] = ka < left && 32 * i < rows_left ? *filters : Scalar(0);
            if (++t == count)
                t = 0, left -= DEPTH, x += DEPTH, f += DEPTH * s.term_step;
        } else {
#pragma unroll
            for (int j = 0; j < T::B; ++j) {
                if (j == 4 && late(left) < -1)  // never: keeps eight entries from being read at once
                    break;
                const Tap tap = taps[t + kb + j];
                const bool meets =
                    unsigned(h + tap.row) < unsigned(high) && unsigned(v + tap.col) < unsigned(wide);
                b[j].at[0] = meets ? x[tap.offset] : Scalar(0);
            }
            const Scalar *filters = f + taps[t + ka].weight;
#pragma unroll
            for (int i = 0; i < T::A; ++i, filters += 32LL * s.row_step)
                a[i] = 32 * i < rows_left ? *filters : Scalar(0);
            t += DEPTH;
            if (t >= period)
                t -= period, x += x_step, f += f_step;
            if (--left == 0)
                t = last;
        }
    };
    auto store = [&](Stage<T> &stage) {
#pragma unroll
        for (int i = 0; i < T::A; ++i)
            stage.a[ka][ma + 32 * i] = widen(a[i]);
#pragma unroll
        for (int j = 0; j < T::B; ++j)
            stage.b[kb + j][mine] = widen(b[j / SIDE].get(j % SIDE));
    };

    if (steps) {
        load();
        store(stages[0]);
        __syncthreads();
    }
    int now = 0;
    do {
        alignas(16) Real sum[T::ROWS][T::COLS] = {};
        const int first = now, end = steps - now > CHUNK ? now + CHUNK : steps;
        for (; now < end; ++now) {
            if (now + 1 < steps)
                load();
            multiply<T>(sum, stages[now & 1], thread);
            if (now + 1 < steps)
                store(stages[(now & 1) ^ 1]);
            __syncthreads();
        }
        write<T>(out, sum, where, s, first > 0);
    } while (now < steps);
}

#define ARGUMENTS const Scalar *__restrict__ in, const Scalar *__restrict__ w, Scalar *out, const Shape s

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) tile128x128(ARGUMENTS) {
    gather<Tile128x128>(in, w, out, s);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) tile96x128(ARGUMENTS) {
    gather<Tile96x128>(in, w, out, s);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) tile64x256(ARGUMENTS) {
    gather<Tile64x256>(in, w, out, s);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) tile64x64(ARGUMENTS) {
    gather<Tile64x64>(in, w, out, s);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) tile32x256(ARGUMENTS) {
    gather<Tile32x256>(in, w, out, s);
}
