// Gradients of filters as an implicit matrix product on tensor cores: dy times shifted x, summed over pixels.
//
// Operands   Both images [copy][image][row][col][group][channel], channels in chunks of eight, padded with
//            zeros.
// Reduction  The pixels of y in memory order, 64 a step (32 where each is two halves).
// Mapping    A block has M filters of a group and N columns: chunks of channels, tap by tap. In bulk one
//            thread has blocks of 64 channels copied, each under its tap. Else a thread copies chunks of the
//            same filters and of the same column in every step; which pixels those of the step are is told
//            by a table that one thread a pixel writes ahead. Where taps leave the image, zeros are copied.
// Memory     None but the operands; with several parts of the pixels [part][result] sums in fp32.
#include "cuda_implicit_results.cuh"

struct Axis {
    int x, y, taps, pad, stride, dilation;
};

//   outputs, chunks   filters of a group; chunks of its channels of x
//   channels          of x in a group; out_chunks: chunks of filters of a group
//   row_tiles, ...    blocks along both sides of the product; parts of the pixels; steps of each
//   last              channels are innermost in the result
//   *_copy            chunks from one copy of an operand to the next; results: elements of the result
struct Shape {
    int images, groups, outputs, out_chunks, channels, chunks;
    int row_tiles, col_tiles, parts, length, flip, last;
    long long x_copy, y_copy, results;
    Axis rows, cols;
};

struct alignas(16) Pixel {
    int x, row, col, y; // chunks where both pixels begin; the position of the first tap
};

// Which tap and channels a chunk of columns is of.
struct Column {
    int tap, chunk, row, col;
    bool there;

    __device__ __forceinline__ Column(int index, const Shape &s)
        : tap(index / s.chunks), chunk(index % s.chunks), there(tap < s.rows.taps * s.cols.taps) {
        const int i = tap / s.cols.taps, l = tap % s.cols.taps;
        row = (s.flip ? s.rows.taps - 1 - i : i) * s.rows.dilation;
        col = (s.flip ? s.cols.taps - 1 - l : l) * s.cols.dilation;
    }
};

// A pixel of y, counted on from step to step.
struct Counter {
    const Shape &s;
    int now, n, p, q;

    __device__ __forceinline__ Counter(long long first, const Shape &s) : s(s) {
        const unsigned plane = s.rows.y * s.cols.y, inside = first % plane;
        now = first, n = first / plane, p = inside / s.cols.y, q = inside % s.cols.y;
    }
    __device__ __forceinline__ int h() const { return p * s.rows.stride - s.rows.pad; }
    __device__ __forceinline__ int w() const { return q * s.cols.stride - s.cols.pad; }
    template <int DEPTH> __device__ __forceinline__ void advance() {
        now += DEPTH;
        q += DEPTH % s.cols.y;
        p += DEPTH / s.cols.y % s.rows.y;
        n += DEPTH / (s.rows.y * s.cols.y);
        if (q >= s.cols.y)
            q -= s.cols.y, ++p;
        if (p >= s.rows.y)
            p -= s.rows.y, ++n;
    }
};

#if BULK
// Blocks of 64 channels: of dy, and of x under one tap each.
template <class T> struct Copier : Bulk {
    const TensorMap &x, &y;
    const Shape &s;
    const Column *columns; // of blocks
    int first_filter, first_channel, count;
    Counter pixel;

    __device__ __forceinline__ void copy(int, int slot, unsigned stage, bool there) {
        if (there && threadIdx.x == 0) {
            const unsigned barrier = barriers + 8 * slot;
            expect_bytes(barrier, (T::M / 64 + count) * COPIES * T::BLOCK);
#pragma unroll
            for (int copy = 0; copy < COPIES; ++copy)
#pragma unroll
                for (int i = 0; i < T::M / 64; ++i, stage += T::BLOCK)
                    copy_box(stage, y, first_filter + 64 * i, pixel.now, copy, barrier);
#pragma unroll
            for (int copy = 0; copy < COPIES; ++copy)
#pragma unroll
                for (int i = 0; i < T::N / 64; ++i, stage += T::BLOCK)
                    if (i < count)
                        copy_pixels(stage, x, first_channel + columns[i].chunk * CHUNK, pixel.w(), pixel.h(),
                                    pixel.n + copy * s.images, columns[i].col, columns[i].row, barrier);
        }
        pixel.advance<T::DEPTH>();
    }
};
#else
// One thread's share of the copies.
template <class T> struct Copier : Chunks {
    static constexpr int LEFT = T::M / CHUNK, RIGHT = T::N / CHUNK; // chunks of a pixel

    const uint4 *x, *y;
    Pixel *table; // of two steps
    const Shape &s;
    int offset, row, col, filter; // of this thread's column, and its chunk of filters
    bool valid, valid_filter;
    Counter pixel; // that this thread announces

    __device__ __forceinline__ void announce(int step) {
        if (threadIdx.x >= T::DEPTH)
            return;
        const int h = pixel.h(), w = pixel.w();
        const bool there = pixel.n < s.images;
        table[step % 2 * T::DEPTH + threadIdx.x] = {
            ((pixel.n * s.rows.x + h) * s.cols.x + w) * (s.groups * s.chunks), there ? h : -NOWHERE, w,
            there ? pixel.now * (s.groups * s.out_chunks) : -1};
        pixel.advance<T::DEPTH>();
    }

    // Row `row` of the blocks of 64 results: first those of one copy, then those of the other.
    static __device__ __forceinline__ unsigned place(int copy, int all, int row, int chunk) {
        return (copy * (all / 8) + chunk / 8) * T::BLOCK + row * 128 + ((chunk % 8 ^ row % 8) << 4);
    }

    __device__ __forceinline__ void copy(int step, int, unsigned stage, bool wanted) {
        if (wanted)
            start(step, stage);
        commit_copies();
    }

    __device__ __forceinline__ void start(int step, unsigned stage) {
        const Pixel *pixels = table + step % 2 * T::DEPTH;
#pragma unroll
        for (int i = 0; i < T::M / SPREAD; ++i) {
            const int index = threadIdx.x / LEFT + i * (THREADS / LEFT), pixel = index % T::DEPTH;
            const int which = index / T::DEPTH, from = pixels[pixel].y;
            const bool there = valid_filter && from >= 0;
            copy_chunk(stage + place(which, LEFT, pixel, threadIdx.x % LEFT),
                       y + (there ? which * s.y_copy + from + filter : 0), there);
        }
        stage += T::M * 128;
#pragma unroll
        for (int i = 0; i < T::N / SPREAD; ++i) {
            const int index = threadIdx.x / RIGHT + i * (THREADS / RIGHT), line = index % T::DEPTH;
            const int which = index / T::DEPTH;
            const Pixel pixel = pixels[line];
            const bool there = valid && unsigned(pixel.row + row) < unsigned(s.rows.x) &&
                               unsigned(pixel.col + col) < unsigned(s.cols.x);
            copy_chunk(stage + place(which, RIGHT, line, threadIdx.x % RIGHT),
                       x + (there ? which * s.x_copy + pixel.x + offset : 0), there);
        }
    }
};
#endif

