// Gradients of filters with few channels in one pass: x and dy are read as they are.
//
//   dw[k, (c, r, s)] = sum over (n, p, q) of  dy[k, n, p, q] x[n, c, p u - t + r d, q v - l + s e]
//
// Mapping    A block has a band of rows of dy, of some filters of an image, and goes down it. Four warps turn rows of
//            x into halves, both of a number in one word, in a ring of padded rows in shared memory; four others turn
//            128 pixels of dy at a time into halves. Two warpgroups pick the words that 64 taps each meet (taps are
//            rows of the product), and multiply them: each every tap of its half of the pixels, or half of the taps.
// Parts      Every block, or warpgroup, leaves sums of all taps behind, which a second kernel adds in order.
// Scales     All of a band of x has one power of two, and eight filters of 128 pixels of dy have one.
//   COPIES   2: high and low halves, three products; 1: high ones alone
//   FILTERS  of a block: 48 or 64
constexpr int GROUP = 128, WORKERS = 256, THREADS = WORKERS + 2 * GROUP; // warps that turn x, or dy, are a group

#include "cuda_implicit_parts.cuh"
#include "cuda_implicit_rows.cuh"

//   filters, channels  of y and x; units: blocks along the filters
//   bands, height      blocks along the rows; rows of a band
//   tiles, taps        along a row of y; of all channels
//   apart              whether both warpgroups compute all taps, each of its half of the pixels
//   ring, width        rows of x in shared memory, and their columns
struct Shape {
    int filters, channels, units, bands, height, tiles, taps, apart, ring, width, flip;
    Axis rows, cols;
};

#if SUITED
constexpr int TILES = 3; // of 64 taps that a warpgroup computes
constexpr int SUMS = FILTERS / 2;
constexpr int HALVES = FILTERS * 128; // bytes: rows of 64 pixels
constexpr int RAW = FILTERS * PIXELS * 4, OPERAND = 2 * HALVES * COPIES; // of 128 pixels of dy, bytes

#ifndef __CUDA_EMULATOR__
#define NAMES24                                                                                              \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "   \
    "%22, %23"
template <>
__device__ __forceinline__ void wgmma_rows<48>(float *d, const unsigned (&a)[4], unsigned long long b, int add) {
    ISSUE_ROWS("48", NAMES24, "%24", "%25", "%26", "%27", "%28", "%29", AT8(0), AT8(8), AT8(16));
}
#endif

// ---- where things are ------------------------------------------------------------------------------------

// Shared memory in order.
struct Memory {
    char *operands, *raw; // dy in halves, twice; as it is, twice
    float *scale;         // of x; what brings results back
    float *undo;          // of dy, twice: of eight filters each
    unsigned barriers;
    int *tables; // where taps begin, for each row that is there
    unsigned *ring;

    __device__ __forceinline__ Memory(char *begin, const Shape &s) {
        operands = begin, raw = operands + 2 * OPERAND;
        scale = (float *)(raw + 2 * RAW);
        undo = scale + 4;
        barriers = shared_address(undo + 16);
        tables = (int *)(undo + 16 + 4 * (AHEAD + 2));
        ring = (unsigned *)(tables + AHEAD * 128 * TILES);
    }
    __device__ __forceinline__ unsigned full(int slot) const { return barriers + 16 * slot; }
    __device__ __forceinline__ unsigned emptied(int slot) const { return barriers + 16 * slot + 8; }
    // The same of operands.
    __device__ __forceinline__ unsigned split(int slot) const { return full(AHEAD + slot); }
    __device__ __forceinline__ unsigned multiplied(int slot) const { return emptied(AHEAD + slot); }
};

// ---- rows of x -------------------------------------------------------------------------------------------

