// Winograd F(2 x 2, 3 x 3) in one kernel: neither transformed tiles nor products leave the multiprocessor.
//
//   ROWS, PAIRS, IMAGES  tiles of a block: rows, pairs of neighbours in a row, images; 32 pairs in all
//   BULK                 whether whole windows are copied at once; else numbers. Rows have to be of whole 16 bytes,
//                        and one column of padding before them
//
// Mapping    Blocks stay, and go from item to item: 64 tiles times 64 filters. Registers cannot hold sums of all 16
//            points, and narrower products would leave tensor cores idle: a first pass over all channels has rows 0
//            and 1 of the 4 x 4 points, a second one rows 3 and 2, one row a warpgroup. Threads read two lines of
//            windows of a pair of tiles, make factors for tensor cores of them in registers, and sum over 16 channels
//            a step; while one warpgroup does so, the other one multiplies. Three warps have pixels copied, one the
//            filters; see cuda_winograd_fused_filters.cu for these.
// Memory     Windows lie as [image][channel][row][column], of which wgmma knows nothing. Neighbouring channels are
//            an odd multiple of 8 banks apart, so that reads do not collide. What the first pass finds is parked.
// Accuracy   Every number is two halves, and three products of them are summed, small ones first. Each warp scales
//            its tiles by a power of two that the largest so far asks for; sums are scaled with it.
#include "cuda_winograd_chain.cuh"
#include "cuda_winograd_fused.cuh"
#include "cuda_winograd_warpgroups.cuh"

constexpr int FILTERS = 64, DEEP = 16, POINTS = 4; // of a block; of a step; of a warpgroup in a pass
constexpr int LINES = 2 * ROWS + 1, PITCH = 4 * PAIRS + 8, PLANE = LINES * PITCH; // of a channel, in a pass
constexpr int EARLY = 3, USED = 4 * PAIRS + 2; // columns of a line: so many before the first, and those that are read
constexpr int RAW = IMAGES * DEEP * PLANE * 4, FILTER = 2 * POINTS * FILTERS * DEEP * 4; // bytes of a step
constexpr int FOURS = FILTERS / 4, PARK = FOURS * 128 * 16; // that a thread has results in; bytes of a warpgroup
constexpr int MEMORY = 230400, FILTER_STAGES = 2, FREE = MEMORY - 2 * PARK - FILTER_STAGES * FILTER;
constexpr int RAW_STAGES = FREE / RAW > 4 ? 4 : FREE / RAW;
constexpr int MULTIPLIERS = 256, COPIERS = 96, THREADS = MULTIPLIERS + COPIERS + 32;
static_assert(ROWS * PAIRS * IMAGES == 32 && PAIRS % 4 == 0);
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
constexpr int RAW_AT = FILTER_STAGES * FILTER, PARKED_AT = RAW_AT + RAW_STAGES * RAW;
constexpr int BARRIERS_AT = PARKED_AT + 2 * PARK;
static_assert(BARRIERS_AT + 16 * (RAW_STAGES + FILTER_STAGES + 2) <= MEMORY + 128);

struct Memory {
    unsigned at;

    __device__ __forceinline__ unsigned raw(int slot) const { return at + RAW_AT + slot * RAW; }
    __device__ __forceinline__ unsigned filters(int slot) const { return at + slot * FILTER; }
    __device__ __forceinline__ unsigned raw_full(int slot) const { return at + BARRIERS_AT + 16 * slot; }
    __device__ __forceinline__ unsigned raw_empty(int slot) const { return raw_full(slot) + 8; }
    __device__ __forceinline__ unsigned filters_full(int slot) const { return raw_full(RAW_STAGES + slot); }
    __device__ __forceinline__ unsigned filters_empty(int slot) const { return filters_full(slot) + 8; }
    __device__ __forceinline__ unsigned given(int half) const { return filters_full(FILTER_STAGES + half); }
    __device__ __forceinline__ unsigned taken(int half) const { return given(half) + 8; }