template <class T>
__device__ __forceinline__ void filters(const Matrix &x, const Matrix &y, ELEMENT *out, float *partial,
                                        const int *scale, int more, const Shape &s) {
    extern __shared__ uint4 shared[];
    char *stages = (char *)shared + (1024 - shared_address(shared) % 1024) % 1024;
    auto *columns = (long long *)(stages + T::STAGES * T::BYTES);
    auto *table = (Pixel *)(columns + T::N);

    unsigned block = blockIdx.x;
    const int m0 = block % s.row_tiles * T::M;
    block /= s.row_tiles;
    const int n0 = block % s.col_tiles * T::N;
    block /= s.col_tiles;
    const int part = block % s.parts, group = block / s.parts, taps = s.rows.taps * s.cols.taps;

    for (int j = threadIdx.x; j < T::N; j += THREADS) {
        const Column column((n0 + j) / CHUNK, s);
        const int c = column.chunk * CHUNK + (n0 + j) % CHUNK;
        columns[j] = !column.there || c >= s.channels ? -1
                     : s.last                         ? (long long)column.tap * s.channels + c
                                                      : (long long)c * taps + column.tap;
    }

    const long long begin = (long long)part * s.length * T::DEPTH;
#if BULK
    auto *blocks = (Column *)table; // of 64 columns
    const unsigned barriers = shared_address(blocks + T::N / 64);
    if (threadIdx.x < T::N / 64)
        blocks[threadIdx.x] = Column((n0 + 64 * threadIdx.x) / CHUNK, s);
    make_barriers((barriers + 7) / 8 * 8, T::STAGES);
    const int left = taps * s.chunks - n0 / CHUNK, count = min((left + 7) / 8, T::N / 64);
    Copier<T> copier = {{(barriers + 7) / 8 * 8},
                        x,
                        y,
                        s,
                        blocks,
                        group * s.out_chunks * CHUNK + m0,
                        group * s.chunks * CHUNK,
                        count,
                        Counter(begin, s)};
#else
    using Copy = Copier<T>;
    const Column column(n0 / CHUNK + threadIdx.x % Copy::RIGHT, s);
    const int filter = m0 / CHUNK + threadIdx.x % Copy::LEFT;
    const int offset = (column.row * s.cols.x + column.col) * (s.groups * s.chunks) + column.chunk;
    Copy copier = {{},
                   x + group * s.chunks,
                   y + group * s.out_chunks,
                   table,
                   s,
                   offset,
                   column.row,
                   column.col,
                   filter,
                   column.there,
                   filter < s.out_chunks,
                   Counter(begin + threadIdx.x, s)};
#endif
    const long long pixels = (long long)s.images * s.rows.y * s.cols.y;
    const long long steps = (pixels - begin + T::DEPTH - 1) / T::DEPTH;
    float sum[T::SUMS];
    reduce<T>(sum, copier, shared_address(stages), int(min(steps, (long long)s.length)));

    auto *tile = (float *)stages;
    keep<T>(tile, sum, false);
    const long long width = (long long)taps * s.channels;
    const Target to = {(group * s.outputs + m0) * width, width, s.outputs - m0, false};
    if (partial)
        write<T>(partial + part * s.results, tile, columns, to, false, nullptr, more);
    else
        write<T>(out, tile, columns, to, false, scale, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    multiply(const __grid_constant__ Matrix x, const __grid_constant__ Matrix y, ELEMENT *out, float *partial,
             const int *scale, int more, const __grid_constant__ Shape shape) {
    filters<Tile<TILE_M, TILE_N, false>>(x, y, out, partial, scale, more, shape);
}
