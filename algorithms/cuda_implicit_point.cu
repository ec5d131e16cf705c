// 1x1 convolutions forward, and gradients of x, as products that read fp32 images (nchw) as they are.
//
//   y[m, p] = sum over d of  w[m, d] x[d, p]         for every pixel p = (image, row, column) of the result
//
// Mapping    Blocks stay and take one tile of TILE_M channels x 128 pixels after the other. Four warps copy:
//            64 channels of 128 pixels a stage, fp32, and filters that are in halves already. Two warpgroups
//            turn 64 pixels each into halves, in registers, and multiply (pixels are rows of the product).
// Scales     Channel d of x gets what the largest filter there has been divided by; then every pixel gets a
//            power of two of its own in every stage, undone when sums are handed on to fp32 registers.
// Strides    Forward some pixels are read; of a gradient each result fills a cell whose rest is zero.
//   COPIES   2: high and low halves, three products; 1: high ones alone
//   TILE_M   channels of a tile, 64 or 128
#include "cuda_implicit_point.cuh"

constexpr int LOADERS = 128, WORKERS = 256, THREADS = LOADERS + WORKERS;

//   outputs, depth   channels computed; channels summed
//   m_tiles, tiles   along the channels computed; all, with those of all parts
//   parts, length    of the reduction; stages of each
//   pixels, plane    of the result (or of its cells): of all images, of one
//   cols             of a row of these
//   in_*, out_*      elements from one image, channel, row, column to the next;
//                    in_col: if all are neighbours, 0
//   rows, width      of the result
//   cell_rows, ...   pixels of the result around each one computed
struct Shape {
    int outputs, depth, m_tiles, tiles, parts, length;
    unsigned pixels, plane, cols;
    int in_row, in_col, rows, width, cell_rows, cell_cols;
    long long in_image, in_channel, out_image, out_channel, results;
};

#if SUITED
constexpr int PIXELS = 128, DEPTH = 64; // of a stage
constexpr int X_BYTES = PIXELS * DEPTH * 4, HALVES = TILE_M * DEPTH * 2;
constexpr int FILTER_BYTES = HALVES * COPIES + DEPTH * 4; // the numbers, and a factor for each channel
constexpr int STAGE = X_BYTES + HALVES * COPIES + 1024;   // keeps what follows aligned
constexpr int STAGES = 205000 / STAGE;
constexpr int SUMS = TILE_M / 2;
constexpr int FILTERS = 8;  // exponent of the largest scaled filter of a channel

// What a block computes next, of which part of the reduction.
struct Place {
    int m_tile, part, begin, end;
    unsigned first;

    __device__ __forceinline__ Place(const Shape &s, int tile) {
        m_tile = tile % s.m_tiles;
        tile /= s.m_tiles;
        part = tile % s.parts;
        first = tile / s.parts * PIXELS;
        begin = part * s.length;
        end = min(begin + s.length, (s.depth + DEPTH - 1) / DEPTH);
    }
};

// The stages in turn.
struct Ring {
    unsigned stages, barriers;
    int slot = 0, phase = 0;

    __device__ __forceinline__ unsigned stage() const { return stages + slot * STAGE; }
    __device__ __forceinline__ unsigned full() const { return barriers + 8 * slot; }
    __device__ __forceinline__ unsigned emptied() const { return barriers + 8 * (STAGES + slot); }
    __device__ __forceinline__ void next() {
        if (++slot == STAGES)
            slot = 0, phase ^= 1;
    }
};

// ---- copies ----------------------------------------------------------------------------------------------

// Of row d of a stage, 16 bytes at `chunk` lie where chunk ^ swizzle(d) would, so that those who read pairs
// of pixels of channels 0, 2, 4 and 6 at once meet all banks.
__device__ __forceinline__ int swizzle(int d) { return d / 2 % 4 * 2; }

__device__ __forceinline__ const float *where(const float *x, const Shape &s, unsigned pixel) {
    const unsigned image = pixel / s.plane, left = pixel % s.plane;
    x += image * s.in_image;
    return s.in_col ? x + (left / s.cols) * s.in_row + (left % s.cols) * s.in_col : x + left;
}

// Four neighbours at a time: a warp copies 16 channels.
__device__ __forceinline__ void copy_fours(unsigned stage, const float *x, const Shape &s, int d,
                                           bool inside) {
    const int lane = threadIdx.x % 32, row = threadIdx.x % LOADERS / 32 * 16;
    const float *from = x + (d + row) * s.in_channel;
    stage += row * PIXELS * 4;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const bool there = inside && d + row + i < s.depth;
        copy_chunk(stage + i * PIXELS * 4 + ((lane ^ swizzle(i)) << 4), (const uint4 *)(there ? from : x),
                   there);
        from += s.in_channel;
    }
}

