// Few channels forward in one pass: x is read as it is, and its halves are put together in registers.
//
//   y[k, p, q] = sum over (c, r, s) of  w[k, c, r, s] x[c, p u - t + r d, q v - l + s e]
//
// Mapping    A block has a band of rows of y, of all or some filters of an image, and goes down it. Four warps turn
//            rows of x into halves, both of a number in one word, in a ring of padded rows in shared memory. Two
//            warpgroups pick the words that the taps of 64 pixels each meet, and multiply them (pixels are rows of
//            the product). Filters stay in shared memory.
// Reduction  Lines (c, r) of taps, each padded to pairs; 64 terms at once.
// Scales     Channel c of x gets what the largest filter there has been divided by, and all of a band of x one power
//            of two.
//   COPIES   2: high and low halves, three products; 1: high ones alone
//   FILTERS  of a block: 64, 96 or 128
constexpr int LOADERS = 128, WORKERS = 256, THREADS = LOADERS + WORKERS, SPLITTERS = 512;
constexpr int LARGEST = 8;         // exponent of the largest scaled filter of a channel
constexpr int TERMS = 64;          // multiplied at once
constexpr int MOST_CHANNELS = 16;  // of x
constexpr int HALVES = FILTERS * 128; // bytes: rows of 64 terms

#include "cuda_implicit_rows.cuh"

//   filters, channels  of y and x; units: blocks along the filters
//   bands, height      blocks along the rows; rows of a band
//   tiles, blocks      along a row of y; of the reduction
//   pairs              of a line of taps
//   ring, width        rows of x in shared memory, and their columns
struct Shape {
    int filters, channels, units, bands, height, tiles, blocks, pairs, ring, width, flip;
    Axis rows, cols;
};

__device__ __forceinline__ int unit_bytes(const Shape &s) { return s.blocks * HALVES * COPIES + MOST_CHANNELS * 4; }

// ---- filters in halves -----------------------------------------------------------------------------------

// Rows of 128 bytes as wgmma wants them: high halves, then low ones, of 64 terms after the other; then a factor
// for each channel. A block has 64 terms.
extern "C" __global__ void __launch_bounds__(SPLITTERS)
    split_lines(const float *w, char *out, const __grid_constant__ Shape s) {
    __shared__ unsigned most[MOST_CHANNELS];
    const int unit = blockIdx.x / s.blocks, block = blockIdx.x % s.blocks, first = unit * FILTERS;
    const int taps = s.rows.taps * s.cols.taps, row = s.channels * taps;
    if (threadIdx.x < MOST_CHANNELS)
        most[threadIdx.x] = 0;
    __syncthreads();
    const int count = min(FILTERS, s.filters - first) * row;
    w += (long long)first * row;
    out += (long long)unit * unit_bytes(s);
#pragma unroll 8
    for (int i = threadIdx.x; i < count; i += SPLITTERS)
        atomicMax(most + i / taps % s.channels, __float_as_uint(fabsf(w[i])));
    __syncthreads();
    const auto exponent = [&](int c) {
        return most[c] >= 0x7f800000u ? 127 : min(max((int)(most[c] >> 23), 1), 253);
    };
    if (block == 0 && threadIdx.x < s.channels)
        ((float *)(out + s.blocks * HALVES * COPIES))[threadIdx.x] = __int_as_float(exponent(threadIdx.x) << 23);
    for (int i = threadIdx.x; i < FILTERS * 8; i += SPLITTERS) {
        const int k = i / 8, chunk = i % 8;
        alignas(16) __half high[8], low[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int pair = (block * TERMS + chunk * 8 + j) / 2, line = pair / s.pairs;
            const int tap = pair % s.pairs * 2 + j % 2, c = line / s.rows.taps, r = line % s.rows.taps;
            const bool there = first + k < s.filters && c < s.channels && tap < s.cols.taps;
            const int at = s.flip ? taps - 1 - r * s.cols.taps - tap : r * s.cols.taps + tap;
            const float value = there ? scaled(w[k * row + c * taps + at], LARGEST + 127 - exponent(c)) : 0.0f;
            high[j] = __float2half_rn(value);
            low[j] = __float2half_rn(value - __half2float(high[j]));
        }
        char *to = out + block * HALVES * COPIES + k * 128 + ((chunk ^ k % 8) << 4);
        *(uint4 *)to = *(const uint4 *)high;
        if (COPIES == 2)
            *(uint4 *)(to + HALVES) = *(const uint4 *)low;
    }
}