// The power of two for the rows of x that this block meets, from the largest number there.
__device__ __forceinline__ void find_scale(const Memory &at, const float *x, const Shape &s, const Place &place) {
    __shared__ unsigned most;
    if (threadIdx.x == 0)
        most = 0;
    __syncthreads();
    unsigned bits = 0;
    for (int c = 0; c < s.channels; ++c)
        bits = max(bits, most_of(x, s, place, c));
    bits = __reduce_max_sync(0xffffffffu, bits);
    if (threadIdx.x % 32 == 0)
        atomicMax(&most, bits);
    __syncthreads();
    if (threadIdx.x == 0) {
        const int exponent = exponent_for(__uint_as_float(most));
        at.scale[0] = power(exponent);
        at.scale[1] = most < 0x7f800000u ? power(-exponent) : __uint_as_float(0x7fffffffu);
    }
    __syncthreads();
}

// Where in the ring, in bytes, the taps of a row of y begin.
__device__ __forceinline__ void write_table(int *table, const Shape &s, int row) {
    const int inside = s.rows.taps * s.cols.taps;
    for (int tap = threadIdx.x % GROUP; tap < 128 * TILES; tap += GROUP) {
        const int c = tap / inside, i = s.flip ? inside - 1 - tap % inside : tap % inside;
        const int r = i / s.cols.taps, l = i % s.cols.taps;
        const int at = c * s.ring + (row + r * s.rows.dilation) % s.ring;
        table[tap] = tap < s.taps ? (at * s.width + l * s.cols.dilation) * 4 : row % s.ring * s.width * 4;
    }
}

__device__ __forceinline__ void load_x(const Memory &at, const float *x, const Shape &s, const Place &place) {
    load_rows(
        at, s, place, [&](int c, int row) { copy_row(at.ring, x, s, place, c, row, 1.0f, at.scale[0]); },
        [&](int slot, int row) { write_table(at.tables + slot * 128 * TILES, s, row); });
}

// ---- dy --------------------------------------------------------------------------------------------------

// Where a thread's four pixels of a row of dy begin, of filter 0 of the block; tiles follow one another.
struct Reader {
    const float *from;
    int q, p, plane;

    __device__ __forceinline__ Reader(const float *y, const Shape &s, const Place &place) {
        plane = s.rows.y * s.cols.y, p = place.begin, q = threadIdx.x % 32 * 4;
        from = y + ((long long)place.n * s.filters + place.first) * plane;
    }
    __device__ __forceinline__ void next(const Shape &s) {
        q += PIXELS;
        if (q - (int)(threadIdx.x % 32 * 4) >= s.cols.y)
            q = threadIdx.x % 32 * 4, ++p;
    }
};

// 4 bytes to shared memory; zeros instead where there is nothing.
__device__ __forceinline__ void copy_one(unsigned to, const float *from, bool there) {
#ifdef __CUDA_EMULATOR__
    memset(emulator::dynamic_shared + to, 0, 4);
    if (there)
        memcpy(emulator::dynamic_shared + to, from, 4);
#else
    ASM("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(there ? 4 : 0) : "memory");
#endif
}

// A warp has eight filters, and those 32 further: it copies what it splits.
__device__ __forceinline__ void copy_dy(char *raw, const Reader &reader, const Shape &s, const Place &place,
                                        bool wanted) {
    const int warp = threadIdx.x % GROUP / 32, lane = threadIdx.x % 32, left = s.filters - place.first;
    const bool fours = s.cols.y % 4 == 0;
    const float *first = reader.from + reader.p * s.cols.y + reader.q;
    unsigned to = shared_address(raw) + lane * 16;
    if (wanted)
        for (int k = warp * 8; k < FILTERS; k += k % 8 == 7 ? 25 : 1) {
            const bool there = k < left && reader.q < s.cols.y;
            const float *from = there ? first + (long long)k * reader.plane : reader.from;
            if (fours) {
                copy_chunk(to + k * PIXELS * 4, (const uint4 *)from, there);
                continue;
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const bool one = there && reader.q + i < s.cols.y;
                copy_one(to + k * PIXELS * 4 + i * 4, one ? from + i : reader.from, one);
            }
        }
    commit_copies();
}

// Eight filters of 128 pixels to halves: rows of 64 pixels as wgmma wants them.
__device__ __forceinline__ void split_dy(char *operand, float *undo, const char *raw, int k) {
    const int lane = threadIdx.x % 32;
    raw += k * PIXELS * 4 + lane * 16;
    float most = 0;
#pragma unroll 4
    for (int i = 0; i < 8; ++i)
        most = largest(most, *(const float4 *)(raw + i * PIXELS * 4));
    most = __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(most)));
    const int exponent = exponent_for(most);
    const float scale = power(exponent);
    if (lane == 0)
        undo[k / 8] = power(-exponent);
    operand += lane / 16 * HALVES * COPIES + k * 128 + lane % 2 * 8;