// One number at a time: a thread copies its pixel's.
__device__ __forceinline__ void copy_ones(unsigned stage, const float *x, const Shape &s, int d,
                                          bool inside) {
    const int pixel = threadIdx.x % LOADERS;
    const float *from = x + d * s.in_channel;
    stage += pixel % 4 * 4;
#pragma unroll 8
    for (int i = 0; i < DEPTH; ++i) {
        const bool there = inside && d + i < s.depth;
        copy_word(stage + i * PIXELS * 4 + ((pixel / 4 ^ swizzle(i)) << 4), there ? from : x, there);
        from += s.in_channel;
    }
}

__device__ __forceinline__ void load(Ring ring, const float *x, const char *filters, const Shape &s) {
    const bool fours = s.in_col == 0 && s.plane % 4 == 0;
    const int blocks = (s.depth + DEPTH - 1) / DEPTH;
    for (int tile = blockIdx.x; tile < s.tiles; tile += gridDim.x) {
        const Place place(s, tile);
        const unsigned pixel = place.first + (fours ? threadIdx.x % 32 * 4 : threadIdx.x % LOADERS);
        const bool inside = pixel < s.pixels;
        const float *from = where(x, s, inside ? pixel : 0);
        for (int block = place.begin; block < place.end; ++block, ring.next()) {
            wait_until_empty(ring.emptied(), ring.phase);
            if (threadIdx.x % LOADERS == 0) {
                fill_bytes(ring.full(), FILTER_BYTES);
                copy_line(ring.stage() + X_BYTES,
                          filters + ((long long)place.m_tile * blocks + block) * FILTER_BYTES, FILTER_BYTES,
                          ring.full());
            }
            if (fours)
                copy_fours(ring.stage(), from, s, block * DEPTH, inside);
            else
                copy_ones(ring.stage(), from, s, block * DEPTH, inside);
            fill(ring.full());
        }
    }
    commit_copies();
    wait_for_copies<0>();
}

// ---- products --------------------------------------------------------------------------------------------

// This thread's part of two neighbouring pixels (rows of the product) of a stage. `undo` brings sums of
// products back.
__device__ __forceinline__ void convert(Halves &to, float (&undo)[2], const char *stage, float common) {
    const int lane = threadIdx.x % 32, t = lane % 4, chunk = threadIdx.x / 32 * 4 + lane / 8;
    const char *x = stage + ((chunk ^ t * 2) << 4) + lane / 4 % 2 * 8 + t * 2 * PIXELS * 4;
    const char *factors = stage + X_BYTES + HALVES * COPIES + t * 8;
    float2 value[DEPTH / 4]; // of term 2 t, 2 t + 1, 2 t + 8, 2 t + 9, ...
    float most[2] = {};
#pragma unroll
    for (int i = 0; i < DEPTH / 4; i += 2) {
        const float2 factor = *(const float2 *)(factors + i * 16);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const float2 pair = *(const float2 *)(x + (i * 4 + j) * PIXELS * 4);
            const float by = (j ? factor.y : factor.x) * common;
            value[i + j] = {pair.x * by, pair.y * by};
            most[0] = fmaxf(most[0], fabsf(value[i + j].x));
            most[1] = fmaxf(most[1], fabsf(value[i + j].y));
        }
    }
    float scale[2];
#pragma unroll
    for (int p = 0; p < 2; ++p) {
        const int exponent = common_exponent(most[p]);
        scale[p] = power(exponent);
        undo[p] = power(-exponent - FILTERS);
    }
#pragma unroll
    for (int i = 0; i < DEPTH / 8; ++i) {
        const float2 one = value[2 * i], two = value[2 * i + 1];
        unsigned *high = to.high[i / 2] + i % 2 * 2, *low = to.low[i / 2] + i % 2 * 2;
        split(high[0], low[0], one.x * scale[0], two.x * scale[0]);
        split(high[1], low[1], one.y * scale[1], two.y * scale[1]);
    }
}

__device__ __forceinline__ void finish(float (&total)[SUMS], float (&sum)[SUMS], const float (&undo)[2]) {
    wait_for_wgmma<0>();
    settle(sum);
#pragma unroll
    for (int i = 0; i < SUMS; ++i)
        total[i] += sum[i] * undo[i % 4 / 2];
}

// ---- results ---------------------------------------------------------------------------------------------

// put(element, first, second) for every channel of a thread's two pixels: two of every eight.
template <class Put>
__device__ __forceinline__ void each_channel(const float (&total)[SUMS], const Shape &s, int m0, float common,
                                             Put put) {
#pragma unroll
    for (int i = 0; i < SUMS / 2; ++i) {
        const int m = m0 + i / 2 * 8 + i % 2, at = i / 2 * 4 + i % 2;
        if (m < s.outputs)
            put(m * s.out_channel, total[at] * common, total[at + 2] * common);
    }
}

// Where a result goes: to the corner of a cell of pixels, whose rest is zero; no rows: nowhere.
struct Cell {
    float *corner;
    int rows, cols;