#if SUITED
// The operand's registers are not used for anything else before this: products would have to be waited for.
__device__ __forceinline__ void hold(const Halves &left) {
#ifndef __CUDA_EMULATOR__
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
            ASM("" ::"r"(left.high[i][j]), "r"(left.low[i][j]));
#endif
}

constexpr int SUMS = FILTERS / 2;

#ifndef __CUDA_EMULATOR__
#define NAMES48                                                                                              \
    NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
template <>
__device__ __forceinline__ void wgmma_rows<96>(float *d, const unsigned (&a)[4], unsigned long long b, int add) {
    ISSUE_ROWS("96", NAMES48, "%48", "%49", "%50", "%51", "%52", "%53", AT32(0), AT8(32), AT8(40));
}
#endif

// ---- where things are ------------------------------------------------------------------------------------

// Shared memory in order.
struct Memory {
    char *filters;
    unsigned *ring;
    int *tables;  // where pairs of taps begin, for each row that is there
    float *scale; // of x; what brings results back
    float *factors;
    unsigned barriers;

    __device__ __forceinline__ Memory(char *begin, const Shape &s) {
        filters = begin, factors = (float *)(filters + s.blocks * HALVES * COPIES);
        scale = factors + MOST_CHANNELS;
        barriers = shared_address(scale + 4);
        tables = (int *)(scale + 4 + 4 * AHEAD);
        ring = (unsigned *)(tables + AHEAD * s.blocks * (TERMS / 2));
    }
    __device__ __forceinline__ unsigned full(int slot) const { return barriers + 16 * slot; }
    __device__ __forceinline__ unsigned emptied(int slot) const { return barriers + 16 * slot + 8; }
};

// ---- rows of x -------------------------------------------------------------------------------------------

// The power of two for the rows of x that this block meets, from the largest number there.
__device__ __forceinline__ void find_scale(const Memory &at, const float *x, const Shape &s, const Place &place) {
    __shared__ unsigned most;
    if (threadIdx.x == 0)
        most = 0;
    float largest = 0;
    for (int c = 0; c < s.channels; ++c)
        largest = fmaxf(largest, at.factors[c]);
    const float common = __uint_as_float((254u << 23) - __float_as_uint(largest)); // its inverse
    __syncthreads();
    unsigned found = 0;
    for (int c = 0; c < s.channels; ++c) {
        const float number = __uint_as_float(most_of(x, s, place, c));
        found = max(found, __float_as_uint(number * (at.factors[c] * common)));
    }
    found = __reduce_max_sync(0xffffffffu, found);
    if (threadIdx.x % 32 == 0)
        atomicMax(&most, found);
    __syncthreads();
    if (threadIdx.x == 0) {
        const int exponent = exponent_for(__uint_as_float(most));
        at.scale[0] = power(exponent), at.scale[1] = common;
        at.scale[2] = most < 0x7f800000u ? power(-exponent - LARGEST) : __uint_as_float(0x7fffffffu);
        at.scale[3] = largest;
    }
    __syncthreads();
}

// Where in the ring, in bytes, the pairs of taps of a row of y begin.
__device__ __forceinline__ void write_table(int *table, const Shape &s, int row) {
    for (int pair = threadIdx.x % LOADERS; pair < s.blocks * (TERMS / 2); pair += LOADERS) {
        const int line = pair / s.pairs, c = line / s.rows.taps, r = line % s.rows.taps;
        const int at = c < s.channels ? c * s.ring + (row + r * s.rows.dilation) % s.ring : row % s.ring;
        table[pair] = (at * s.width + pair % s.pairs * 2 * s.cols.dilation) * 4;
    }
}

__device__ __forceinline__ void load(const Memory &at, const float *x, const Shape &s, const Place &place) {
    load_rows(
        at, s, place,
        [&](int c, int row) {
            copy_row(at.ring, x, s, place, c, row, at.factors[c] * at.scale[1], at.scale[0]);
        },
        [&](int slot, int row) { write_table(at.tables + slot * s.blocks * (TERMS / 2), s, row); });
}

// ---- products --------------------------------------------------------------------------------------------

// The words of 64 terms that two neighbouring pixels meet.
__device__ __forceinline__ void pick(Halves &to, const int *table, const char *pixel, int pixel_step, int tap_step) {
    table += threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < TERMS / 16; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const char *from = pixel + table[i * 8 + half * 4];
#pragma unroll
            for (int row = 0; row < 2; ++row, from += pixel_step) {
                const unsigned one = *(const unsigned *)from, two = *(const unsigned *)(from + tap_step);
                to.high[i][half * 2 + row] = (one & 0xffff) | two << 16;
                if (COPIES == 2)
                    to.low[i][half * 2 + row] = one >> 16 | (two & 0xffff0000);
            }
        }
}

