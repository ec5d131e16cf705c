// Winograd F(2 x 2, 3 x 3) in one kernel: neither transformed tiles nor products leave the multiprocessor.
//
//   ROWS, PAIRS, IMAGES  tiles of a block: rows, pairs of neighbours in a row, images; 32 pairs in all
//   BULK                 whether whole windows are copied at once; else numbers. Rows have to be of whole 16 bytes,
//                        and one column of padding before them: copies begin three columns earlier
//
// Mapping    Blocks stay, and go from item to item: 64 tiles times 32 filters. Of the 4 x 4 points one warpgroup
//            has the first two rows, the other one the last two. Threads read windows of a pair of tiles, make
//            factors for tensor cores of them in registers, and sum over 16 channels a step. Three warps have
//            pixels copied, one the filters; see cuda_winograd_fused_filters.cu for these.
// Memory     Windows lie as [image][channel][row][column], of which wgmma knows nothing. Neighbouring channels
//            are an odd multiple of 8 banks apart for every even ROWS and PAIRS, so that reads do not collide.
// Accuracy   Every number is two halves, and three products of them are summed, small ones first. Each warp scales
//            its tiles by a power of two that the largest so far asks for; sums are scaled with it.
#include "cuda_winograd_fused.cuh"

constexpr int FILTERS = 32, DEEP = 16, POINTS = 8; // of a block; of a step; of a warpgroup
constexpr int LINES = 2 * ROWS + 2, PITCH = 4 * PAIRS + (BULK ? 12 : 4), USED = 4 * PAIRS + 2, PLANE = LINES * PITCH;
constexpr int RAW = IMAGES * DEEP * PLANE * 4, FILTER = 16 * FILTERS * DEEP * 4; // bytes of a step
constexpr int EXCHANGED = 16, EXCHANGE = EXCHANGED * 128 * 16; // fours of results of a thread; bytes
constexpr int TAKEN = 1, GIVEN = 2, TURN = 3; // barriers; TURN + 1 is the second warpgroup's
constexpr int MEMORY = 230400, FACTORS = DEEP * 4;
constexpr int FILTER_STAGES = MEMORY - EXCHANGE - 3 * (FILTER + FACTORS) < 2 * RAW ? 2 : 3;
constexpr int FREE = MEMORY - EXCHANGE - FILTER_STAGES * (FILTER + FACTORS);
constexpr int RAW_STAGES = FREE / RAW > 4 ? 4 : FREE / RAW;
constexpr int MULTIPLIERS = 256, COPIERS = 96, THREADS = MULTIPLIERS + COPIERS + 32;
static_assert(ROWS * PAIRS * IMAGES == 32 && ROWS % 2 == 0 && PAIRS % 2 == 0);
static_assert(RAW_STAGES > 1 && RAW % 128 == 0);

struct Shape {
    long long x_image, y_image; // numbers of an image
    int height, width, lead_rows, lead_cols, out_height, out_width;
    int images, channels, filters;
    int steps, filter_blocks, patch_rows, patch_cols, items;
    int vector; // neighbours that one access may write
};

struct Item {
    int filter, image, row, col; // blocks of filters; first image; first tile

    __device__ __forceinline__ Item(const Shape &s, int index) {
        const int patch = index / s.filter_blocks, line = patch / s.patch_cols;
        filter = index - patch * s.filter_blocks;
        col = (patch - line * s.patch_cols) * 2 * PAIRS;
        image = line / s.patch_rows;
        row = (line - image * s.patch_rows) * ROWS;
        image *= IMAGES;
    }
};

template <int STAGES> struct Ring {
    int slot = 0, phase = 0;

    __device__ __forceinline__ void advance() {
        if (++slot == STAGES) slot = 0, phase ^= 1;
    }
};

// Where things lie in shared memory, in bytes from its aligned beginning.
constexpr int RAW_AT = FILTER_STAGES * FILTER, EXCHANGE_AT = RAW_AT + RAW_STAGES * RAW;
constexpr int FACTORS_AT = EXCHANGE_AT + EXCHANGE, BARRIERS_AT = FACTORS_AT + FILTER_STAGES * FACTORS;
static_assert(BARRIERS_AT + 16 * (RAW_STAGES + FILTER_STAGES) <= MEMORY + 128);

struct Memory {
    unsigned at;

