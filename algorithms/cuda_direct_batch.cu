// Backward-data convolution with images innermost (CHWN), between two turns of tensors.
//
//   turn         rows of one image each -> images innermost, padded with zeros to fours
//   pack         filters -> [group][summed channel][tap][computed channel]
//   chwn*        a block computes one M x N tile: M result channels of a group, N pixels, images fastest
//   turn_back    sums of parts, images innermost -> rows of one image each
//
// Pixels of a tile are those of many images at one place, or at a few: taps that meet only padding there are
// skipped exactly, and operands are copied in fours, without a look at where rows end. Each step brings DEPTH
// terms of the reduction into one half of shared memory while the other half is multiplied.
#define BACKWARD 1
#define BY_CHANNEL 0
#define MASKS 0
#define PARTS 1
#include "cuda_direct_results.cuh"
#include "cuda_direct_terms.cuh"

constexpr int CHUNK = 1024 / DEPTH;  // steps until sums are put aside, in `out`
constexpr int TURN = 32;             // images and elements that a block turns around
constexpr int SPAN = 4;
constexpr int FOUR = 4;

// What a launch adds to Shape, whose n and images are padded: blocks that share a reduction, numbers in a
// row of filters, elements from one part of the results to the next.
struct Batch {
    int parts, pitch;
    long long part;
};

// ---- turns -----------------------------------------------------------------------------------------------

// A block takes SPAN tiles along `length`; all loads are on their way before the first one is waited for.
constexpr int STEP = THREADS / TURN, EACH = TURN / STEP;  // rows of a tile at once, and of a thread
using Tiles = Scalar[SPAN][TURN][TURN + 1];

__device__ __forceinline__ void put_aside(Tiles &tiles, const Scalar (&values)[SPAN][EACH], int down,
                                          int across) {
#pragma unroll
    for (int t = 0; t < SPAN; ++t)
#pragma unroll
        for (int i = 0; i < EACH; ++i)
            tiles[t][down + i * STEP][across] = values[t][i];
}

// (images, length) -> (length, padded)
extern "C" __global__ void __launch_bounds__(THREADS)
    turn(const Scalar *__restrict__ x, Scalar *__restrict__ out, int images, int padded, long long length) {
    __shared__ Tiles tiles;
    const int across = threadIdx.x % TURN, down = threadIdx.x / TURN, n0 = blockIdx.y * TURN;
    const long long first = (long long)blockIdx.x * (SPAN * TURN);
    Scalar value[SPAN][EACH];
#pragma unroll
    for (int t = 0; t < SPAN; ++t)
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            const long long at = first + t * TURN + across;
            const int n = n0 + down + i * STEP;
            value[t][i] = n < images && at < length ? x[n * length + at] : Scalar(0);
        }
    put_aside(tiles, value, down, across);
    __syncthreads();
    if (n0 + across >= padded)
        return;
#pragma unroll
    for (int t = 0; t < SPAN; ++t)
#pragma unroll
        for (int i = down; i < TURN; i += STEP) {
            const long long at = first + t * TURN + i;
            if (at < length)
                out[at * padded + n0 + across] = tiles[t][across][i];
        }
}

// (length, padded), `parts` of them -> (images, length)
extern "C" __global__ void __launch_bounds__(THREADS)
    turn_back(const Scalar *__restrict__ sums, Scalar *__restrict__ out, int images, long long length,
              Batch batch, int padded) {
    __shared__ Tiles tiles;
    const int across = threadIdx.x % TURN, down = threadIdx.x / TURN, n0 = blockIdx.y * TURN;
    const long long first = (long long)blockIdx.x * (SPAN * TURN);
    Scalar sum[SPAN][EACH] = {};
    for (int part = 0; part < batch.parts; ++part, sums += batch.part)
#pragma unroll
        for (int t = 0; t < SPAN; ++t)
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const long long at = first + t * TURN + down + i * STEP;
                if (at < length && n0 + across < padded)
                    sum[t][i] += sums[at * padded + n0 + across];
            }
    put_aside(tiles, sum, down, across);
    __syncthreads();
#pragma unroll
    for (int t = 0; t < SPAN; ++t)