// Two neighbouring pixels of every filter: two of every eight.
__device__ __forceinline__ void store(float *y, const float (&total)[SUMS], const Shape &s, const Place &place, int p,
                                      int q0, float back, float largest) {
    const int lane = threadIdx.x % 32, q = q0 + threadIdx.x / 32 * 16 + lane / 4 * 2, first = place.first + lane % 4 * 2;
    const long long plane = (long long)s.rows.y * s.cols.y;
    if (q >= s.cols.y)
        return;
    y += (place.n * (long long)s.filters + first) * plane + p * s.cols.y + q;
    const bool pairs = s.cols.y % 2 == 0, second = q + 1 < s.cols.y;
#pragma unroll
    for (int i = 0; i < SUMS / 2; ++i) {
        const int k = i / 2 * 8 + i % 2, at = i / 2 * 4 + i % 2;
        const float2 value = {total[at] * back * largest, total[at + 2] * back * largest};
        if (first + k >= s.filters)
            continue;
        float *to = y + k * plane;
        if (pairs) {
            *(float2 *)to = value;
        } else {
            to[0] = value.x;
            if (second)
                to[1] = value.y;
        }
    }
}

// The next terms are picked while these are multiplied.
__device__ __forceinline__ void work(const Memory &at, float *y, const Shape &s, const Place &place) {
    const int lane = threadIdx.x % 32, steps = (place.end - place.begin) * s.tiles * s.blocks;
    const int column = threadIdx.x / 32 * 16 + lane / 4 * 2, pixel_step = s.cols.stride * 4;
    const float back = at.scale[2], largest = at.scale[3];
    Halves now, next;
    float total[SUMS] = {}, sum[SUMS];
    Turn<AHEAD> turn;
    const auto take = [&](Halves &to, int tile, int block) {
        if (tile == 0 && block == 0)
            wait_until_full(at.full(turn.slot), turn.phase);
        pick(to, at.tables + (turn.slot * s.blocks + block) * (TERMS / 2),
             (const char *)at.ring + (tile * PIXELS + column) * pixel_step, pixel_step, s.cols.dilation * 4);
        if (tile + 1 == s.tiles && block + 1 == s.blocks) {
            arrive(at.emptied(turn.slot));
            turn.next();
        }
    };
    int block = 0, tile = 0, p = place.begin;
    take(now, 0, 0);
    for (int step = 0; step < steps; ++step) {
        multiply<TERMS / 16, FILTERS>(sum, now, shared_address(at.filters) + block * HALVES * COPIES);
        const bool last = block + 1 == s.blocks;
        const int next_tile = !last ? tile : tile + 1 == s.tiles ? 0 : tile + 1;
        block = last ? 0 : block + 1;
        if (step + 1 < steps)
            take(next, next_tile, block);
        wait_for_wgmma<0>();
        settle(sum);
        hold(now);
#pragma unroll
        for (int i = 0; i < SUMS; ++i)
            total[i] += sum[i];
        now = next;
        if (last) {
            store(y, total, s, place, p, tile * PIXELS, back, largest);
            p += next_tile == 0;
#pragma unroll
            for (int i = 0; i < SUMS; ++i)
                total[i] = 0;
        }
        tile = next_tile;
    }
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    multiply_lines(const float *x, const char *filters, float *y, const __grid_constant__ Shape s) {
#if SUITED
    extern __shared__ uint4 shared[];
    const Memory at((char *)shared + (1024 - shared_address(shared) % 1024) % 1024, s);
    const Place place(s);
    filters += blockIdx.x % s.units * (long long)unit_bytes(s);
#pragma unroll 8
    for (int i = threadIdx.x; i < unit_bytes(s) / 16; i += THREADS)
        ((uint4 *)at.filters)[i] = ((const uint4 *)filters)[i];
    if (threadIdx.x == 0) {
        for (int i = 0; i < AHEAD; ++i) {
            init_barrier(at.full(i), LOADERS / 32);
            init_barrier(at.emptied(i), WORKERS / 32);
        }
        show_barriers();
    }
    show_copies();
    __syncthreads();
    find_scale(at, x, s, place);
    if (threadIdx.x >= WORKERS) {
        keep_registers<40>();
        load(at, x, s, place);
    } else {
        take_registers<232>();
        work(at, y, s, place);
    }
#endif
}
