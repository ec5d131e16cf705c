// The products of Winograd's transformed operands on Hopper, for every point, part and group.
//
//   TILE_M, TILE_N  results of a block: rows (output channels) and columns (tiles of images)
//   INNER           whether terms of the reduction are neighbours in memory; else they are rows
//
// Operands   [point][part][group] matrices of fp16; a number is high + low, and three products of halves are
//            summed. 32 terms of high halves and 32 of low ones alternate, along rows or down the rows, so that
//            one copy brings both. The copy engine clips what is no result.
// Mapping    Blocks stay, and go from tile to tile. One warp has operands copied, as far ahead as there is room,
//            and warpgroups of 64 rows multiply, each in its own time: while one adds up or writes, the other
//            keeps the tensor cores busy. Neighbouring blocks share columns.
// Accuracy   Tensor cores truncate. Every step begins with the small products, and its sum is added to the
//            total by other means.
// Memory     None but the operands.
#include "cuda_winograd_warpgroups.cuh"

constexpr int GROUPS = TILE_M / 64, MULTIPLIERS = 128 * GROUPS;
constexpr bool CROWDED = TILE_M == 128 && TILE_N == 192; // copiers have to hand registers over
constexpr int THREADS = MULTIPLIERS + (CROWDED ? 128 : 32);
constexpr int RESIDENT = TILE_M == 64 ? 2 : 1; // blocks of a multiprocessor
constexpr int STAGE_MEMORY = 205000 / RESIDENT;
constexpr int BLOCK = 64 * 128; // bytes of 64 results with both halves of 32 terms
constexpr int LEFT = TILE_M / 64 * BLOCK, BYTES = LEFT + TILE_N / 64 * BLOCK;
constexpr int STAGES = STAGE_MEMORY / BYTES;
constexpr int SUMS = TILE_N / 2; // of a thread
static_assert(STAGES > 1);

// Results have rows * cols numbers, `pitch` from one row to the next, `matrix` from one product to the next.
struct Shape {
    int rows, cols, steps, row_tiles, col_tiles, items;
    long long pitch, matrix;
};

struct Item {
    int row, col, product;

    __device__ __forceinline__ Item(const Shape &s, int index) {
        const int tile = index / s.row_tiles;
        row = (index - tile * s.row_tiles) * TILE_M;
        product = tile / s.col_tiles;
        col = (tile - product * s.col_tiles) * TILE_N;
    }
};

// A stage has a barrier that waits for its bytes, and one for each warpgroup that is done with it.
struct Stages {
    unsigned memory;
    int slot = 0, round = 0;

    __device__ __forceinline__ unsigned bytes() const { return memory + slot * BYTES; }
    __device__ __forceinline__ unsigned full() const { return memory + STAGES * BYTES + 8 * slot; }
    __device__ __forceinline__ unsigned empty(int group) const { return full() + 8 * STAGES * (1 + group); }
    __device__ __forceinline__ void advance() {
        if (++slot == STAGES) slot = 0, ++round;
    }
};

struct Copier {
    const TensorMap &left, &right;
    const Shape &shape;
    Stages stages;

    __device__ __forceinline__ void run() {
        for (int index = blockIdx.x; index < shape.items; index += gridDim.x) {
            const Item item(shape, index);
            for (int step = 0; step < shape.steps; ++step, stages.advance()) {
                meet();
                if (threadIdx.x == MULTIPLIERS) {
                    for (int group = 0; group < GROUPS && stages.round > 0; ++group)
                        wait_for_bytes(stages.empty(group), (stages.round - 1) & 1);
                    copy(item, step, stages.bytes(), stages.full());
                }
                meet();
            }
        }
    }

    __device__ __forceinline__ void copy(const Item &item, int step, unsigned stage, unsigned barrier) const {
        expect_bytes(barrier, BYTES);
        if constexpr (INNER) {
            copy_box(stage, left, step * 64, item.row, item.product, barrier);
            copy_box(stage + LEFT, right, step * 64, item.col, item.product, barrier);
        } else {
#pragma unroll
            for (int i = 0; i < TILE_M / 64; ++i)
                copy_box(stage + i * BLOCK, left, item.row + 64 * i, step * 64, item.product, barrier);
#pragma unroll
            for (int i = 0; i < TILE_N / 64; ++i)
                copy_box(stage + LEFT + i * BLOCK, right, item.col + 64 * i, step * 64, item.product, barrier);
        }
    }
};