    __device__ __forceinline__ unsigned raw(int slot) const { return at + RAW_AT + slot * RAW; }
    __device__ __forceinline__ unsigned filters(int slot) const { return at + slot * FILTER; }
    __device__ __forceinline__ unsigned factors(int slot) const { return at + FACTORS_AT + slot * FACTORS; }
    __device__ __forceinline__ unsigned raw_full(int slot) const { return at + BARRIERS_AT + 16 * slot; }
    __device__ __forceinline__ unsigned raw_empty(int slot) const { return raw_full(slot) + 8; }
    __device__ __forceinline__ unsigned filters_full(int slot) const { return raw_full(RAW_STAGES + slot); }
    __device__ __forceinline__ unsigned filters_empty(int slot) const { return filters_full(slot) + 8; }


    __device__ __forceinline__ void init() const {
        for (int i = 0; i < RAW_STAGES; ++i) init_barrier(raw_full(i), BULK ? 1 : COPIERS), init_barrier(raw_empty(i), 8);
        for (int i = 0; i < FILTER_STAGES; ++i)
            init_barrier(filters_full(i), 1), init_barrier(filters_empty(i), 8);
        show_barriers();
    }
};

// Where all threads have to meet if there is one thread only that runs at a time.
__device__ __forceinline__ void meet() {
#ifdef __CUDA_EMULATOR__
    __syncthreads();
#endif
}

// How many registers each thread of a warpgroup has from here on.
template <int COUNT, bool MORE> __device__ __forceinline__ void keep_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) && !defined(__CUDA_EMULATOR__)
    if (MORE)
        ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
    else
        ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}

// ---- copies ----------------------------------------------------------------------------------------------

// A pixel of every channel of a step; zeros where there is none.
__device__ __forceinline__ void copy_pixel(const float *channels, const Shape &s, const Item &item, int spot,
                                           int left, unsigned stage) {
    const int n = spot / PLANE, row = 2 * item.row - s.lead_rows + spot % PLANE / PITCH;
    const int col = 2 * item.col - s.lead_cols + spot % PITCH;
    if (spot % PITCH >= USED) return;
    const bool there = item.image + n < s.images && row >= 0 && row < s.height && col >= 0 && col < s.width;
    const float *from = channels + (there ? n * s.x_image + row * s.width + col : 0);
    const int count = there ? left : 0;
    stage += (spot + n * (DEEP - 1) * PLANE) * 4;
#pragma unroll
    for (int c = 0; c < DEEP; ++c, from += s.height * s.width) copy_number(stage + c * PLANE * 4, from, c < count);
}

__device__ __forceinline__ void copy_pixels(const float *x, const Shape &s, const Memory &memory, int thread) {
    Ring<RAW_STAGES> ring;
    for (int index = blockIdx.x; index < s.items; index += gridDim.x) {
        const Item item(s, index);
        const float *channels = x + item.image * s.x_image;
        for (int left = s.channels; left > 0; left -= DEEP, ring.advance()) {
            meet();
            wait_for_bytes(memory.raw_empty(ring.slot), ring.phase ^ 1);
#pragma unroll 1
            for (int spot = thread; spot < IMAGES * PLANE; spot += COPIERS)
                copy_pixel(channels, s, item, spot, left, memory.raw(ring.slot));
            arrive_when_copied(memory.raw_full(ring.slot));
            channels += (long long)DEEP * s.height * s.width;
            meet();
        }
        meet(), meet();
    }
}

// The same by the copy engine, from multiples of 16 bytes on: three columns too early.
__device__ __forceinline__ void copy_windows(const TensorMap &map, const Shape &s, const Memory &memory, bool one) {
    Ring<RAW_STAGES> ring;
    for (int index = blockIdx.x; index < s.items; index += gridDim.x) {
        const Item item(s, index);
        for (int step = 0; step < s.steps; ++step, ring.advance()) {
            const unsigned full = memory.raw_full(ring.slot);
            meet();
            if (one) {
                wait_for_bytes(memory.raw_empty(ring.slot), ring.phase ^ 1);
                expect_bytes(full, RAW);
                copy_windows<PITCH, LINES, DEEP, IMAGES>(memory.raw(ring.slot), map, 2 * item.col - 4,
                                                         2 * item.row - s.lead_rows, step * DEEP, item.image, full);
            }
            meet();
        }
        meet(), meet();
    }
}