#pragma unroll 2
    for (int i = 0; i < 8; ++i) {
        const float4 value = *(const float4 *)(raw + i * PIXELS * 4);
        uint2 high, low;
        split(high.x, low.x, value.x * scale, value.y * scale);
        split(high.y, low.y, value.z * scale, value.w * scale);
        char *to = operand + i * 128 + ((lane % 16 / 2 ^ i) << 4);
        *(uint2 *)to = high;
        if (COPIES == 2)
            *(uint2 *)(to + HALVES) = low;
    }
}

__device__ __forceinline__ void load_dy(const Memory &at, const float *y, const Shape &s, const Place &place) {
    const int steps = (place.end - place.begin) * s.tiles, warp = threadIdx.x % GROUP / 32;
    Reader reader(y, s, place);
    copy_dy(at.raw, reader, s, place, true);
    Turn<2> turn;
    for (int step = 0; step < steps; ++step, turn.next()) {
        reader.next(s);
        copy_dy(at.raw + (turn.slot ^ 1) * RAW, reader, s, place, step + 1 < steps);
        wait_for_copies<1>();
        wait_until_empty(at.multiplied(turn.slot), turn.phase);
        for (int k = warp * 8; k < FILTERS; k += 32)
            split_dy(at.operands + turn.slot * OPERAND, at.undo + turn.slot * 8, at.raw + turn.slot * RAW, k);
        show_copies();
        arrive(at.split(turn.slot));
    }
    wait_for_copies<0>();
}

// ---- products --------------------------------------------------------------------------------------------

// The words that taps row and row + 8 of a warp meet at 64 pixels.
__device__ __forceinline__ void pick(Halves &to, const char *const (&taps)[2], int pixel_step) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        const char *from = taps[row] + threadIdx.x % 4 * 2 * pixel_step;
#pragma unroll
        for (int i = 0; i < 8; ++i, from += 8 * pixel_step) {
            const unsigned one = *(const unsigned *)from, two = *(const unsigned *)(from + pixel_step);
            to.high[i / 2][i % 2 * 2 + row] = (one & 0xffff) | two << 16;
            if (COPIES == 2)
                to.low[i / 2][i % 2 * 2 + row] = one >> 16 | (two & 0xffff0000);
        }
    }
}

// What is picked next: 64 pixels of a row for every tile of taps.
struct Picker {
    const Memory &at;
    const Shape &s;
    int left, half = 0, tile = 0; // rows that are left
    Turn<AHEAD> turn;

