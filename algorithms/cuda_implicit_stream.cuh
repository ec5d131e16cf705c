// Products of 16-bit numbers that one warp streams through shared memory while others multiply (Hopper).
//
// Blocks stay and take one tile of TILE_M x TILE_N results after the other. A warp has the copy engine fill a ring
// of stages, of 64 terms or pixels each, and runs ahead into the next tile while results are written. Warpgroups
// multiply 64 rows of their share of the columns.
//
// Neighbouring taps of a row meet the same pixels, shifted. With TAPS > 1 pixels are copied once for so many taps:
// a window of rows, SPARE more than are needed for one tap, into which products reach at a distance. Positions then
// run along rows that are longer than those of y by what the last of these taps adds.
//   ELEMENT  what tensors are stored in
//   BFLOAT   1: that is __nv_bfloat16, 0: __half
//   TILE_M, TILE_N  64 or 128; a multiple of 64
//   SIDES    warpgroups along the columns
//   TAPS     of a window: 1 or more
#pragma once

#define COPIES 1
#include "cuda_implicit_point.cuh"

constexpr int WORKERS = SIDES * TILE_M * 2, THREADS = WORKERS + 128;
constexpr int REGISTERS = WORKERS > 256 ? 152 : 232;        // of a thread that multiplies
constexpr int TERMS = 64;                                   // of a step
constexpr int COLS = TILE_N / SIDES, SUMS = COLS / 2;       // of a warpgroup; of its threads
constexpr int SPARE = TAPS > 1 ? 8 : 0;                     // rows
constexpr int BLOCK = 64 * 128, LEFT = TILE_M / 64 * BLOCK; // 64 rows of 64 numbers; the left operand of a step
constexpr int MEMORY = 231000;                              // of a block, without what aligns it

// The stages in turn. Each has two barriers: it is full, it has been emptied.
template <int STAGES, int BYTES> struct Ring {
    unsigned stages, barriers;
    int slot = 0, phase = 0;

    __device__ __forceinline__ unsigned stage() const { return stages + slot * BYTES; }
    __device__ __forceinline__ unsigned full() const { return barriers + 8 * slot; }
    __device__ __forceinline__ unsigned emptied() const { return barriers + 8 * (STAGES + slot); }
    __device__ __forceinline__ void next() {
        if (++slot == STAGES)
            slot = 0, phase ^= 1;
    }
};

#if SUITED
// By the whole block.
template <int STAGES, int BYTES> __device__ __forceinline__ void make_barriers(const Ring<STAGES, BYTES> &ring) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; ++i) {
            init_barrier(ring.barriers + 8 * i, 1);
            init_barrier(ring.barriers + 8 * (STAGES + i), WORKERS / 32);
        }
        show_barriers();
    }
    __syncthreads();
}

// Which of the warpgroups that multiply this one is: along the rows of results, along the columns.
__device__ __forceinline__ int upper() { return threadIdx.x / 128 % (TILE_M / 64); }
__device__ __forceinline__ int side() { return threadIdx.x / 128 / (TILE_M / 64); }

// 64 terms. Rows in shared memory hold terms side by side, or, where they are outermost, one term each.
template <bool OUTERMOST, bool LEFT_OUTERMOST>
__device__ __forceinline__ void add_products(float (&sum)[SUMS], unsigned long long left, unsigned long long right,
                                             bool fresh) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    constexpr int NEXT[] = {32 / 16, 2048 / 16}; // to 16 more terms
#pragma unroll
    for (int k = 0; k < TERMS / 16; ++k)
        wgmma<COLS, BFLOAT, OUTERMOST, LEFT_OUTERMOST>(sum, left + k * NEXT[LEFT_OUTERMOST],
                                                       right + k * NEXT[OUTERMOST], k || !fresh);
#endif
}

// Steps that have a stage each.
struct OneAStage {
    __device__ __forceinline__ bool first() const { return true; }
    __device__ __forceinline__ bool last() const { return true; }
    __device__ __forceinline__ void next() {}
};