__device__ __forceinline__ void copy_filters(const uint4 *images, const float *factors, const Shape &s,
                                             const Memory &memory, bool one) {
    Ring<FILTER_STAGES> ring;
    for (int index = blockIdx.x; index < s.items; index += gridDim.x) {
        const int first = Item(s, index).filter * s.steps;
        for (int step = 0; step < s.steps; ++step) {
            meet();
            const int slot = ring.slot, block = first + step;
            if (one) {
                const unsigned full = memory.filters_full(slot);
                wait_for_bytes(memory.filters_empty(slot), ring.phase ^ 1);
                expect_bytes(full, FILTER + FACTORS);
                copy_stretch(memory.filters(slot), images + (long long)block * (FILTER / 16), FILTER, full);
                copy_stretch(memory.factors(slot), factors + block * DEEP, FACTORS, full);
            }
            ring.advance();
            meet();
        }
        meet(), meet();
    }
}

// ---- transforms ------------------------------------------------------------------------------------------

// Factors of the points of a warpgroup: two tiles of a thread and four channels.
struct Factors {
    unsigned high[POINTS][4], low[POINTS][4];

    __device__ __forceinline__ void put(int point, int at, float first, float second) {
        const float one = __uint_as_float(__float_as_uint(first) & 0xffffe000u);
        const float two = __uint_as_float(__float_as_uint(second) & 0xffffe000u);
        high[point][at] = halves(one, two);
        low[point][at] = halves(first - one, second - two);
    }
};

// V = B^T d B of this half of the points, scaled; returns what no element of it is larger than.
// `raw`: the first line of the thread's windows that this half reads, in the first of its four channels.
template <int HALF>
__device__ __forceinline__ float transform(const float *raw, const float *factors, float scale, Factors &out) {
    float bound = 0;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        float t[2][2][6];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const float *window = raw + (8 * j + 4 * e) * PLANE, f = scale * factors[8 * j + 4 * e];
            float d[3][6];
#pragma unroll
            for (int i = 0; i < 3; ++i) {
#if BULK
                const Pack<float, 4> four = load_pack<4>(window + i * PITCH + 4);
                d[i][0] = window[i * PITCH + 3], d[i][1] = four.at[0], d[i][2] = four.at[1], d[i][3] = four.at[2];
                d[i][4] = four.at[3], d[i][5] = window[i * PITCH + 8];
#else
                const Pack<float, 4> four = load_pack<4>(window + i * PITCH);
                const Pack<float, 2> two = load_pack<2>(window + i * PITCH + 4);
                d[i][0] = four.at[0], d[i][1] = four.at[1], d[i][2] = four.at[2], d[i][3] = four.at[3];
                d[i][4] = two.at[0], d[i][5] = two.at[1];
#endif
            }
#pragma unroll
            for (int i = 0; i < 6; ++i) {
                const float u = f * (HALF ? d[0][i] : d[2][i]);
                t[e][0][i] = HALF ? fmaf(f, d[1][i], -u) : fmaf(-f, d[0][i], u);
                t[e][1][i] = HALF ? fmaf(f, d[2][i], -u) : fmaf(f, d[1][i], u);
                bound += fabsf(t[e][0][i]);
                bound += fabsf(t[e][1][i]);
            }
        }
#pragma unroll
        for (int row = 0; row < 2; ++row)
#pragma unroll
            for (int tile = 0; tile < 2; ++tile) {
                const float *a = t[0][row] + 2 * tile, *b = t[1][row] + 2 * tile;
                const int at = 2 * j + tile;
                out.put(4 * row, at, a[2] - a[0], b[2] - b[0]);
                out.put(4 * row + 1, at, a[1] + a[2], b[1] + b[2]);
                out.put(4 * row + 2, at, a[2] - a[1], b[2] - b[1]);
                out.put(4 * row + 3, at, a[3] - a[1], b[3] - b[1]);
            }
    }
    return bound;
}

// 2^n
__device__ __forceinline__ float power(int n) { return __uint_as_float((min(max(n, -126), 126) + 127) << 23); }

// The power of two that a warp scales its tiles by: 2^15 bounds what it makes of them, 2^12 if it is chosen anew.
struct Scale {
    static constexpr int MOST = 15, CHOSEN = 12, RANGE = 120;
    int exponent = 0;
    bool chosen = false;