    __device__ __forceinline__ void init() const {
        for (int i = 0; i < RAW_STAGES; ++i) init_barrier(raw_full(i), BULK ? 1 : COPIERS), init_barrier(raw_empty(i), 8);
        for (int i = 0; i < FILTER_STAGES; ++i)
            init_barrier(filters_full(i), 1), init_barrier(filters_empty(i), 8);
        for (int half = 0; half < 2; ++half) init_barrier(given(half), 128), init_barrier(taken(half), 128);
        show_barriers();
    }
};

// ---- copies ----------------------------------------------------------------------------------------------

// A pixel of every channel of a step; zeros where there is none.
__device__ __forceinline__ void copy_pixel(const float *channels, const Shape &s, const Item &item, int spot,
                                           int top, int left, unsigned stage) {
    const int n = spot / (LINES * USED), line = spot / USED % LINES;
    const int row = 2 * item.row - s.lead_rows + top + line, col = 2 * item.col - s.lead_cols + spot % USED;
    const bool there = item.image + n < s.images && row >= 0 && row < s.height && col >= 0 && col < s.width;
    const float *from = channels + (there ? n * s.x_image + row * s.width + col : 0);
    const int count = there ? left : 0;
    stage += (n * DEEP * PLANE + line * PITCH + EARLY + spot % USED) * 4;
#pragma unroll
    for (int c = 0; c < DEEP; ++c, from += s.height * s.width) copy_number(stage + c * PLANE * 4, from, c < count);
}

__device__ __forceinline__ void copy_pixels(const float *x, const Shape &s, const Memory &memory, int thread) {
    Ring<RAW_STAGES> ring;
    for (int index = blockIdx.x; index < s.items; index += gridDim.x) {
        const Item item(s, index);
        for (int pass = 0; pass < 2; ++pass) {
            const float *channels = x + item.image * s.x_image;
            for (int left = s.channels; left > 0; left -= DEEP, ring.advance()) {
                meet();
                wait_for_bytes(memory.raw_empty(ring.slot), ring.phase ^ 1);
#pragma unroll 1
                for (int spot = thread; spot < IMAGES * LINES * USED; spot += COPIERS)
                    copy_pixel(channels, s, item, spot, pass, left, memory.raw(ring.slot));
                arrive_when_copied(memory.raw_full(ring.slot));
                channels += (long long)DEEP * s.height * s.width;
                meet();
            }
        }
        meet(), meet();
    }
}

// The same by the copy engine, from multiples of 16 bytes on.
__device__ __forceinline__ void copy_windows(const TensorMap &map, const Shape &s, const Memory &memory, bool one) {
    Ring<RAW_STAGES> ring;
    for (int index = blockIdx.x; index < s.items; index += gridDim.x) {
        const Item item(s, index);
        for (int turn = 0; turn < 2 * s.steps; ++turn, ring.advance()) {
            const int pass = turn >= s.steps, step = turn - pass * s.steps;
            const unsigned full = memory.raw_full(ring.slot);
            meet();
            if (one) {
                wait_for_bytes(memory.raw_empty(ring.slot), ring.phase ^ 1);
                expect_bytes(full, RAW);
                copy_windows<PITCH, LINES, DEEP, IMAGES>(memory.raw(ring.slot), map, 2 * item.col - 1 - EARLY,
                                                         2 * item.row - s.lead_rows + pass, step * DEEP, item.image,
                                                         full);
            }
            meet();
        }
        meet(), meet();
    }
}