#pragma unroll
        for (int i = down; i < TURN; i += STEP) {
            const long long at = first + t * TURN + across;
            if (n0 + i < images && at < length)
                out[(n0 + i) * length + at] = tiles[t][across][i];
        }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    pack(const Scalar *__restrict__ w, Scalar *__restrict__ out, const Shape s, Batch batch) {
    const int outputs = s.c, reduced = s.k;
    const long long index = (long long)blockIdx.x * THREADS + threadIdx.x, row = index / batch.pitch;
    const int m = index - row * batch.pitch;
    const long long line = row / s.filter;
    const int tap = row - line * s.filter, group = line / reduced, term = line - (long long)group * reduced;
    if (group >= s.groups)
        return;
    const long long from = (((long long)group * s.k + term) * s.c + m) * s.filter + tap;
    out[index] = m < outputs ? w[from] : Scalar(0);
}

// ---- products --------------------------------------------------------------------------------------------

// Brings the operands of one step after the other to shared memory. A thread moves four pixels, or filters,
// of a few terms.
template <class T>
struct Fours {
    static constexpr int WIDE_A = T::M / FOUR, WIDE_B = T::N / FOUR;
    static constexpr int TERMS_A = T::SIZE / WIDE_A, TERMS_B = T::SIZE / WIDE_B;  // at once

    const Tap *taps;
    Corner corner;
    const Scalar *f;
    long long x_step, f_step;
    int high, wide, a, b, ka, kb;
    int t, next, end, steps, period, last;
    bool filters;

    __device__ __forceinline__ Fours(const Scalar *in, const Scalar *w, const Shape &s, const Batch &batch,
                                     const Place &place, const Order &order, const Tap *taps, int begin,
                                     int end)
        : taps(taps), next(begin), end(end), steps(order.steps), period(order.period), last(order.last) {
        const int thread = threadIdx.x, reduced = s.k;
        high = place.rows.size, wide = place.cols.size;
        a = thread % WIDE_A * FOUR, ka = thread / WIDE_A;
        b = thread % WIDE_B * FOUR, kb = thread / WIDE_B;
        const long long plane = (long long)high * wide * s.images;
        x_step = order.repeat * plane;
        f_step = (long long)order.repeat * s.filter * batch.pitch;
        const int done = begin * DEPTH, laps = begin ? done / period : 0;  // (no step, no lap)
        t = begin == steps - 1 ? last : done - laps * period;
        const Pixel p = place.pixel(s, b);
        const int h = p.row * place.rows.step + place.rows.start;
        const int v = p.col * place.cols.step + place.cols.start;
        const long long at = ((long long)h * wide + v) * s.images + p.n + laps * x_step;
        corner = {in + place.group * reduced * plane + at, h, v};
        if (b >= place.pixels)
            corner.forget();
        f = w + (long long)place.group * reduced * s.filter * batch.pitch + place.m0 + a + laps * f_step;
        filters = place.m0 + a < batch.pitch;
        if (begin >= end)
            forget();
    }

    __device__ __forceinline__ void forget() {
        filters = false;
        corner.forget();
    }

    // Begin to bring the next step; after the end, nothing.
    __device__ __forceinline__ void load(Stage<T> &stage) {
        Tap tap[DEPTH / TERMS_B];  // all read before the first copy: one that follows a read has to wait
        int2 weight[DEPTH / TERMS_A];
#pragma unroll
        for (int j = 0; j < DEPTH / TERMS_B; ++j)
            tap[j] = taps[t + kb + j * TERMS_B];
#pragma unroll
        for (int j = 0; j < DEPTH / TERMS_A; ++j)
            weight[j] = {taps[t + ka + j * TERMS_A].weight, taps[t + ka + j * TERMS_A].row};
#pragma unroll
        for (int j = 0; j < DEPTH / TERMS_B; ++j)
            copy_four(&stage.b[kb + j * TERMS_B][b], corner.at + tap[j].offset,
                      corner.meets(tap[j], high, wide));
#pragma unroll
        for (int j = 0; j < DEPTH / TERMS_A; ++j)
            copy_four(&stage.a[ka + j * TERMS_A][a], f + weight[j].x, filters && weight[j].y != NOWHERE);
        t += DEPTH;
        if (t >= period) {
            t -= period;
            f += f_step;
            corner.at += x_step;
        }
        ++next;
        if (next == steps - 1)
            t = last;
        if (next >= end)
            forget();
    }