    // Whether tiles have to be made again; sums are brought to the new scale.
    __device__ __forceinline__ bool changes(float bound, float (&sums)[POINTS][16]) {
        const unsigned bits = __reduce_max_sync(0xffffffffu, __float_as_uint(bound));
        const int had = bits >> 23;
        if (bits == 0 || chosen && had < MOST + 127) return false;
        chosen = true;
        if (had == 255) return false; // nothing helps
        const int next = min(max(exponent + CHOSEN + 126 - had, -RANGE), RANGE);
        if (next == exponent) return false;
        const float factor = power(next - exponent);
#pragma unroll
        for (int p = 0; p < POINTS; ++p)
#pragma unroll
            for (int i = 0; i < 16; ++i) sums[p][i] *= factor;
        exponent = next;
        return true;
    }
};

// Warpgroups take turns: while one multiplies, the other transforms.
template <int HALF>
__device__ __forceinline__ void multiply(float (&sums)[POINTS][16], Factors &f, unsigned filters, bool more) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    const unsigned long long right = describe(filters, 8192, 1024);
    await<MULTIPLIERS>(TURN + HALF);
    begin_wgmma();
#pragma unroll
    for (int i = 0; i < 3; ++i)
#pragma unroll
        for (int p = 0; p < POINTS; ++p)
            wgmma_rows(sums[p], i ? f.high[p] : f.low[p],
                       right + (p / 2 * 4096 + p % 2 * 64 + (i == 1 ? 32 : 0)) / 16, i || more);
    commit_wgmma();
    signal<MULTIPLIERS>(TURN + 1 - HALF);
    wait_for_wgmma<0>();
#pragma unroll
    for (int p = 0; p < POINTS; ++p) settle(sums[p]);
#endif
}

// ---- results ---------------------------------------------------------------------------------------------

// This half's part of A^T M A: row `line` of both tiles for one of a thread's filters.
template <int HALF>
__device__ __forceinline__ Pack<float, 4> inverse(const float (&sums)[POINTS][16], int block, int odd, int line) {
    Pack<float, 4> y;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
        const int at = 4 * block + 2 * tile + odd;
        float row[2][2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float one = sums[4 * i + 1][at], minus = sums[4 * i + 2][at];
            row[i][0] = sums[4 * i][at] + one + minus;
            row[i][1] = one - minus + sums[4 * i + 3][at];
        }
#pragma unroll
        for (int j = 0; j < 2; ++j)
            y.at[2 * tile + j] = HALF ? (line ? row[1][j] - row[0][j] : row[0][j])
                                      : (line ? row[1][j] : row[0][j] + row[1][j]);
    }
    return y;
}

__device__ __forceinline__ void write(float *to, const Pack<float, 4> &y, int left, int vector) {
    if (vector == 4) {
        if (left > 0) store_pack(to, y);
    } else if (vector == 2) {
        if (left > 0) store_pack(to, Pack<float, 2>{y.at[0], y.at[1]});
        if (left > 2) store_pack(to + 2, Pack<float, 2>{y.at[2], y.at[3]});
    } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < left) to[j] = y.at[j];
    }
}

// The first warpgroup, which is half a step ahead, gives its part away and goes on; the second one finishes.
__device__ __forceinline__ void give(const float (&sums)[POINTS][16], float factor, Pack<float, 4> *exchange) {
    await<MULTIPLIERS>(TAKEN);
#pragma unroll
    for (int v = 0; v < EXCHANGED; ++v) {
        Pack<float, 4> part = inverse<0>(sums, v / 4, v / 2 % 2, v % 2);
#pragma unroll
        for (int j = 0; j < 4; ++j) part.at[j] *= factor;
        exchange[v * 128 + threadIdx.x % 128] = part;
    }
    signal<MULTIPLIERS>(GIVEN);
    meet();
    meet();
}

