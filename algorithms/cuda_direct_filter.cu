// Filter gradients: an implicit matrix product of dy and shifted x, summed over all pixels, without atomics.
//   A block computes an M x N tile (filters x columns of the filter tensor) over its part of the pixels; each
//   step brings DEPTH pixels through registers into one half of shared memory while the other half is
//   multiplied. Positions are counted: nothing is divided inside the loop. NCHW: lanes lie along the pixels;
//   NHWC: along the channels.
//   The parts are written to `partial` (parts x filters) and added in order; a single part needs none.
#include "cuda_direct.cuh"

// Which pixel of x a column multiplies, relative to the one under the first tap.
struct alignas(16) Column {
    int offset, row, col;
};

// `length` steps a part; after `chunk` steps the sums of a tile are added to what it has in memory.
//   images, rows, cols  DEPTH pixels, as a distance
//   x_image             elements from an image of x to the next
//   y_step, y_gap       elements from a step to the next along dy; added to that at the end of an image
struct Cut {
    int parts, length, chunk, col_tiles, images, rows, cols;
    long long x_image, y_step, y_gap;
};

// Which tile a block computes, of which part.
template <class T>
struct Place {
    int m0, col0, part, group;

    __device__ __forceinline__ Place(unsigned block, const Shape &s, const Cut &cut) {
        m0 = block % s.row_tiles * T::M;
        block /= s.row_tiles;
        col0 = block % cut.col_tiles * T::N;
        block /= cut.col_tiles;
        part = block % cut.parts;
        group = block / cut.parts;
    }
};

template <class T, class Out>
__device__ __forceinline__ void write(Out *out, const Real (&sum)[T::ROWS][T::COLS], int thread, int rows,
                                      int columns, int stride, bool wide, bool add) {
#pragma unroll
    for (int i = 0; i < T::ROWS; ++i)
        if (T::row(i, thread) < rows)
#pragma unroll
            for (int j = 0; j < T::COLS; j += T::VB) {
                const int col = T::col(j, thread);
                put(out + (long long)T::row(i, thread) * stride + col, load_pack<T::VB>(&sum[i][j]),
                    columns - col, wide, add);
            }
}

// Brings the operands of one step after the other to shared memory. A thread moves pixel `k` of the step, of
// T::B columns and of T::A filters from `lane` on.
template <class T>
struct Loader {
    static constexpr bool ASYNC = sizeof(Scalar) >= 4;
    static constexpr int LANES = T::SIZE / DEPTH;

    const Shape &s;
    const Cut &cut;
    const Column *table;
    const Scalar *image, *filter;
    int k, lane, p, q, left, rows_left, pixel, channel;
    Scalar a[T::A], b[T::B];

    __device__ __forceinline__ Loader(const Scalar *x, const Scalar *dy, const Shape &s, const Cut &cut,
                                      const Column *table, const Place<T> &place)
        : s(s), cut(cut), table(table) {
        const Steps from(s.groups * s.c, s.rows.x * s.cols.x), by(s.groups * s.k, s.rows.y * s.cols.y);
        const int thread = threadIdx.x, plane = s.rows.y * s.cols.y;
        k = NHWC ? thread / LANES : thread % DEPTH, lane = NHWC ? thread % LANES : thread / DEPTH;
        const long long pixels = (long long)s.n * plane,
                        first = (long long)place.part * cut.length * DEPTH + k;
        const long long n = first / plane;
        const int inside = first - n * plane;
        p = inside / s.cols.y, q = inside % s.cols.y;
        left = pixels - first < 1 << 30 ? int(pixels - first) : 1 << 30;
        image = x + n * from.image + place.group * s.c * (long long)from.channel;
        filter = dy + (place.group * s.k + place.m0 + lane) * (long long)by.channel;
        filter += NHWC ? first * by.pixel : n * by.image + inside;
        rows_left = s.k - place.m0 - lane;
        pixel = from.pixel, channel = by.channel;
    }

    __device__ __forceinline__ void load(Stage<T> &stage) {
        const int h = left > 0 ? p * s.rows.stride : -2 * NOWHERE, v = q * s.cols.stride;
        const Scalar *corner = opaque(image + (p * s.rows.stride * s.cols.x + v) * pixel);
        Column at[T::B];  // all read before the first copy: one that follows a read has to wait
#pragma unroll
        for (int j = 0; j < T::B; ++j)
            at[j] = table[lane + LANES * j];
#pragma unroll
        for (int j = 0; j < T::B; ++j) {
            const bool meets =
                unsigned(h + at[j].row) < unsigned(s.rows.x) && unsigned(v + at[j].col) < unsigned(s.cols.x);
            bring<ASYNC>(stage.b[k][lane + LANES * j], b[j], corner + at[j].offset, meets);
        }
        const Scalar *gradient = filter;
#pragma unroll
        for (int i = 0; i < T::A; ++i, gradient += (long long)LANES * channel)
            bring<ASYNC>(stage.a[k][lane + LANES * i], a[i], gradient, left > 0 && LANES * i < rows_left);
        advance();
    }