// One step after the other; the products of one are under way while the next is waited for. `steps` tell where in
// a stage the operands of the next step begin, whether that is the first or the last step of the stage.
template <bool OUTERMOST, bool LEFT_OUTERMOST, class Stages, class Steps>
__device__ __forceinline__ void multiply_steps(float (&sum)[SUMS], Stages &ring, int count, Steps steps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    unsigned before = 0;
    for (int step = 0; step < count; ++step) {
        if (steps.first())
            wait_until_full(ring.full(), ring.phase);
        begin_wgmma();
        add_products<OUTERMOST, LEFT_OUTERMOST>(sum, steps.left(ring.stage()), steps.right(ring.stage()), step == 0);
        commit_wgmma();
        if (step > 0) {
            wait_for_wgmma<1>();
            if (steps.first())
                arrive(before);
        }
        before = ring.emptied();
        if (steps.last())
            ring.next();
        steps.next();
    }
    wait_for_wgmma<0>();
    settle(sum);
    arrive(before);
#endif
}

// ---- results ---------------------------------------------------------------------------------------------

__device__ __forceinline__ unsigned pair(float one, float two) {
    const Pack<ELEMENT, 2> both = {from_float<ELEMENT>(one), from_float<ELEMENT>(two)};
    return *(const unsigned *)&both;
}

#ifdef __CUDA_EMULATOR__
inline void meet_warpgroup() {
    static struct {
        unsigned count, phase;
    } meetings[WORKERS / 128];
    auto &meeting = meetings[threadIdx.x / 128];
    const unsigned phase = meeting.phase;
    meeting.phase += ++meeting.count % 128 == 0;
    while (!__all_sync(~0u, meeting.phase != phase)) {
    }
}
inline void store_matrices(unsigned to, const unsigned (&from)[4]) {
    const emulator::Shown rows = emulator::show(to);
    const unsigned lane = emulator::lane();
    for (unsigned i = 0; i < 8; ++i) {
        const unsigned row = rows.by[i / 2 * 8 + lane % 4 * 2 + i % 2];
        const uint16_t bits = from[i / 2] >> 16 * (i % 2);
        memcpy(emulator::dynamic_shared + row + lane / 4 * 2, &bits, 2);
    }
}
inline void store_rows(unsigned to, const unsigned (&from)[4]) {
    const emulator::Shown rows = emulator::show(to);
    const unsigned lane = emulator::lane();
    for (unsigned i = 0; i < 4; ++i)
        memcpy(emulator::dynamic_shared + rows.by[i * 8 + lane / 4] + lane % 4 * 4, &from[i], 4);
}
inline void store_box(const TensorMap &map, unsigned from, int x, int y, int z) {
    const emulator::Map plain = emulator::decode(map);
    for (int row = 0; row < plain.box[1] && y + row < plain.sizes[1] && z < plain.sizes[2]; ++row)
        for (int i = 0; i < 64 && x + i < plain.sizes[0]; ++i) {
            const unsigned at = from + row * 128 + i * 2;
            const auto to = plain.address + (y + row) * plain.strides[0] + z * plain.strides[1] + (x + i) * 2;
            memcpy((void *)to, emulator::dynamic_shared + (at ^ (at >> 3 & 0x70)), 2);
        }
}
template <int PENDING> void wait_for_stores() {}
#else
// By one warpgroup.
__device__ __forceinline__ void meet_warpgroup() {
    ASM("bar.sync %0, 128;" ::"r"(1 + threadIdx.x / 128) : "memory");
}

// Four matrices of 8 x 8 numbers, transposed. A lane names a row of one of them, and has two numbers of each.
__device__ __forceinline__ void store_matrices(unsigned to, const unsigned (&from)[4]) {
    ASM("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(from[0]),
        "r"(from[1]), "r"(from[2]), "r"(from[3]) : "memory");
}

// The same as they are.
__device__ __forceinline__ void store_rows(unsigned to, const unsigned (&from)[4]) {
    ASM("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(from[0]), "r"(from[1]),
        "r"(from[2]), "r"(from[3]) : "memory");
}

// A box of one matrix among several, from shared memory; what lies outside of the matrix is left out.
__device__ __forceinline__ void store_box(const TensorMap &map, unsigned from, int x, int y, int z) {
    ASM("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(&map), "r"(x),
        "r"(y), "r"(z), "r"(from) : "memory");
    ASM("cp.async.bulk.commit_group;" :: : "memory");
}
// Until what all but the last of this thread's stores read may be overwritten.
template <int PENDING> __device__ __forceinline__ void wait_for_stores() {
    ASM("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}
#endif
#endif // SUITED