    template <int M> __device__ __forceinline__ void take(Halves &to) {
        if (M == 0 && tile == 0 && half == 0) {
            if (left == 0)
                return;
            wait_until_full(at.full(turn.slot), turn.phase);
        }
        const int group = threadIdx.x / 128, row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        const int *table = at.tables + turn.slot * 128 * TILES + (s.apart ? 0 : group * TILES * 64) + M * 64 + row;
        const int pixel = tile * PIXELS + (s.apart ? group : half) * 64, step = s.cols.stride * 4;
        const char *ring = (const char *)at.ring + pixel * step;
        const char *const taps[2] = {ring + table[0], ring + table[8]};
        pick(to, taps, step);
        if (M + 1 == TILES)
            advance();
    }
    __device__ __forceinline__ void advance() {
        half = s.apart ? 0 : half ^ 1;
        if (half)
            return;
        if (++tile < s.tiles)
            return;
        tile = 0, --left;
        arrive(at.emptied(turn.slot));
        turn.next();
    }
};

// 64 pixels by one tile of taps: the next words are picked while the other warpgroup multiplies.
template <int M>
__device__ __forceinline__ void step(float (&total)[TILES][SUMS], float (&sum)[SUMS], Halves &now, Picker &picker,
                                     unsigned operand, const float *undo) {
    multiply<4, FILTERS>(sum, now, operand);
    wait_for_wgmma<0>();
    settle(sum);
#pragma unroll
    for (int i = 0; i < SUMS; ++i)
        total[M][i] += sum[i] * undo[i / 4];
    picker.take<(M + 1) % TILES>(now);
    if constexpr (M + 1 < TILES)
        step<M + 1>(total, sum, now, picker, operand, undo);
}

__device__ __forceinline__ void work(const Memory &at, float *partial, const Shape &s, const Place &place) {
    const int group = threadIdx.x / 128, steps = (place.end - place.begin) * s.tiles;
    float total[TILES][SUMS] = {}, sum[SUMS];
    Halves now;
    Picker picker = {at, s, place.end - place.begin};
    picker.take<0>(now);
    Turn<2> turn;
    for (int i = 0; i < steps; ++i, turn.next()) {
        wait_until_full(at.split(turn.slot), turn.phase);
#pragma unroll 1
        for (int half = 0; half < (s.apart ? 1 : 2); ++half)
            step<0>(total, sum, now, picker,
                    shared_address(at.operands) + turn.slot * OPERAND + (s.apart ? group : half) * HALVES * COPIES,
                    at.undo + turn.slot * 8);
        arrive(at.multiplied(turn.slot));
    }
    const int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane / 4;
    const long long part = blockIdx.x / s.units * (s.apart ? 2 : 1) + (s.apart ? group : 0);
    partial += (part * s.filters + place.first) * s.taps;
    const float back = at.scale[1];
#pragma unroll
    for (int m = 0; m < TILES; ++m)
#pragma unroll
        for (int i = 0; i < SUMS; ++i) {
            const int tap = ((s.apart ? 0 : group * TILES) + m) * 64 + row + i % 4 / 2 * 8;
            const int k = i / 4 * 8 + lane % 4 * 2 + i % 2;
            if (tap < s.taps && place.first + k < s.filters)
                partial[k * s.taps + tap] = total[m][i] * back;
        }
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    multiply_taps(const float *x, const float *y, float *partial, const __grid_constant__ Shape s) {
#if SUITED
    extern __shared__ uint4 shared[];
    const Memory at((char *)shared + (1024 - shared_address(shared) % 1024) % 1024, s);
    const Place place(s);
    if (threadIdx.x == 0) {
        for (int i = 0; i < AHEAD + 2; ++i) {
            init_barrier(at.full(i), GROUP / 32);
            init_barrier(at.emptied(i), WORKERS / 32);
        }
        show_barriers();
    }
    find_scale(at, x, s, place);
    if (threadIdx.x < WORKERS) {
        take_registers<208>();
        work(at, partial, s, place);
    } else {
        keep_registers<48>();
        if (threadIdx.x < WORKERS + GROUP)
            load_x(at, x, s, place);
        else
            load_dy(at, y, s, place);
    }
#endif
}

extern "C" __global__ void __launch_bounds__(ADDERS)
    add_parts(const float *partial, float *out, long long count, int parts) {
    add_up(partial, out, count, parts);
}