__device__ __forceinline__ void finish(const float (&sums)[POINTS][16], float factor,
                                       const Pack<float, 4> *exchange, float *y, const Shape &s,
                                       const Item &item) {
    const int thread = threadIdx.x % 128, lane = threadIdx.x % 32, pair = thread / 32 * 8 + lane / 4;
    const int image = item.image + pair / (PAIRS * ROWS), row = 2 * (item.row + pair / PAIRS % ROWS);
    const int col = 2 * item.col + pair % PAIRS * 4, first = item.filter * FILTERS + lane % 4 * 2;
    const bool inside = image < s.images;
    const long long plane = (long long)s.out_height * s.out_width;
    float *corner = y + (inside ? image : 0) * s.y_image + (long long)row * s.out_width + col;
    meet();
    await<MULTIPLIERS>(GIVEN);
#pragma unroll
    for (int v = 0; v < EXCHANGED; ++v) {
        const int filter = first + v / 4 * 8 + v / 2 % 2;
        Pack<float, 4> part = inverse<1>(sums, v / 4, v / 2 % 2, v % 2);
        const Pack<float, 4> other = exchange[v * 128 + thread];
#pragma unroll
        for (int j = 0; j < 4; ++j) part.at[j] = factor * part.at[j] + other.at[j];
        if (inside && filter < s.filters && row + v % 2 < s.out_height)
            write(corner + filter * plane + v % 2 * s.out_width, part, s.out_width - col, s.vector);
    }
    signal<MULTIPLIERS>(TAKEN);
    meet();
}

// ---- the kernel ------------------------------------------------------------------------------------------

template <int HALF>
__device__ __forceinline__ void convolve(char *shared, const Memory &memory, float *y, const Shape &s) {
    const int lane = threadIdx.x % 32, pair = threadIdx.x % 128 / 32 * 8 + lane / 4;
    const int window = (pair / (PAIRS * ROWS) * DEEP + lane % 4) * PLANE +
                       (2 * (pair / PAIRS % ROWS) + HALF) * PITCH + pair % PAIRS * 4;
    Ring<RAW_STAGES> raw;
    Ring<FILTER_STAGES> filters;
    Pack<float, 4> *exchange = (Pack<float, 4> *)(shared + EXCHANGE_AT);
    if (HALF) signal<MULTIPLIERS>(TAKEN);
    if (HALF) signal<MULTIPLIERS>(TURN);
    for (int index = blockIdx.x; index < s.items; index += gridDim.x) {
        float sums[POINTS][16];
        Scale scale;
        for (int step = 0; step < s.steps; ++step, raw.advance(), filters.advance()) {
            meet();
            meet();
            const int slot = filters.slot;
            wait_for_bytes(memory.filters_full(slot), filters.phase);
            wait_for_bytes(memory.raw_full(raw.slot), raw.phase);
            const float *pixels = (const float *)(shared + RAW_AT + raw.slot * RAW) + window;
            const float *factors = (const float *)(shared + FACTORS_AT + slot * FACTORS) + lane % 4;
            Factors f;
#pragma unroll 1
            while (scale.changes(transform<HALF>(pixels, factors, power(scale.exponent), f), sums)) {
            }
            __syncwarp();
            if (lane == 0) arrive(memory.raw_empty(raw.slot));
            multiply<HALF>(sums, f, memory.filters(slot) + HALF * FILTER / 2, step);
            if (lane == 0) arrive(memory.filters_empty(slot));
        }
        if (HALF)
            finish(sums, power(-scale.exponent), exchange, y, s, Item(s, index));
        else
            give(sums, power(-scale.exponent), exchange);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    fused(const __grid_constant__ TensorMap map, const float *x, const uint4 *images, const float *factors, float *y,
          const __grid_constant__ Shape shape) {
    extern __shared__ uint4 dynamic[];
    const unsigned skipped = -shared_address(dynamic) & 1023;
    char *shared = (char *)dynamic + skipped;
    const Memory memory = {shared_address(shared)};
    if (threadIdx.x == 0) memory.init();
    __syncthreads();
    if (threadIdx.x >= MULTIPLIERS) {
        keep_registers<40, false>();
        const int thread = threadIdx.x - MULTIPLIERS;
        if (thread >= COPIERS)
            copy_filters(images, factors, shape, memory, thread == COPIERS);
        else if (BULK)
            copy_windows(map, shape, memory, thread == 0);
        else
            copy_pixels(x, shape, memory, thread);
    } else {
        keep_registers<232, true>();
        if (threadIdx.x < 128)
            convolve<0>(shared, memory, y, shape);
        else
            convolve<1>(shared, memory, y, shape);
    }
}