__device__ __forceinline__ void multiply_step(float (&sum)[SUMS], unsigned stage) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    constexpr int NEXT = INNER ? 32 : 2048, LOW = INNER ? 64 : BLOCK / 2; // bytes to 16 more terms, to low halves
    const unsigned long long left = describe(stage + threadIdx.x / 128 * BLOCK, BLOCK, 1024);
    const unsigned long long right = describe(stage + LEFT, BLOCK, 1024);
    begin_wgmma();
#pragma unroll
    for (int i = 0; i < 3; ++i)
#pragma unroll
        for (int k = 0; k < 2; ++k)
            wgmma<TILE_N, false, !INNER>(sum, left + ((i == 0 ? LOW : 0) + k * NEXT) / 16,
                                         right + ((i == 1 ? LOW : 0) + k * NEXT) / 16, i || k);
    commit_wgmma();
    wait_for_wgmma<0>();
    settle(sum);
#endif
}

// Two neighbours, of which there may be one.
__device__ __forceinline__ void write(float *to, float one, float two, int left, bool pairs, bool more) {
    if (left <= 0) return;
    if (pairs) {
        if (more) one += to[0], two += to[1];
        store_pack(to, Pack<float, 2>{one, two});
        return;
    }
    to[0] = more ? to[0] + one : one;
    if (left > 1) to[1] = more ? to[1] + two : two;
}

// A thread holds fours of results: rows row and row + 8, two columns each.
__device__ __forceinline__ void write(float *out, const float (&sum)[SUMS], const Shape &s, const Item &item,
                                      bool more) {
    const int lane = threadIdx.x % 32, row = item.row + threadIdx.x / 32 * 16 + lane / 4;
    const int col = item.col + lane % 4 * 2;
    const bool pairs = s.cols % 2 == 0;
    float *upper = out + item.product * s.matrix + row * s.pitch + col, *lower = upper + 8 * s.pitch;
#pragma unroll
    for (int i = 0; i < SUMS / 4; ++i) {
        const int left = s.cols - col - 8 * i;
        if (row < s.rows) write(upper + 8 * i, sum[4 * i], sum[4 * i + 1], left, pairs, more);
        if (row + 8 < s.rows) write(lower + 8 * i, sum[4 * i + 2], sum[4 * i + 3], left, pairs, more);
    }
}

// more: results are added to what is there.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    multiply(const __grid_constant__ TensorMap left, const __grid_constant__ TensorMap right, float *out,
             int more, const __grid_constant__ Shape shape) {
    extern __shared__ uint4 shared[];
    Stages stages = {(shared_address(shared) + 1023) / 1024 * 1024};
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES * (1 + GROUPS); ++i) init_arrivals(stages.full() + 8 * i);
        show_barriers();
    }
    __syncthreads();
    if (threadIdx.x >= MULTIPLIERS) {
        if (CROWDED) keep_registers<24, false>();
        Copier{left, right, shape, stages}.run();
        return;
    }
    if (CROWDED) keep_registers<240, true>();
    for (int index = blockIdx.x; index < shape.items; index += gridDim.x) {
        float sum[SUMS], total[SUMS];
#pragma unroll
        for (int i = 0; i < SUMS; ++i) total[i] = 0;
        for (int step = 0; step < shape.steps; ++step, stages.advance()) {
            meet();
            meet();
            wait_for_bytes(stages.full(), stages.round & 1);
            multiply_step(sum, stages.bytes());
            if (threadIdx.x % 128 == 0) expect_bytes(stages.empty(threadIdx.x / 128), 0);
#pragma unroll
            for (int i = 0; i < SUMS; ++i) total[i] += sum[i];
        }
        write(out, total, shape, Item(shape, index), more);
    }
}