__device__ __forceinline__ void copy_filters(const uint4 *images, const Shape &s, const Memory &memory, bool one) {
    await_previous(); // it transforms the filters; pixels are copied meanwhile
    Ring<FILTER_STAGES> ring;
    for (int index = blockIdx.x; index < s.items; index += gridDim.x) {
        const int first = Item(s, index).filter * s.steps;
        for (int turn = 0; turn < 2 * s.steps; ++turn) {
            meet();
            const int slot = ring.slot, pass = turn >= s.steps, block = first + turn - pass * s.steps;
            if (one) {
                const unsigned full = memory.filters_full(slot);
                wait_for_bytes(memory.filters_empty(slot), ring.phase ^ 1);
                expect_bytes(full, FILTER);
                copy_stretch(memory.filters(slot), images + (block * 2ll + pass) * (FILTER / 16), FILTER, full);
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

// Where the windows of a thread are, in the first of its four channels and of the lines that were copied.
struct Window {
    const float *own, *edge; // its columns, and the one beside the tiles of its warp
    bool first, last;        // of a line

    __device__ __forceinline__ Window(const float *raw, int pair, int channel) {
        raw += (pair / (PAIRS * ROWS) * DEEP + channel) * PLANE + 2 * (pair / PAIRS % ROWS) * PITCH + EARLY;
        const int at = pair % PAIRS;
        first = at == 0, last = at == PAIRS - 1;
        own = raw + 4 * at + 1, edge = raw + (last ? 4 * PAIRS + 1 : 0);
    }
};

// B^T d of a row of points: the sum or the difference of two lines of a window.
struct Lines {
    int one, other; // where they begin
    bool sum;

    __device__ __forceinline__ Lines(int half, int pass) {
        sum = half && !pass;
        one = (half ? 1 : 2) * PITCH, other = (sum ? 2 : 0) * PITCH;
    }
};

// V = B^T d B of a row of points, scaled; returns what no element of it is larger than.
// Neighbours in a line have two columns of each other's: reading them again would take longer.
__device__ __forceinline__ float transform(const Window &w, const Lines &lines, const float (&factors)[4], float scale,
                                           Factors &out) {
    float bound = 0;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        float t[2][6];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int plane = (8 * j + 4 * e) * PLANE, one = plane + lines.one, other = plane + lines.other;
            const float f = scale * factors[2 * j + e], g = lines.sum ? f : -f;
            const Pack<float, 4> a = load_pack<4>(w.own + one), b = load_pack<4>(w.own + other);
            const float beside = fmaf(g, w.edge[other], f * w.edge[one]);
#pragma unroll
            for (int i = 0; i < 4; ++i) t[e][i + 1] = fmaf(g, b.at[i], f * a.at[i]);
            bound += fabsf(beside) + (fabsf(t[e][1]) + fabsf(t[e][2])) + (fabsf(t[e][3]) + fabsf(t[e][4]));
            const float left = __shfl_up_sync(0xffffffffu, t[e][4], 4);
            const float right = __shfl_down_sync(0xffffffffu, t[e][1], 4);
            t[e][0] = w.first ? beside : left, t[e][5] = w.last ? beside : right;
        }
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
            const float *a = t[0] + 2 * tile, *b = t[1] + 2 * tile;
            out.put(0, 2 * j + tile, a[2] - a[0], b[2] - b[0]);
            out.put(1, 2 * j + tile, a[1] + a[2], b[1] + b[2]);
            out.put(2, 2 * j + tile, a[2] - a[1], b[2] - b[1]);
            out.put(3, 2 * j + tile, a[3] - a[1], b[3] - b[1]);
        }
    }
    return bound;
}

// 2^n
__device__ __forceinline__ float power(int n) { return __uint_as_float((min(max(n, -126), 126) + 127) << 23); }

// The power of two that a warp scales its tiles by: 2^15 bounds what it makes of them. It stays from item to item,
// and is chosen anew, for a bound of 2^12, where the first tiles of an item are far smaller.
struct Scale {
    static constexpr int MOST = 15, CHOSEN = 12, LEAST = 8, RANGE = 120;
    int exponent = 0;
    bool begun = false; // there were tiles of this item that are not zero

    // Whether tiles have to be made again; sums are brought to the new scale.
    __device__ __forceinline__ bool changes(float bound, float (&sums)[POINTS][FOURS * 2]) {
        const unsigned bits = __reduce_max_sync(0xffffffffu, __float_as_uint(bound));
        const int had = bits >> 23;
        const bool first = !begun;
        if (bits == 0) return false;
        begun = true;
        if (had < MOST + 127 && (!first || had >= LEAST + 127)) return false;
        if (had == 255) { // nothing helps, unless it is the scale of other tiles
            begun = !first || exponent == 0;
            if (!begun) exponent = 0;
            return !begun;
        }
        const int next = min(max(exponent + CHOSEN + 126 - had, -RANGE), RANGE);
        if (next == exponent) return false;
        const float factor = power(next - exponent);
#pragma unroll
        for (int p = 0; p < POINTS; ++p)
#pragma unroll
            for (int i = 0; i < FOURS * 2; ++i) sums[p][i] *= factor;
        exponent = next;
        return true;
    }
};

// Sums of a row of points; the other warpgroup transforms meanwhile.
__device__ __forceinline__ void multiply(float (&sums)[POINTS][FOURS * 2], Factors &f, unsigned filters, bool more) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    // All lanes have the same address, but only so does the compiler know it.
    const unsigned long long right = describe(__shfl_sync(0xffffffffu, filters, 0), 8192, 1024);
    begin_wgmma();
#pragma unroll
    for (int i = 0; i < 3; ++i)
#pragma unroll
        for (int p = 0; p < POINTS; ++p)
            wgmma_rows(sums[p], i ? f.high[p] : f.low[p],
                       right + (p / 2 * FILTERS * 128 + p % 2 * 64 + (i == 1 ? 32 : 0)) / 16, i || more);
    commit_wgmma();
    wait_for_wgmma<0>();
#pragma unroll
    for (int p = 0; p < POINTS; ++p) settle(sums[p]);
#endif
}

