// Gradients of the filters of 1x1 convolutions as products that read fp32 images (nchw) as they are.
//
//   dw[i, j] = sum over images and pixels of  rows[i, p] cols[j, p]        (dy and x, or x and dy)
//
// Mapping    A block takes a tile of 128 x TILE_N channels and a part of the pixels, 64 of one image a step.
//            Two warpgroups load 64 rows each, turn them into halves in registers and multiply. Four warps
//            copy columns to shared memory (each thread what it alone reads again) and turn them into halves.
// Scales     In every step each row and column gets a power of two of its own, which is undone when sums are
//            handed on to fp32 registers.
//   COPIES   2: high and low halves, three products; 1: high ones alone
//   TILE_N   columns of a tile, 64 or 128
#include "cuda_implicit_parts.cuh"
#include "cuda_implicit_point.cuh"

constexpr int LOADERS = 128, WORKERS = 256, THREADS = LOADERS + WORKERS;

//   channels   computed along this side
//   step_*     elements from one row, column of y to the next in this tensor; step_col: if all are
//              neighbours, as they have to be on the left, 0
struct Side {
    int channels, step_row, step_col;
    long long image, channel;
};

//   cols, plane      of y: a row, an image;     blocks, all: steps of one image, of all
//   tiles, ...       of dw, in all and along its columns
//   parts, length    of the reduction; steps of each
//   *_step           elements of dw from one row or column of the product to the next
struct Shape {
    Side left, right;
    int cols, plane, blocks, all, tiles, right_tiles, parts, length, left_step, right_step;
    long long results;
};

#if SUITED
constexpr int ROWS = 128, DEPTH = 64, GROUPS = DEPTH / 16; // of a step: its terms, in groups of 16
constexpr int HALVES = TILE_N * DEPTH * 2, STAGE = HALVES * COPIES + 1024; // and for each column how to undo
constexpr int STAGES = 3, RAW = TILE_N * DEPTH * 4;                         // a stage; of numbers as they are
constexpr int PASSES = TILE_N * DEPTH / LOADERS / 16; // 16 numbers of one column for each thread
constexpr int SUMS = TILE_N / 2;

// Whether four terms are neighbours in memory too, from a boundary of 16 bytes on.
__device__ __forceinline__ bool fours(const Side &side, const Shape &s) {
    return side.step_col == 0 && s.plane % 4 == 0;
}

__device__ __forceinline__ int offset(const Side &side, const Shape &s, int pixel) {
    return side.step_col ? pixel / s.cols * side.step_row + pixel % s.cols * side.step_col : pixel;
}

// Where a step's terms begin.
struct Step {
    int image, pixel, groups;

    __device__ __forceinline__ Step(const Shape &s, int step) {
        image = step / s.blocks;
        pixel = step % s.blocks * DEPTH;
        groups = (min(DEPTH, s.plane - pixel) + 15) / 16;
    }
};

// ---- columns ---------------------------------------------------------------------------------------------

// The stages in turn.
struct Ring {
    unsigned stages, barriers;
    int slot = 0, phase = 0;

    __device__ __forceinline__ unsigned full() const { return barriers + 8 * slot; }
    __device__ __forceinline__ unsigned emptied() const { return barriers + 8 * (STAGES + slot); }
    __device__ __forceinline__ void next() {
        if (++slot == STAGES)
            slot = 0, phase ^= 1;
    }
};

// A quarter of a warp has a column: lane t terms 4 t and three more of every 16.
__device__ __forceinline__ int column(int pass) { return pass * 32 + threadIdx.x % LOADERS / 4; }
__device__ __forceinline__ unsigned place(unsigned raw, int pass, int group) {
    return raw + ((pass * GROUPS + group) * LOADERS + threadIdx.x % LOADERS) * 16;
}

template <bool FOURS>
__device__ __forceinline__ void copy(unsigned raw, const float *x, const Shape &s, int first, int number) {
    const Side &side = s.right;
    const Step step(s, number);
    x += step.image * side.image;
#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
        const int pixel = step.pixel + group * 16 + threadIdx.x % 4 * 4;
        int at[4] = {pixel};
        if (!FOURS)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                at[i] = offset(side, s, pixel + i);
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const int channel = first + column(pass);
            const int left = channel < side.channels ? s.plane - pixel : 0;
            const float *from = x + channel * side.channel;
            const unsigned to = place(raw, pass, group);
            if (FOURS)
                copy_chunk(to, (const uint4 *)(left > 0 ? from + pixel : x), left > 0);
            else
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    copy_word(to + i * 4, left > i ? from + at[i] : x, left > i);
        }
    }
}