    // What was loaded has its place in shared memory.
    __device__ __forceinline__ void store(Stage<T> &) { copied(); }
};

// Blocks are numbered from the middle of the image: those with the most taps, which take longest, come first.
__device__ __forceinline__ unsigned from_the_middle(const Shape &s, unsigned block) {
    const int each = s.row_tiles * phases(s.cols), tile = block / each % s.pixel_tiles;
    const int away = (tile + 1) / 2, middle = (s.pixel_tiles - 1) / 2;
    const int meant = tile % 2 ? middle + away : middle - away;
    return block + (meant - tile) * each;
}

template <class T>
__device__ __forceinline__ void gather(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s,
                                       const Batch &batch) {
    extern __shared__ int4 memory[];
    Stage<T> *stages = reinterpret_cast<Stage<T> *>(memory);
    long long *where = reinterpret_cast<long long *>(stages + 2);
    Tap *taps = reinterpret_cast<Tap *>(where + T::N / FOUR);
    const int thread = threadIdx.x, part = blockIdx.x % batch.parts;
    Place place(s, from_the_middle(s, blockIdx.x / batch.parts), T::M, T::N);
    if (place.pixels <= 0)
        return;
    place.skip(s);
    const Order order(s, place);
    for (int e = thread; order.count && e < order.entries(); e += T::SIZE) {
        Tap tap = order.tap(e, s, place);
        tap.offset *= s.images;
        tap.weight *= batch.pitch;
        taps[e] = tap;
    }
    const int outputs = s.c;
    const int wide = s.cols.x, plane = wide * s.rows.x;
    for (int i = thread; i < T::N / FOUR; i += T::SIZE) {
        const Pixel p = place.pixel(s, i * FOUR);
        const int row = place.rows.first + p.row * place.rows.every;
        const int col = place.cols.first + p.col * place.cols.every;
        const long long at = ((long long)place.group * outputs + place.m0) * plane + row * wide + col;
        where[i] = i * FOUR < place.pixels ? batch.part * part + at * s.images + p.n : -1;
    }
    __syncthreads();

    int now = (long long)order.steps * part / batch.parts;
    const int begin = now, end = (long long)order.steps * (part + 1) / batch.parts;
    Fours<T> loader(in, w, s, batch, place, order, taps, begin, end);
    Fragment<T> terms[2];
    if (begin < end) {
        loader.load(stages[begin & 1]);
        loader.store(stages[begin & 1]);
    }
    __syncthreads();
    terms[0].fetch(stages[begin & 1], 0, thread);
    do {
        alignas(16) Real sum[T::ROWS][T::COLS] = {};
        const bool more = now > begin;
        const int stop = end - now > CHUNK ? now + CHUNK : end;
        add_steps<T>(sum, terms, stages, loader, now, stop);
        const int here = late(threadIdx.x);
        const int left = s.c - late(blockIdx.x) / batch.parts % s.row_tiles * T::M;
        const long long channel =
            (long long)s.rows.x * s.cols.x * s.images;
        each_pack<T>(sum, [&](const Pack<Real, FOUR> &pack, int i, int j) {
            const int row = T::row(i, here);
            const long long at = where[T::col(j, here) / FOUR];
            if (row < left && at >= 0)
                put(out + at + row * channel, pack, FOUR, true, more);
        });
    } while (now < end);
}

#define ARGUMENTS const Scalar *__restrict__ in, const Scalar *__restrict__ w, Scalar *out, const Shape s, \
                  const Batch batch

extern "C" __global__ void __launch_bounds__(Tile128x128::SIZE, Tile128x128::BLOCKS) chwn128x128(ARGUMENTS) {
    gather<Tile128x128>(in, w, out, s, batch);
}
extern "C" __global__ void __launch_bounds__(Tile64x256::SIZE, Tile64x256::BLOCKS) chwn64x256(ARGUMENTS) {
    gather<Tile64x256>(in, w, out, s, batch);
}
extern "C" __global__ void __launch_bounds__(Tile64x128::SIZE, Tile64x128::BLOCKS) chwn64x128(ARGUMENTS) {
    gather<Tile64x128>(in, w, out, s, batch);
}