// ---- results ---------------------------------------------------------------------------------------------

// M A of a row of points, for both tiles and one of a thread's filters.
__device__ __forceinline__ Pack<float, 4> inverse(const float (&sums)[POINTS][FOURS * 2], float factor, int v) {
    Pack<float, 4> y;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
        const int at = v / 2 * 4 + 2 * tile + v % 2;
        const float one = sums[1][at], minus = sums[2][at];
        y.at[2 * tile] = factor * (sums[0][at] + one + minus);
        y.at[2 * tile + 1] = factor * (one - minus + sums[3][at]);
    }
    return y;
}

template <int VECTOR> __device__ __forceinline__ void write(float *to, const Pack<float, 4> &y, int left) {
#pragma unroll
    for (int j = 0; j < 4; j += VECTOR) {
        Pack<float, VECTOR> part;
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) part.at[i] = y.at[j + i];
        if (j < left) store_pack(to + j, part);
    }
}

// The first pass: rows of points 0 and 1.
__device__ __forceinline__ void park(const float (&sums)[POINTS][FOURS * 2], float factor, Pack<float, 4> *parked) {
#pragma unroll
    for (int v = 0; v < FOURS; ++v) parked[v * 128] = inverse(sums, factor, v);
}

// The second pass, A^T M A: the second warpgroup, which has row 2, finishes the upper lines of tiles; the first one,
// which has row 3, the lower ones, once the other has taken row 2 from row 1.
template <int HALF, int VECTOR>
__device__ __forceinline__ void finish(const float (&sums)[POINTS][FOURS * 2], float factor,
                                       Pack<float, 4> *parked, float *y, const Shape &s, const Item &item) {
    const int lane = threadIdx.x % 32, pair = threadIdx.x % 128 / 32 * 8 + lane / 4;
    const int image = item.image + pair / (PAIRS * ROWS), row = 2 * (item.row + pair / PAIRS % ROWS) + 1 - HALF;
    const int col = 2 * item.col + pair % PAIRS * 4, filter = item.filter * FILTERS + lane % 4 * 2;
    const int left = image < s.images && row < s.out_height ? s.out_width - col : 0;
    const long long plane = (long long)s.out_height * s.out_width;
    float *to = y + image * s.y_image + filter * plane + (long long)row * s.out_width + col;
#pragma unroll
    for (int v = 0; v < FOURS; ++v, to += v % 2 ? plane : 7 * plane) {
        const Pack<float, 4> part = inverse(sums, factor, v), first = parked[v * 128];
        Pack<float, 4> second = parked[(FOURS + v) * 128], sum;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            sum.at[j] = second.at[j] + part.at[j];
            if (HALF) sum.at[j] += first.at[j], second.at[j] -= part.at[j];
        }
        if (HALF) parked[(FOURS + v) * 128] = second;
        if (filter + v / 2 * 8 + v % 2 < s.filters) write<VECTOR>(to, sum, left);
    }
}