    __device__ __forceinline__ void advance() {
        left -= DEPTH;
        filter += NHWC ? cut.y_step : DEPTH;
        q += cut.cols;
        p += cut.rows;
        int images = cut.images;
        if (q >= s.cols.y)
            q -= s.cols.y, ++p;
        if (p >= s.rows.y)
            p -= s.rows.y, ++images;
        if (images) {
            image += images * cut.x_image;
            filter += images * cut.y_gap;
        }
    }

    __device__ __forceinline__ void store(Stage<T> &stage) {
        if constexpr (ASYNC) {
            copied();
        } else {
#pragma unroll
            for (int i = 0; i < T::A; ++i)
                stage.a[k][lane + LANES * i] = widen(a[i]);
#pragma unroll
            for (int j = 0; j < T::B; ++j)
                stage.b[k][lane + LANES * j] = widen(b[j]);
        }
    }
};

template <class T>
__device__ __forceinline__ void filters(const Scalar *x, const Scalar *dy, Scalar *out, Real *partial,
                                        const Shape &s, const Cut &cut) {
    __shared__ Stage<T> stages[2];
    __shared__ Column table[T::N];
    const int thread = threadIdx.x, columns = s.c * s.filter;
    const Place<T> place(blockIdx.x, s, cut);
    const Steps from(s.groups * s.c, s.rows.x * s.cols.x);

    for (int j = thread; j < T::N; j += T::SIZE) {
        const int column = place.col0 + j, c = NHWC ? column % s.c : column / s.filter;
        const int tap = NHWC ? column / s.c : column % s.filter, i = tap / s.cols.taps, l = tap % s.cols.taps;
        const int row = (s.flip ? s.rows.taps - 1 - i : i) * s.rows.dilation - s.rows.pad;
        const int col = (s.flip ? s.cols.taps - 1 - l : l) * s.cols.dilation - s.cols.pad;
        table[j] = {c * from.channel + (row * s.cols.x + col) * from.pixel, column < columns ? row : -NOWHERE,
                    col};
    }
    __syncthreads();

    Loader<T> loader(x, dy, s, cut, table, place);
    loader.load(stages[0]);
    loader.store(stages[0]);
    __syncthreads();
    Fragment<T> terms[2];
    terms[0].fetch(stages[0], 0, thread);
    const long long pixels = (long long)s.n * s.rows.y * s.cols.y;
    const long long ahead = (pixels + DEPTH - 1) / DEPTH - (long long)place.part * cut.length;
    const int steps = ahead < cut.length ? int(ahead) : cut.length;
    int now = 0;
    do {
        alignas(16) Real sum[T::ROWS][T::COLS] = {};
        const int begun = now, end = steps - now > cut.chunk ? now + cut.chunk : steps;
        add_steps<T>(sum, terms, stages, loader, now, end);
        const Place<T> here(late(blockIdx.x), s, cut);
        const int rows = s.k - here.m0, cols = columns - here.col0, wide = columns % 4 == 0;
        const long long corner = (here.group * s.k + here.m0) * (long long)columns + here.col0;
        if (partial) {
            Real *part = partial + here.part * (long long)s.groups * s.k * columns;
            write<T>(part + corner, sum, late(thread), rows, cols, columns, wide, begun > 0);
        } else {
            write<T>(out + corner, sum, late(thread), rows, cols, columns, wide, begun > 0);
        }
    } while (now < steps);
}

#define ARGUMENTS                                                                                           \
    const Scalar *__restrict__ x, const Scalar *__restrict__ dy, Scalar *out, Real *partial, const Shape s, \
        const Cut cut

extern "C" __global__ void __launch_bounds__(Tile128x128::SIZE, Tile128x128::BLOCKS) tile128x128(ARGUMENTS) {
    filters<Tile128x128>(x, dy, out, partial, s, cut);
}
extern "C" __global__ void __launch_bounds__(Tile96x128::SIZE, Tile96x128::BLOCKS) tile96x128(ARGUMENTS) {
    filters<Tile96x128>(x, dy, out, partial, s, cut);
}
extern "C" __global__ void __launch_bounds__(Tile64x128::SIZE, Tile64x128::BLOCKS) tile64x128(ARGUMENTS) {
    filters<Tile64x128>(x, dy, out, partial, s, cut);
}
extern "C" __global__ void __launch_bounds__(Tile64x64::SIZE, Tile64x64::BLOCKS) tile64x64(ARGUMENTS) {
    filters<Tile64x64>(x, dy, out, partial, s, cut);
}
extern "C" __global__ void __launch_bounds__(Tile32x128::SIZE, Tile32x128::BLOCKS) tile32x128(ARGUMENTS) {
    filters<Tile32x128>(x, dy, out, partial, s, cut);
}

extern "C" __global__ void add_parts(const Real *__restrict__ partial, Scalar *out, long long count,
                                     int parts) {
    const long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    Real sum = 0;
    for (int part = 0; part < parts; ++part)
        sum += partial[part * count + i];
    out[i] = narrow<Scalar>(sum);
}