    __device__ __forceinline__ Cell(float *out, const Shape &s, unsigned pixel) {
        const unsigned image = pixel / s.plane, left = pixel % s.plane;
        const int row = left / s.cols * s.cell_rows, col = left % s.cols * s.cell_cols;
        corner = out + image * s.out_image + row * (long long)s.width + col;
        rows = pixel < s.pixels ? min(s.cell_rows, s.rows - row) : 0;
        cols = min(s.cell_cols, s.width - col);
    }
    __device__ __forceinline__ void put(long long at, int width, float value) const {
#pragma unroll 1
        for (int i = 0; i < rows; ++i)
#pragma unroll 1
            for (int j = 0; j < cols; ++j)
                corner[at + i * width + j] = i || j ? 0.0f : value;
    }
    // Of two rows and columns.
    __device__ __forceinline__ void put_two(long long at, int width, float value) const {
        if (rows == 0)
            return;
        *(float2 *)(corner + at) = {value, 0};
        *(float2 *)(corner + at + width) = {0, 0};
    }
};

__device__ __forceinline__ void store(float *out, const float (&total)[SUMS], const Shape &s,
                                      const Place &place, float common) {
    const int lane = threadIdx.x % 32, m0 = place.m_tile * TILE_M + lane % 4 * 2, width = s.width;
    const unsigned pixel = place.first + threadIdx.x / 32 * 16 + lane / 4 * 2;
    const Cell one(out, s, pixel), two(out, s, pixel + 1);
    if (one.rows == 0)
        return;
    const bool even = s.plane % 2 == 0, alone = s.cell_rows * s.cell_cols == 1;
    const bool twos = s.cell_rows == 2 && s.cell_cols * (int)s.cols == width && s.cell_cols == 2 &&
                      s.plane / s.cols * 2 == s.rows;
    if (alone && even)
        each_channel(total, s, m0, common, [=](long long at, float first, float second) {
            *(float2 *)(one.corner + at) = {first, second};
        });
    else if (twos && s.cols % 2 == 0)
        each_channel(total, s, m0, common, [=](long long at, float first, float second) {
            *(float4 *)(one.corner + at) = {first, 0, second, 0};
            *(float4 *)(one.corner + at + width) = {0, 0, 0, 0};
        });
    else if (twos)
        each_channel(total, s, m0, common, [=](long long at, float first, float second) {
            one.put_two(at, width, first);
            two.put_two(at, width, second);
        });
    else
        each_channel(total, s, m0, common, [=](long long at, float first, float second) {
            one.put(at, width, first);
            two.put(at, width, second);
        });
}

// ---- a warp's way ----------------------------------------------------------------------------------------

// The largest factor of all channels.
__device__ __forceinline__ float largest_factor(const char *filters, const Shape &s) {
    unsigned most = 0;
#pragma unroll 4
    for (int d = threadIdx.x % 32; d < s.depth; d += 32) {
        const char *factors = filters + (long long)(d / DEPTH) * FILTER_BYTES + HALVES * COPIES;
        most = max(most, ((const unsigned *)factors)[d % DEPTH]);
    }
    return __uint_as_float(__reduce_max_sync(0xffffffffu, most));
}

// The next stage is turned into halves while this one is multiplied.
__device__ __forceinline__ void work(Ring ring, const char *shared, const char *filters, float *out,
                                     float *partial, const Shape &s) {
    const float largest = largest_factor(filters, s);
    const float common = __uint_as_float((254u << 23) - __float_as_uint(largest)); // its inverse
    Halves now, next;
    float undo[2], undo_next[2];
    const auto take = [&](Halves &to, float (&back)[2]) {
        wait_until_full(ring.full(), ring.phase);
        convert(to, back, shared + ring.slot * STAGE, common);
    };
    for (int tile = blockIdx.x; tile < s.tiles; tile += gridDim.x) {
        const Place place(s, tile);
        float total[SUMS] = {}, sum[SUMS];
        if (place.begin < place.end)
            take(now, undo);
        for (int block = place.begin; block < place.end; ++block) {
            multiply<DEPTH / 16, TILE_M>(sum, now, ring.stage() + X_BYTES);
            const unsigned emptied = ring.emptied();
            ring.next();
            if (block + 1 < place.end)
                take(next, undo_next);
            finish(total, sum, undo);
            arrive(emptied);
            now = next;
            undo[0] = undo_next[0], undo[1] = undo_next[1];
        }
        store(s.parts > 1 ? partial + place.part * s.results : out, total, s, place, largest);
    }
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    multiply_points(const float *x, const char *filters, float *out, float *partial,
                    const __grid_constant__ Shape s) {
#if SUITED
    extern __shared__ uint4 shared[];
    char *stages = (char *)shared + (1024 - shared_address(shared) % 1024) % 1024;
    const Ring ring = {shared_address(stages), shared_address(stages) + STAGES * STAGE};
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; ++i) {
            init_barrier(ring.barriers + 8 * i, LOADERS + 1); // and the bytes of the filters
            init_barrier(ring.barriers + 8 * (STAGES + i), WORKERS / 32);
        }
        show_barriers();
    }
    __syncthreads();
    if (threadIdx.x >= WORKERS) {
        keep_registers<40>();
        load(ring, x, filters, s);
    } else {
        take_registers<232>();
        work(ring, stages, filters, out, partial, s);
    }
#endif
}