template <int HALF>
__device__ __forceinline__ void finish(const float (&sums)[POINTS][FOURS * 2], float factor, Pack<float, 4> *parked,
                                       float *y, const Shape &s, const Item &item) {
    if (s.vector == 4)
        finish<HALF, 4>(sums, factor, parked, y, s, item);
    else if (s.vector == 2)
        finish<HALF, 2>(sums, factor, parked, y, s, item);
    else
        finish<HALF, 1>(sums, factor, parked, y, s, item);
}

// ---- the kernel ------------------------------------------------------------------------------------------

__device__ __forceinline__ void convolve(char *shared, const Memory &memory, const float *scales, float *y,
                                         const Shape &s) {
    const int half = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
    const int lane = threadIdx.x % 32, pair = threadIdx.x % 128 / 32 * 8 + lane / 4;
    await_previous();
    Ring<RAW_STAGES> raw;
    Ring<FILTER_STAGES> filters;
    Scale scale;
    int phase = 0; // of what is parked
    Pack<float, 4> *parked = (Pack<float, 4> *)(shared + PARKED_AT) + threadIdx.x % 128;
    float factors[4]; // of the next step: they come from far
    const auto load_factors = [&](int block) {
#pragma unroll
        for (int i = 0; i < 4; ++i) factors[i] = scales[block * DEEP + lane % 4 + 4 * i];
    };
    load_factors(blockIdx.x % s.filter_blocks * s.steps);
    for (int index = blockIdx.x; index < s.items; index += gridDim.x, phase ^= 1) {
        const Item item(s, index);
        const int block = item.filter * s.steps, next = (index + gridDim.x) % s.filter_blocks * s.steps;
        for (int pass = 0; pass < 2; ++pass) {
            const Lines lines(half, pass);
            const int after = pass ? next : block;
            float sums[POINTS][FOURS * 2];
            scale.begun = false;
            for (int step = 0; step < s.steps; ++step, raw.advance(), filters.advance()) {
                meet();
                meet();
                const int slot = filters.slot;
                wait_for_bytes(memory.filters_full(slot), filters.phase);
                wait_for_bytes(memory.raw_full(raw.slot), raw.phase);
                const Window window((const float *)(shared + RAW_AT + raw.slot * RAW), pair, lane % 4);
                Factors f;
#pragma unroll 1
                while (scale.changes(transform(window, lines, factors, power(scale.exponent), f), sums)) {
                }
                __syncwarp();
                if (lane == 0) arrive(memory.raw_empty(raw.slot));
                load_factors(step + 1 < s.steps ? block + step + 1 : after);
                multiply(sums, f, memory.filters(slot) + (half ^ pass) * FILTER / 2, step);
                if (lane == 0) arrive(memory.filters_empty(slot));
            }
            const float factor = power(-scale.exponent);
            if (pass == 0) {
                wait_for_bytes(memory.taken(half), phase ^ 1);
                park(sums, factor, parked + half * FOURS * 128);
                if (half == 0) arrive(memory.given(0));
            } else if (half) {
                wait_for_bytes(memory.given(0), phase);
                finish<1>(sums, factor, parked, y, s, item);
                arrive(memory.taken(0));
                arrive(memory.given(1));
                meet(), meet();
            } else {
                meet();
                wait_for_bytes(memory.given(1), phase);
                finish<0>(sums, factor, parked, y, s, item);
                arrive(memory.taken(1));
                meet();
            }
        }
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
            copy_filters(images, shape, memory, thread == COPIERS);
        else if (BULK)
            copy_windows(map, shape, memory, thread == 0);
        else
            copy_pixels(x, shape, memory, thread);
    } else {
        keep_registers<232, true>();
        convolve(shared, memory, factors, y, shape);
    }
}