// Terms 4 t to 4 t + 3 of 16 are where wgmma expects 2 t, 2 t + 1, 2 t + 8 and 2 t + 9.
__device__ __forceinline__ void convert_columns(char *stage, const char *raw) {
    const int t = threadIdx.x % 4;
    float *undo = (float *)(stage + HALVES * COPIES);
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
        float4 value[GROUPS];
        float most = 0;
#pragma unroll
        for (int group = 0; group < GROUPS; ++group) {
            value[group] = *(const float4 *)(raw + place(0, pass, group));
            most = largest(most, value[group]);
        }
        const int exponent = common_exponent(most), row = column(pass);
        const float scale = power(exponent);
        if (t == 0)
            undo[row] = power(-exponent);
#pragma unroll
        for (int group = 0; group < GROUPS; ++group) {
            unsigned high[2], low[2];
            split(high[0], low[0], value[group].x * scale, value[group].y * scale);
            split(high[1], low[1], value[group].z * scale, value[group].w * scale);
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                char *to = stage + row * 128 + ((group * 2 + i ^ row % 8) << 4) + t * 4;
                *(unsigned *)to = high[i];
                if (COPIES == 2)
                    *(unsigned *)(to + HALVES) = low[i];
            }
        }
    }
}

template <bool FOURS>
__device__ __forceinline__ void load(Ring ring, char *stages, char *raws, const float *x, const Shape &s,
                                     int first, int begin, int end) {
    const unsigned raw = shared_address(raws);
#pragma unroll
    for (int i = 0; i < STAGES - 1; ++i) {
        if (begin + i < end)
            copy<FOURS>(raw + i * RAW, x, s, first, begin + i);
        commit_copies();
    }
    int now = 0, ahead = STAGES - 1;
    for (int step = begin; step < end; ++step, ring.next()) {
        if (step + STAGES - 1 < end)
            copy<FOURS>(raw + ahead * RAW, x, s, first, step + STAGES - 1);
        commit_copies();
        wait_for_copies<STAGES - 1>();
        wait_until_empty(ring.emptied(), ring.phase);
        convert_columns(stages + ring.slot * STAGE, raws + now * RAW);
        show_copies();
        arrive_each(ring.full());
        now = now + 1 == STAGES ? 0 : now + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
    }
}

// ---- rows and products -----------------------------------------------------------------------------------

struct Rows {
    float4 value[GROUPS][2];
};

template <bool FOURS>
__device__ __forceinline__ void fetch(Rows &rows, const float *y, const Shape &s, int first, int number) {
    const Side &side = s.left;
    const Step step(s, number);
    const int channel = first + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    const int pixel = step.pixel + threadIdx.x % 4 * 4;
    y += step.image * side.image + channel * side.channel;
#pragma unroll
    for (int i = 0; i < 2; ++i, y += 8 * side.channel) {
        const int left = channel + i * 8 < side.channels ? s.plane - pixel : 0;
#pragma unroll
        for (int group = 0; group < GROUPS; ++group) {
            const int at = group * 16;
            float4 &to = rows.value[group][i];
            if (FOURS) {
                to = left > at ? *(const float4 *)(y + pixel + at) : float4{};
            } else {
                to.x = left > at ? y[pixel + at] : 0.0f;
                to.y = left > at + 1 ? y[pixel + at + 1] : 0.0f;
                to.z = left > at + 2 ? y[pixel + at + 2] : 0.0f;
                to.w = left > at + 3 ? y[pixel + at + 3] : 0.0f;
            }
        }
    }
}

__device__ __forceinline__ void convert_rows(Halves &to, float (&undo)[2], const Rows &rows) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        float most = 0;
#pragma unroll
        for (int group = 0; group < GROUPS; ++group)
            most = largest(most, rows.value[group][i]);
        const int exponent = common_exponent(most);
        const float scale = power(exponent);
        undo[i] = power(-exponent);
#pragma unroll
        for (int group = 0; group < GROUPS; ++group) {
            const float4 value = rows.value[group][i];
            split(to.high[group][i], to.low[group][i], value.x * scale, value.y * scale);
            split(to.high[group][i + 2], to.low[group][i + 2], value.z * scale, value.w * scale);
        }
    }
}

__device__ __forceinline__ void add(float (&total)[SUMS], float (&sum)[SUMS], const float (&undo)[2],
                                    const char *stage) {
    const float *back = (const float *)(stage + HALVES * COPIES) + threadIdx.x % 4 * 2;
    wait_for_wgmma<0>();
    settle(sum);
#pragma unroll
    for (int i = 0; i < SUMS; i += 4) {
        const float2 by = *(const float2 *)(back + i * 2);
        total[i] += sum[i] * undo[0] * by.x;
        total[i + 1] += sum[i + 1] * undo[0] * by.y;
        total[i + 2] += sum[i + 2] * undo[1] * by.x;
        total[i + 3] += sum[i + 3] * undo[1] * by.y;
    }
}

__device__ __forceinline__ void store(float *out, const float (&total)[SUMS], const Shape &s, int row,
                                      int col) {
    const int lane = threadIdx.x % 32;
    row += threadIdx.x / 32 * 16 + lane / 4;
    col += lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < SUMS; ++i) {
        const int m = row + i % 4 / 2 * 8, n = col + i / 4 * 8 + i % 2;
        if (m < s.left.channels && n < s.right.channels)
            out[m * (long long)s.left_step + n * (long long)s.right_step] = total[i];
    }
}

template <bool FOURS>
__device__ __forceinline__ void work(Ring ring, const char *stages, const float *y, float *out,
                                     const Shape &s, int row, int col, int begin, int end) {
    Rows rows;
    Halves halves;
    float total[SUMS] = {}, sum[SUMS], undo[2];
    if (begin < end)
        fetch<FOURS>(rows, y, s, row, begin);
    for (int step = begin; step < end; ++step, ring.next()) {
        const int groups = Step(s, step).groups;
        convert_rows(halves, undo, rows);
        if (step + 1 < end)
            fetch<FOURS>(rows, y, s, row, step + 1);
        wait_until_full(ring.full(), ring.phase);
        const unsigned stage = ring.stages + ring.slot * STAGE;
        if (groups == 4)
            multiply<4, TILE_N>(sum, halves, stage);
        else if (groups == 3)
            multiply<3, TILE_N>(sum, halves, stage);
        else if (groups == 2)
            multiply<2, TILE_N>(sum, halves, stage);
        else
            multiply<1, TILE_N>(sum, halves, stage);
        add(total, sum, undo, stages + ring.slot * STAGE);
        arrive(ring.emptied());
    }
    store(out, total, s, row, col);
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    multiply_planes(const float *left, const float *right, float *out, float *partial,
                    const __grid_constant__ Shape s) {
#if SUITED
    extern __shared__ uint4 shared[];
    char *stages = (char *)shared + (1024 - shared_address(shared) % 1024) % 1024;
    char *raws = stages + STAGES * STAGE;
    const Ring ring = {shared_address(stages), shared_address(raws) + STAGES * RAW};
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; ++i) {
            init_barrier(ring.barriers + 8 * i, LOADERS);
            init_barrier(ring.barriers + 8 * (STAGES + i), WORKERS / 32);
        }
        show_barriers();
    }
    __syncthreads();
    const int tile = blockIdx.x % s.tiles, part = blockIdx.x / s.tiles;
    const int row = tile / s.right_tiles * ROWS, col = tile % s.right_tiles * TILE_N;
    const int begin = part * s.length, end = min(begin + s.length, s.all);
    float *const to = s.parts > 1 ? partial + part * s.results : out;
    if (threadIdx.x >= WORKERS) {
        keep_registers<88>();
        if (fours(s.right, s))
            load<true>(ring, stages, raws, right, s, col, begin, end);
        else
            load<false>(ring, stages, raws, right, s, col, begin, end);
    } else {
        take_registers<208>();
        if (fours(s.left, s))
            work<true>(ring, stages, left, to, s, row, col, begin, end);
        else
            work<false>(ring, stages, left, to, s, row, col, begin, end);
    }
#endif
}

extern "C" __global__ void __launch_bounds__(ADDERS)
    add_parts(const float *partial, float *out, long long count, int parts) {
    add_up(partial, out, count, parts);
}
